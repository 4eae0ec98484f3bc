// Publishes VP8 and Opus over WHIP with libwebrtc (@roamhq/wrtc) until SIGTERM.
// Usage: node wrtc_whip.cjs URL
'use strict';

const wrtc = require('@roamhq/wrtc');
const { negotiate, end, terminated, run } = require('./common.cjs');

const WIDTH = 640;
const HEIGHT = 360;
const RATE = 48000;

/** A white bar that crosses a grey picture once in two seconds. */
function showPicture(source) {
  const data = new Uint8ClampedArray((WIDTH * HEIGHT * 3) / 2);
  let number = 0;
  return setInterval(() => {
    data.fill(80, 0, WIDTH * HEIGHT);
    data.fill(128, WIDTH * HEIGHT);
    const left = (number * 10) % (WIDTH - 40);
    for (let y = 0; y < HEIGHT; y++) data.fill(235, y * WIDTH + left, y * WIDTH + left + 40);
    source.onFrame({ width: WIDTH, height: HEIGHT, data });
    number += 1;
  }, 33);
}

/** 440 Hz at half of full scale, 10 ms at a time. */
function playTone(source) {
  const samples = new Int16Array(RATE / 100);
  const start = performance.now();
  let given = 0;
  return setInterval(() => {
    while (given * 10 < performance.now() - start) {
      for (let i = 0; i < samples.length; i++) {
        const t = (given * samples.length + i) / RATE;
        samples[i] = 16000 * Math.sin(2 * Math.PI * 440 * t);
      }
      source.onData({
        samples,
        sampleRate: RATE,
        bitsPerSample: 16,
        channelCount: 1,
        numberOfFrames: samples.length,
      });
      given += 1;
    }
  }, 10);
}

run(async (url) => {
  const pc = new wrtc.RTCPeerConnection();
  pc.onconnectionstatechange = () => console.error('connection', pc.connectionState);
  const video = new wrtc.nonstandard.RTCVideoSource();
  const audio = new wrtc.nonstandard.RTCAudioSource();
  pc.addTransceiver(audio.createTrack(), { direction: 'sendonly' });
  pc.addTransceiver(video.createTrack(), { direction: 'sendonly' });
  const timers = [showPicture(video), playTone(audio)];
  await pc.setLocalDescription(await pc.createOffer());
  const { answer, session } = await negotiate(url, pc.localDescription.sdp);
  await pc.setRemoteDescription({ type: 'answer', sdp: answer });
  await terminated();
  timers.forEach(clearInterval);
  await end(session);
  pc.close();
});
