// Publishes RTP over WHIP with libdatachannel (node-datachannel) until SIGTERM.
// Usage: node libdatachannel_whip.cjs URL CODEC
'use strict';

const { once, EventEmitter } = require('node:events');
const rtc = require('node-datachannel');
const { negotiate, end, terminated, rtpSource, run } = require('./common.cjs');

run(async (url, codec) => {
  const pc = new rtc.PeerConnection('publisher', { iceServers: [] });
  const gathered = new EventEmitter();
  pc.onGatheringStateChange((state) => state === 'complete' && gathered.emit('complete'));
  pc.onStateChange((state) => console.error('connection', state));
  const audio = new rtc.Audio('0', 'SendOnly');
  audio.addOpusCodec(111);
  audio.addSSRC(22222222, 'client', 'stream', 'audio');
  const video = new rtc.Video('1', 'SendOnly');
  if (codec === 'VP8') video.addVP8Codec(96);
  else video.addH264Codec(96);
  video.addSSRC(11111111, 'client', 'stream', 'video');
  const audioTrack = pc.addTrack(audio);
  const videoTrack = pc.addTrack(video);
  const complete = once(gathered, 'complete');
  pc.setLocalDescription();
  await complete;
  const { answer, session } = await negotiate(url, pc.localDescription().sdp);
  pc.setRemoteDescription(answer, 'answer');
  const send = (track) => (packet) => track.isOpen() && track.sendMessageBinary(packet);
  await rtpSource(
    codec,
    { payloadType: 96, ssrc: 11111111 },
    { payloadType: 111, ssrc: 22222222 },
    send(videoTrack),
    send(audioTrack),
  );
  await terminated();
  await end(session);
  pc.close();
});
