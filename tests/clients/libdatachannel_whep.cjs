// Watches over WHEP with libdatachannel (node-datachannel) and prints, as JSON, which RTP packets
// came.
// Usage: node libdatachannel_whep.cjs URL CODEC SECONDS
'use strict';

const { once, EventEmitter } = require('node:events');
const rtc = require('node-datachannel');
const { negotiate, end, Received, receiveFor, run } = require('./common.cjs');

run(async (url, codec, seconds) => {
  const pc = new rtc.PeerConnection('viewer', { iceServers: [] });
  const gathered = new EventEmitter();
  pc.onGatheringStateChange((state) => state === 'complete' && gathered.emit('complete'));
  const audio = new rtc.Audio('0', 'RecvOnly');
  audio.addOpusCodec(111);
  const video = new rtc.Video('1', 'RecvOnly');
  if (codec === 'VP8') video.addVP8Codec(96);
  else video.addH264Codec(96);
  const tracks = { audio: pc.addTrack(audio), video: pc.addTrack(video) };
  const received = { audio: new Received(), video: new Received() };
  for (const [kind, track] of Object.entries(tracks)) {
    track.onMessage((packet) => received[kind].add(packet));
  }
  const complete = once(gathered, 'complete');
  pc.setLocalDescription();
  await complete;
  const { answer, session } = await negotiate(url, pc.localDescription().sdp);
  pc.setRemoteDescription(answer, 'answer');
  const report = await receiveFor(Number(seconds), received);
  await end(session);
  pc.close();
  console.log(JSON.stringify(report));
});
