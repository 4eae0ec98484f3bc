// The viewer's page: a WHEP connection, a player, and what it does.

import { formatBitrate, loss_percent, rate_bps, receivingStats, showRows } from './stats.js';
import { readDelay } from './testcard.js';
import { Connection } from './webrtc.js';

const PERIOD_MS = 1000;
// Without a packet for this long, the publisher is taken to be gone.
const SILENCE_MS = 3000;
// RFC 5905 6: NTP counts from 1900.
const NTP_EPOCH_MS = 2_208_988_800_000;
const byId = (id) => document.getElementById(id);
const name = decodeURIComponent(location.pathname.split('/').pop());
const query = new URLSearchParams(location.search);
const video = byId('video');
const scratch = document.createElement('canvas');
const connection = new Connection({
  role: 'watch',
  url: `/whep/${encodeURIComponent(name)}`,
  prepare,
});
let packetAt_ms = 0;
let begun = false;
let delay_ms = null;

document.title = `${name} · Fanmill`;
byId('stream-name').textContent = name;

function prepare(pc) {
  const stream = new MediaStream();
  pc.addTransceiver('video', { direction: 'recvonly' });
  pc.addTransceiver('audio', { direction: 'recvonly' });
  pc.addEventListener('track', ({ track }) => {
    stream.addTrack(track);
    // The last picture of the session before stays until the new one has something to show.
    if (video.srcObject !== stream) video.srcObject = stream;
    video.play().catch(() => {});
  });
  begun = false;
  packetAt_ms = performance.now();
}

const flowing = () =>
  connection.state === 'connected' && begun && performance.now() - packetAt_ms < SILENCE_MS;

function pageState() {
  if (connection.state !== 'connected') return connection.state;
  return flowing() ? 'playing' : 'waiting';
}

function pageText() {
  if (connection.state !== 'connected') return connection.text;
  if (flowing()) return '';
  return begun
    ? 'The publisher is gone; the picture returns when they do.'
    : 'Waiting for the publisher: this stream has not begun.';
}

const BADGES = { playing: 'live', idle: 'off', failed: 'off' };

function show() {
  const state = pageState();
  const text = pageText();
  if (byId('status').textContent !== text) byId('status').textContent = text;
  byId('status').classList.toggle('problem', ['failed', 'retrying'].includes(state));
  byId('badge').textContent = BADGES[state] ?? state;
  byId('badge').classList.toggle('live', state === 'playing');
  byId('start').hidden = !['idle', 'failed'].includes(state);
  byId('mute').textContent = video.muted ? 'Unmute' : 'Mute';
  byId('mute').classList.toggle('primary', video.muted);
  byId('fullscreen').textContent = document.fullscreenElement ? 'Leave full screen' : 'Full screen';
}

async function stats() {
  if (!connection.pc) return null;
  return { ...(await receivingStats(connection.pc)), currentTime: video.currentTime };
}

// The sender's capture time in our clock, where the browser and the stream give one; else the
// test card's own clock.
function measureDelay() {
  const receiver = connection.pc?.getReceivers().find((r) => r.track.kind === 'video');
  const newest = receiver?.getSynchronizationSources()[0];
  if (newest?.captureTimestamp && newest.senderCaptureTimeOffset !== undefined) {
    const captured_ntp_ms = newest.captureTimestamp + newest.senderCaptureTimeOffset;
    const captured_ms = captured_ntp_ms - NTP_EPOCH_MS;
    const age_ms = Date.now() - captured_ms;
    if (age_ms >= 0 && age_ms < 10_000) return age_ms;
  }
  return readDelay(video, scratch);
}

let before = null;
async function tick() {
  const now = connection.state === 'connected' ? await stats().catch(() => null) : null;
  const news = now && now.packetsReceived !== (before?.packetsReceived ?? 0);
  if (news) packetAt_ms = performance.now();
  if (now && now.framesDecoded > 0) begun = true;
  show();
  if (now && !byId('stats').hidden) {
    delay_ms = flowing() ? measureDelay() : null;
    showRows(byId('stats'), [
      ['Resolution', now.frameWidth ? `${now.frameWidth}×${now.frameHeight}` : null],
      ['Frames per second', now.framesPerSecond.toFixed(0)],
      ['Bitrate', formatBitrate(rate_bps(before, now, 'bytesReceived'))],
      ['Codec', [now.codec, now.audioCodec].filter(Boolean).join(' + ')],
      ['Loss', `${loss_percent(before, now, 'packetsReceived').toFixed(1)} %`],
      ['Jitter', `${(now.jitter * 1000).toFixed(0)} ms`],
      ['Delay, end to end', delay_ms === null ? null : `${delay_ms.toFixed(0)} ms`],
      ['Frames dropped', now.framesDropped],
      ['Freezes', now.freezeCount],
    ]);
  }
  before = now;
  setTimeout(tick, PERIOD_MS);
}

function showStatistics(on) {
  byId('stats').hidden = !on;
  byId('stats-toggle').setAttribute('aria-pressed', String(on));
}

connection.addEventListener('state', show);
video.addEventListener('volumechange', show);
document.addEventListener('fullscreenchange', show);
byId('start').addEventListener('click', () => connection.start());
byId('mute').addEventListener('click', () => (video.muted = !video.muted));
byId('stats-toggle').addEventListener('click', () => showStatistics(byId('stats').hidden));
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
  delay_ms: () => (flowing() ? measureDelay() : null),
  stats,
  start: () => connection.start(),
  stop: () => connection.stop(),
};

showStatistics(query.get('stats') === '1');
show();
tick();
if (query.get('autostart') !== '0') connection.start();
