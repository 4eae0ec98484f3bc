// Publishes RTP over WHIP with werift until SIGTERM.
// Usage: node werift_whip.cjs URL CODEC
'use strict';

const werift = require('werift');
const { negotiate, end, terminated, rtpSource, run } = require('./common.cjs');

run(async (url, codec) => {
  const videoCodec = { VP8: werift.useVP8, H264: werift.useH264 }[codec];
  const pc = new werift.RTCPeerConnection({
    codecs: { audio: [werift.useOPUS()], video: [videoCodec()] },
    iceServers: [],
  });
  const audio = new werift.MediaStreamTrack({ kind: 'audio' });
  const video = new werift.MediaStreamTrack({ kind: 'video' });
  pc.addTransceiver(audio, { direction: 'sendonly' });
  pc.addTransceiver(video, { direction: 'sendonly' });
  pc.connectionStateChange.subscribe((state) => console.error('connection', state));
  await pc.setLocalDescription(await pc.createOffer());
  const { answer, session } = await negotiate(url, pc.localDescription.sdp);
  await pc.setRemoteDescription({ type: 'answer', sdp: answer });
  // werift sets the negotiated SSRC and payload type itself.
  await rtpSource(
    codec,
    { payloadType: 96, ssrc: 1 },
    { payloadType: 97, ssrc: 2 },
    (packet) => video.writeRtp(packet),
    (packet) => audio.writeRtp(packet),
  );
  await terminated();
  await end(session);
  await pc.close();
});
