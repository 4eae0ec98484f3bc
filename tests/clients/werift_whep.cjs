// Watches over WHEP with werift and prints, as JSON, which RTP packets came.
// Usage: node werift_whep.cjs URL CODEC SECONDS
'use strict';

const werift = require('werift');
const { negotiate, end, Received, receiveFor, run } = require('./common.cjs');

run(async (url, codec, seconds) => {
  const videoCodec = { VP8: werift.useVP8, H264: werift.useH264 }[codec];
  const pc = new werift.RTCPeerConnection({
    codecs: { audio: [werift.useOPUS()], video: [videoCodec()] },
    iceServers: [],
  });
  const received = { audio: new Received(), video: new Received() };
  for (const kind of ['audio', 'video']) pc.addTransceiver(kind, { direction: 'recvonly' });
  pc.onTrack.subscribe((track) => {
    track.onReceiveRtp.subscribe((rtp) => received[track.kind].add(rtp.serialize()));
  });
  await pc.setLocalDescription(await pc.createOffer());
  const { answer, session } = await negotiate(url, pc.localDescription.sdp);
  await pc.setRemoteDescription({ type: 'answer', sdp: answer });
  const report = await receiveFor(Number(seconds), received);
  await end(session);
  await pc.close();
  console.log(JSON.stringify(report));
});
