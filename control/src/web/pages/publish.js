// The publisher's page: a source, a WHIP connection, and what it does.

import { listEncoders } from './addresses.js';
import { explain, insecureContext } from './messages.js';
import { formatBitrate, loss_percent, rate_bps, sendingStats, showRows } from './stats.js';
import { TestCard } from './testcard.js';
import { askForToken, pageWithToken } from './token.js';
import { Connection, EXTENSIONS, offerExtensions } from './webrtc.js';

const STATS_PERIOD_MS = 1000;
const byId = (id) => document.getElementById(id);
const name = decodeURIComponent(location.pathname.split('/').pop());
const query = new URLSearchParams(location.search);
const backup = query.get('role') === 'backup';
const connection = new Connection({
  role: 'publish',
  url: `/whip/${encodeURIComponent(name)}${backup ? '?role=backup' : ''}`,
  prepare,
});
let source = null;
let problem = '';
let starting = false;

document.title = `${name} · Publish · Fanmill`;
byId('stream-name').textContent = backup ? `${name} (backup)` : name;
showLinks();

function showLinks() {
  listEncoders(byId('encoders'), name);
  byId('watch-link').href = pageWithToken(`/watch/${encodeURIComponent(name)}`);
}

// The query sets the choices, whether or not the menus list the value.
function choose(id, value, label = value) {
  const menu = byId(id);
  const listed = [...menu.options].some((option) => option.value === value);
  if (!listed) menu.add(new Option(label, value));
  menu.value = value;
}
const within = (text, low, high) => Math.min(high, Math.max(low, Math.round(Number(text)) || low));
if (query.has('source')) choose('source', query.get('source'));
if (query.has('codec')) choose('codec', query.get('codec'));
if (query.has('fps')) choose('fps', String(within(query.get('fps'), 1, 120)));
if (query.has('width') || query.has('height')) {
  const width = within(query.get('width') ?? 1280, 16, 7680);
  const height = within(query.get('height') ?? (width * 9) / 16, 16, 4320);
  choose('size', `${width}x${height}`, `${width} × ${height}`);
}
if (query.has('bitrate')) {
  const kbps = within(query.get('bitrate'), 30, 100000);
  choose('bitrate', String(kbps), formatBitrate(kbps * 1000));
}

function choices() {
  const [width, height] = byId('size').value.split('x').map(Number);
  return {
    source: byId('source').value,
    codec: byId('codec').value,
    width,
    height,
    fps: Number(byId('fps').value),
    bitrate_bps: Number(byId('bitrate').value) * 1000,
  };
}

async function openSource({ source: kind, width, height, fps }) {
  if (kind === 'testcard') return new TestCard(width, height, fps);
  if (!navigator.mediaDevices) throw insecureContext();
  const video = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: fps } };
  const stream =
    kind === 'screen'
      ? await navigator.mediaDevices.getDisplayMedia({ video, audio: true })
      : await navigator.mediaDevices.getUserMedia({ video, audio: true });
  for (const track of stream.getVideoTracks()) {
    if (kind === 'screen') track.contentHint = 'detail';
    track.addEventListener('ended', () => {
      problem =
        kind === 'screen' ? 'The screen is no longer shared.' : 'The camera was disconnected.';
      stop();
    });
  }
  return { stream, stop: () => stream.getTracks().forEach((track) => track.stop()) };
}

// A test card that shrinks when the encoder is busy would test something else than it says.
function keepResolution(sender) {
  const parameters = sender.getParameters();
  parameters.degradationPreference = 'maintain-resolution';
  sender.setParameters(parameters).catch((error) => console.info('may shrink:', error.message));
}

