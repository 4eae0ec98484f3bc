// What the clients of this folder share: the WHIP and WHEP requests, a source of RTP packets for
// clients that cannot encode, and the bookkeeping of received ones.
'use strict';

const { spawn } = require('node:child_process');
const dgram = require('node:dgram');

/** POSTs an offer; resolves to the answer and the address of the session. */
async function negotiate(url, offer) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp' },
    body: offer,
    signal: AbortSignal.timeout(20_000),
  });
  const text = await response.text();
  if (response.status !== 201) throw new Error(`HTTP ${response.status}: ${text}`);
  return { answer: text, session: new URL(response.headers.get('Location'), url).href };
}

/** Ends a session. */
async function end(session) {
  await fetch(session, { method: 'DELETE', signal: AbortSignal.timeout(10_000) });
}

/** Resolves when the test has seen enough of a publisher. */
function terminated() {
  return new Promise((resolve) => process.once('SIGTERM', resolve));
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const ENCODERS = {
  VP8: ['-c:v', 'libvpx', '-deadline', 'realtime', '-cpu-used', '8', '-error-resilient', '1'],
  H264: [
    ...['-c:v', 'libx264', '-preset', 'ultrafast', '-tune', 'zerolatency'],
    ...['-profile:v', 'baseline', '-pix_fmt', 'yuv420p', '-x264-params', 'repeat-headers=1'],
  ],
};

/**
 * Encodes a moving picture and a tone with the machine's ffmpeg, a keyframe every second, and
 * calls `onVideo` and `onAudio` with each RTP packet.
 */
async function rtpSource(codec, video, audio, onVideo, onAudio) {
  const port = async (onPacket) => {
    const socket = dgram.createSocket({ type: 'udp4', recvBufferSize: 1 << 20 });
    await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve));
    socket.on('message', onPacket);
    return socket.address().port;
  };
  const to = async (onPacket, { payloadType, ssrc }) => [
    ...['-payload_type', String(payloadType), '-ssrc', String(ssrc), '-f', 'rtp'],
    `rtp://127.0.0.1:${await port(onPacket)}?pkt_size=1180`,
  ];
  const child = spawn(
    'ffmpeg',
    [
      ...['-hide_banner', '-loglevel', 'error', '-nostdin', '-re'],
      ...['-f', 'lavfi', '-i', 'testsrc2=size=640x360:rate=30'],
      ...['-re', '-f', 'lavfi', '-i', 'sine=frequency=440:sample_rate=48000'],
      ...['-map', '0:v', ...ENCODERS[codec], '-g', '30', '-b:v', '800k'],
      ...(await to(onVideo, video)),
      ...['-map', '1:a', '-c:a', 'libopus', '-ac', '2', '-b:a', '64k'],
      ...(await to(onAudio, audio)),
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  process.once('exit', () => child.kill('SIGKILL'));
}

/** Counts what arrives of one RTP stream. Feed it whole RTP packets. */
class Received {
  constructor() {
    this.packets = 0;
    this.bytes = 0;
    this.frames = 0;
    this.missing = 0;
    this.ssrcs = new Set();
    this.payloadTypes = new Set();
    this.numbers = new Set();
    this.highest = null;
    this.firstAt = null;
  }

  add(packet) {
    // RFC 5761 4: packet types of RTCP lie where RTP has a marker and payload types 64 to 95.
    if (packet.length < 12 || (packet[1] >= 192 && packet[1] <= 223)) return;
    this.firstAt ??= Date.now();
    this.packets += 1;
    this.bytes += packet.length;
    this.payloadTypes.add(packet[1] & 0x7f);
    this.frames += packet[1] >> 7;
    this.ssrcs.add(packet.readUInt32BE(8));
    const number = packet.readUInt16BE(2);
    // Unwrapped to the nearest of the highest number so far.
    let extended = number;
    if (this.highest !== null) {
      extended = this.highest + (((number - this.highest) << 16) >> 16);
    }
    this.highest = Math.max(this.highest ?? extended, extended);
    this.numbers.add(extended);
  }

  report() {
    const first = Math.min(...this.numbers);
    return {
      packets: this.packets,
      bytes: this.bytes,
      frames: this.frames,
      missing: this.packets === 0 ? 0 : this.highest - first + 1 - this.numbers.size,
      ssrcs: this.ssrcs.size,
      payload_types: [...this.payloadTypes],
    };
  }
}

/** Waits for `seconds` of packets of both kinds, at most 30 seconds for the first. */
async function receiveFor(seconds, received) {
  const start = Date.now();
  const all = Object.values(received);
  while (all.some((r) => r.firstAt === null)) {
    if (Date.now() - start > 30_000) break;
    await sleep(50);
  }
  await sleep(seconds * 1000);
  return Object.fromEntries(Object.entries(received).map(([kind, r]) => [kind, r.report()]));
}

function run(main) {
  main(...process.argv.slice(2)).then(
    () => process.exit(0),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}

module.exports = { negotiate, end, terminated, sleep, rtpSource, Received, receiveFor, run };
