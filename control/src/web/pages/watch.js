// The viewer's page: a WHEP connection, a player, and what it does.

import { listAddresses } from './addresses.js';
import { capturedDelay_ms, playedDelay_ms } from './delay.js';
import { Events } from './events.js';
import { Quality } from './quality.js';
import { formatBitrate, loss_percent, rate_bps, receivingStats, showRows } from './stats.js';
import { readDelay } from './testcard.js';
import { askForToken, withToken } from './token.js';
import { Connection, EXTENSIONS, offerExtensions } from './webrtc.js';

const PERIOD_MS = 1000;
// Without a packet for this long, the publisher is taken to be gone.
const SILENCE_MS = 3000;
// Sound for this long and no picture: there is none.
const SOUND_ALONE_MS = 3000;
// Packets of a picture for this long, and no picture: there will be none.
const UNDECODED_MS = 6000;
const byId = (id) => document.getElementById(id);
const name = decodeURIComponent(location.pathname.split('/').pop());
const query = new URLSearchParams(location.search);
const video = byId('video');
// Sound has an element of its own: one with both would hold it back until there is a picture.
const sound = byId('sound');
const scratch = document.createElement('canvas');
const connection = new Connection({
  role: 'watch',
  url: `/whep/${encodeURIComponent(name)}`,
  prepare,
});
const quality = new Quality(byId('quality'), () => connection.session);
let events = null;
let packetAt_ms = 0;
let soundAt_ms = null;
let undecodedAt_ms = null;
let begun = false;

document.title = `${name} · Fanmill`;
byId('stream-name').textContent = name;
listAddresses(byId('address-list'), name);
byId('code').addEventListener('load', () => (byId('code-figure').hidden = false));

function prepare(pc) {
  const { captureTime, dependencies } = EXTENSIONS;
  const receive = (kind, extensions) =>
    offerExtensions(pc.addTransceiver(kind, { direction: 'recvonly' }), extensions);
  receive('video', [captureTime, dependencies]);
  receive('audio', [captureTime]);
  pc.addEventListener('track', ({ track }) => {
    const element = track.kind === 'video' ? video : sound;
    element.srcObject = new MediaStream([track]);
    element.play().catch(() => {});
  });
  begun = false;
  soundAt_ms = null;
  undecodedAt_ms = null;
  packetAt_ms = performance.now();
}

// Whether somebody publishes, as far as the server told; null if it did not.
const live = () => (connection.state === 'connected' ? (events?.live ?? null) : null);

// The publisher is there and shows one picture, as it was told to.
const paused = () => live() === true && begun && events.paused;

const flowing = () =>
  connection.state === 'connected' &&
  live() !== false &&
  !paused() &&
  (begun || soundAlone()) &&
  performance.now() - packetAt_ms < SILENCE_MS;

const soundAlone = () =>
  !begun && soundAt_ms !== null && performance.now() - soundAt_ms > SOUND_ALONE_MS;

function follow() {
  const { session, state } = connection;
  if (state !== 'connected') return;
  if (events?.session === session) events.again();
  else {
    events = new Events(session, { told, ended: () => ended(session) });
    quality.again();
  }
}

function ended(session) {
  session.lose(new Error('session-ended'));
}

function told() {
  // What comes now is the rest of what was sent before.
  if (live() === false) packetAt_ms = -SILENCE_MS;
  quality.show(events.layers);
  show();
}

function pageState() {
  if (connection.state !== 'connected') return connection.state;
  if (paused()) return 'paused';
  return flowing() ? 'playing' : 'waiting';
}

function pageText() {
  if (connection.state !== 'connected') return connection.text;
  if (paused()) return 'Paused by whoever shows this.';
  if (flowing()) {
    if (!soundAlone()) return '';
    return video.muted
      ? 'This stream has no picture; press Unmute to hear it.'
      : 'This stream has no picture, only sound.';
  }
  if (undecodedAt_ms !== null && performance.now() - undecodedAt_ms > UNDECODED_MS) {
    return 'This browser cannot decode the picture that comes; try another one.';
  }
  if (live()) return 'The publisher is there; waiting for picture and sound …';
  return begun || soundAt_ms !== null
    ? 'The publisher is gone; the picture returns when they do.'
    : 'Waiting for the publisher: this stream has not begun.';
}

function viewersText() {
  const viewers = connection.state === 'connected' ? (events?.viewers ?? null) : null;
  if (viewers === null) return '';
  return viewers === 1 ? '1 viewer' : `${viewers} viewers`;
}

const BADGES = { playing: 'live', idle: 'off', failed: 'off' };

