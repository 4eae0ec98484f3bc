// Watches over WHEP with libwebrtc (@roamhq/wrtc) and prints, as JSON, what it decoded.
// Usage: node wrtc_whep.cjs URL SECONDS
'use strict';

const wrtc = require('@roamhq/wrtc');
const { negotiate, end, sleep, run } = require('./common.cjs');

/** How many of every 61st luma value differ by more than the codec's noise. */
function changed(before, now) {
  let count = 0;
  for (let i = 0; i < now.length; i += 61) count += Math.abs(now[i] - before[i]) > 24;
  return count;
}

run(async (url, seconds) => {
  const pc = new wrtc.RTCPeerConnection();
  const audio = pc.addTransceiver('audio', { direction: 'recvonly' }).receiver.track;
  const video = pc.addTransceiver('video', { direction: 'recvonly' }).receiver.track;
  const seen = {
    video_frames: 0,
    changed_frames: 0,
    width: 0,
    height: 0,
    audio_frames: 0,
    audio_rms: 0,
  };
  let before = null;
  new wrtc.nonstandard.RTCVideoSink(video).onframe = ({ frame }) => {
    const luma = Buffer.from(frame.data.slice(0, frame.width * frame.height));
    seen.video_frames += 1;
    if (before?.length === luma.length) seen.changed_frames += changed(before, luma) > 10;
    Object.assign(seen, { width: frame.width, height: frame.height });
    before = luma;
  };
  let squares = 0;
  let samples = 0;
  new wrtc.nonstandard.RTCAudioSink(audio).ondata = (data) => {
    seen.audio_frames += 1;
    for (const sample of data.samples) squares += sample * sample;
    samples += data.samples.length;
    seen.audio_rms = Math.sqrt(squares / samples);
  };
  await pc.setLocalDescription(await pc.createOffer());
  const { answer, session } = await negotiate(url, pc.localDescription.sdp);
  await pc.setRemoteDescription({ type: 'answer', sdp: answer });
  const start = Date.now();
  while (seen.video_frames === 0 && Date.now() - start < 30_000) await sleep(50);
  await sleep(Number(seconds) * 1000);
  const report = JSON.stringify(seen);
  await end(session);
  pc.close();
  console.log(report);
});