// Runs for every new session, on a connection without transceivers.
function prepare(pc) {
  const { source: kind, codec, fps, bitrate_bps } = choices();
  for (const track of source.stream.getTracks()) {
    const video = track.kind === 'video';
    const transceiver = pc.addTransceiver(track, {
      direction: 'sendonly',
      streams: [source.stream],
      sendEncodings: video ? [{ maxBitrate: bitrate_bps, maxFramerate: fps }] : [{}],
    });
    // So that viewers can tell how old what they see is.
    offerExtensions(transceiver, [EXTENSIONS.captureTime]);
    if (video && kind === 'testcard') keepResolution(transceiver.sender);
    if (!video || codec === 'auto') continue;
    const known = RTCRtpSender.getCapabilities('video').codecs;
    const chosen = known.filter((c) => c.mimeType.toLowerCase() === `video/${codec.toLowerCase()}`);
    if (chosen.length === 0) {
      throw new Error(`This browser cannot encode ${codec}; choose another codec`);
    }
    const helpers = known.filter((c) => /\/(rtx|red|ulpfec)$/i.test(c.mimeType));
    transceiver.setCodecPreferences([...chosen, ...helpers]);
  }
}

async function start() {
  if (source || starting) return;
  problem = '';
  starting = true;
  show();
  try {
    source = await openSource(choices());
    byId('preview').srcObject = source.stream;
    connection.start();
  } catch (error) {
    problem = explain(error, 'publish');
  }
  starting = false;
  show();
}

function stop() {
  connection.stop();
  source?.stop();
  source = null;
  byId('preview').srcObject = null;
  show();
}

const BADGES = { connected: 'live', idle: 'off', failed: 'off' };

function show() {
  const { state, text } = connection;
  const running = source !== null;
  byId('status').textContent = problem || (starting ? 'Opening the source …' : text);
  const troubled = Boolean(problem) || ['failed', 'retrying'].includes(state);
  byId('status').classList.toggle('problem', troubled);
  byId('badge').textContent = BADGES[state] ?? state;
  byId('badge').classList.toggle('live', state === 'connected');
  byId('choices').disabled = running || starting;
  byId('toggle').textContent = running ? 'Stop' : 'Start';
  byId('toggle').classList.toggle('primary', !running);
  byId('toggle').disabled = starting;
}

connection.addEventListener('state', () => {
  // Nothing can be changed while the source is open, so give it back with the reason.
  if (connection.state === 'failed') {
    problem = connection.text;
    source?.stop();
    source = null;
    byId('preview').srcObject = null;
  }
  show();
  if (connection.needsToken) askForToken(byId('token'), withNewToken);
});

byId('controls').addEventListener('submit', (event) => {
  event.preventDefault();
  problem = '';
  if (source) stop();
  else start();
});

function withNewToken() {
  showLinks();
  start();
}

addEventListener('pagehide', stop);

async function stats() {
  return connection.pc ? sendingStats(connection.pc) : null;
}

let before = null;
async function showStats() {
  const now = connection.state === 'connected' ? await stats().catch(() => null) : null;
  if (now) {
    const rtt_s = now.roundTripTime;
    showRows(byId('stats'), [
      ['Resolution', now.frameWidth ? `${now.frameWidth}×${now.frameHeight}` : null],
      ['Frames per second', now.framesPerSecond.toFixed(0)],
      ['Bitrate', formatBitrate(rate_bps(before, now, 'bytesSent'))],
      ['Codec', [now.codec, now.audioCodec].filter(Boolean).join(' + ')],
      ['Round trip', rtt_s === null ? null : `${(rtt_s * 1000).toFixed(0)} ms`],
      ['Loss', `${loss_percent(before, now, 'packetsSent').toFixed(1)} %`],
      ['Packets sent', now.packetsSent.toLocaleString()],
      ['Keyframe requests', now.pliCount + now.firCount],
      ['Limited by', now.qualityLimitationReason === 'none' ? null : now.qualityLimitationReason],
    ]);
  } else {
    showRows(byId('stats'), [['Nothing is sent', '–']]);
  }
  before = now;
  setTimeout(showStats, STATS_PERIOD_MS);
}

window.fanmill = {
  get pc() {
    return connection.pc;
  },
  get state() {
    return problem ? 'failed' : connection.state;
  },
  get text() {
    return problem || connection.text;
  },
  get source() {
    return source;
  },
  get session() {
    return connection.session;
  },
  stats,
  start,
  stop,
};

show();
showStats();
if (query.get('autostart') === '1') start();