function show() {
  const state = pageState();
  const text = pageText();
  if (byId('status').textContent !== text) byId('status').textContent = text;
  byId('status').classList.toggle('problem', ['failed', 'retrying'].includes(state));
  byId('viewers').textContent = viewersText();
  byId('badge').textContent = BADGES[state] ?? state;
  byId('badge').classList.toggle('live', state === 'playing');
  byId('start').hidden = connection.needsToken || !['idle', 'failed'].includes(state);
  byId('mute').textContent = video.muted ? 'Unmute' : 'Mute';
  byId('mute').classList.toggle('primary', video.muted);
  byId('fullscreen').textContent = document.fullscreenElement ? 'Leave full screen' : 'Full screen';
}

let before = null;
const news = (now, field) => now[field] !== (before?.[field] ?? 0);

async function stats() {
  if (!connection.pc) return null;
  return { ...(await receivingStats(connection.pc)), currentTime: video.currentTime };
}

function measureDelay(stats) {
  return capturedDelay_ms(connection.pc) ?? playedDelay_ms(stats) ?? readDelay(video, scratch);
}

function noteWhatComes(now) {
  begun ||= now.framesDecoded > 0;
  if (begun || !news(now, 'videoPacketsReceived')) undecodedAt_ms = null;
  else undecodedAt_ms ??= performance.now();
  if (now.videoPacketsReceived > 0) soundAt_ms = null;
  else if (now.audioPacketsReceived > 0) soundAt_ms ??= performance.now();
}

async function tick() {
  const now = connection.state === 'connected' ? await stats().catch(() => null) : null;
  if (now && news(now, 'packetsReceived')) packetAt_ms = performance.now();
  if (now) noteWhatComes(now);
  show();
  if (now && !byId('stats').hidden) {
    const delay_ms = flowing() ? measureDelay(now) : null;
    showRows(byId('stats'), [
      ['Picture', soundAlone() ? 'none' : null],
      ['Resolution', now.frameWidth ? `${now.frameWidth}×${now.frameHeight}` : null],
      ['Frames per second', now.framesPerSecond.toFixed(0)],
      ['Bitrate', formatBitrate(rate_bps(before, now, 'bytesReceived'))],
      ['Codec', [now.codec, now.audioCodec].filter(Boolean).join(' + ')],
      ['Loss', `${loss_percent(before, now, 'packetsReceived').toFixed(1)} %`],
      ['Jitter', `${(now.jitter * 1000).toFixed(0)} ms`],
      ['Delay, glass to glass', delay_ms === null ? 'unknown' : `${delay_ms.toFixed(0)} ms`],
      ['Frames dropped', now.framesDropped],
      ['Freezes', now.freezeCount],
    ]);
  }
  before = now;
  setTimeout(tick, PERIOD_MS);
}

// The address of this page for a camera: whoever looks at it has the token, too.
function showCode() {
  const code = byId('code');
  const secure = location.protocol === 'https:' ? '?scheme=https' : '';
  const address = withToken(`/${encodeURIComponent(name)}/qr.svg${secure}`);
  if (byId('addresses').hidden || code.getAttribute('src') === address) return;
  code.alt = `QR code of the address of ${name}`;
  code.src = address;
}

function withNewToken() {
  listAddresses(byId('address-list'), name);
  showCode();
  connection.start();
}

function showStatistics(on) {
  byId('stats').hidden = !on;
  byId('stats-toggle').setAttribute('aria-pressed', String(on));
}

connection.addEventListener('state', () => {
  follow();
  show();
  if (connection.needsToken) askForToken(byId('token'), withNewToken);
});
video.addEventListener('volumechange', () => {
  sound.muted = video.muted;
  sound.volume = video.volume;
  if (!sound.muted) sound.play().catch(() => {});
  show();
});
document.addEventListener('fullscreenchange', show);
byId('start').addEventListener('click', () => connection.start());
byId('mute').addEventListener('click', () => (video.muted = !video.muted));
byId('stats-toggle').addEventListener('click', () => showStatistics(byId('stats').hidden));
byId('addresses-toggle').addEventListener('click', () => {
  const hidden = byId('addresses').toggleAttribute('hidden');
  byId('addresses-toggle').setAttribute('aria-pressed', String(!hidden));
  showCode();
});
byId('fullscreen').addEventListener('click', () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (byId('player').requestFullscreen) byId('player').requestFullscreen();
  else video.webkitEnterFullscreen?.();
});
addEventListener('pagehide', () => connection.stop());
// A page that comes back out of the browser's cache had its session ended by `pagehide`.
addEventListener('pageshow', (event) => event.persisted && connection.start());

window.fanmill = {
  get pc() {
    return connection.pc;
  },
  get state() {
    return pageState();
  },
  get text() {
    return pageText();
  },
  get session() {
    return connection.session;
  },
  get viewers() {
    return events?.viewers ?? null;
  },
  delay_ms: () => (flowing() ? measureDelay(before) : null),
  stats,
  start: () => connection.start(),
  stop: () => connection.stop(),
};

showStatistics(query.get('stats') === '1');
show();
tick();
if (query.get('autostart') !== '0') connection.start();
