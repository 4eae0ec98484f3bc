// Medooze behind WHIP and WHEP.   node server.mjs PORT FOLDER_WITH_NODE_MODULES
//
// The C++ server runs inside this process: one endpoint, that is one UDP port and one network
// thread. In the environment, SRTP chooses the profile: gcm128, gcm256 or sha1.
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';

import { Refusal, serve } from '../front.mjs';

const [port, modules] = process.argv.slice(2);
const require = createRequire(path.resolve(modules, 'server.js'));
const MediaServer = require('medooze-media-server');
const { SDPInfo } = require('semantic-sdp');

const PROFILES = {
  gcm128: 'SRTP_AEAD_AES_128_GCM',
  gcm256: 'SRTP_AEAD_AES_256_GCM',
  sha1: 'SRTP_AES128_CM_SHA1_80',
};
const EXTENSIONS = [
  'urn:ietf:params:rtp-hdrext:sdes:mid',
  'http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time',
  'http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01',
];
const FEEDBACK = [
  { id: 'goog-remb' },
  { id: 'transport-cc' },
  { id: 'ccm', params: ['fir'] },
  { id: 'nack' },
  { id: 'nack', params: ['pli'] },
];

/** Its own certificate is RSA; clients that offer only ECDSA suites need another. */
function setEcdsaCertificate() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'medooze-'));
  const [key, certificate] = ['key', 'crt'].map((name) => path.join(folder, name));
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const subject = ['-sha256', '-days', '30', '-subj', '/CN=WebRTC'];
  const files = ['-keyout', key, '-out', certificate];
  execFileSync('openssl', ['req', '-x509', ...curve, ...subject, ...files], { stdio: 'ignore' });
  MediaServer.setCertificate(certificate, key);
  return () => fs.rmSync(folder, { recursive: true });
}

MediaServer.enableLog(false);
MediaServer.enableDebug(false);
MediaServer.enableUltraDebug(false);
MediaServer.enableWarning(false);
const removeCertificate = setEcdsaCertificate();
const endpoint = MediaServer.createEndpoint('127.0.0.1');
removeCertificate();
if (process.env.SRTP) endpoint.setDefaultSRTProtectionProfiles(PROFILES[process.env.SRTP]);

/** The answer may hold only what the client offered too. */
function capabilities(sdp) {
  const offered = ({ id, params = [] }) =>
    new RegExp(`^a=rtcp-fb:\\S+ ${[id, ...params].join(' ')}\\s*$`, 'm').test(sdp);
  return {
    audio: {
      codecs: ['opus'],
      extensions: ['urn:ietf:params:rtp-hdrext:ssrc-audio-level', ...EXTENSIONS],
    },
    video: {
      codecs: ['vp8', 'h264;packetization-mode=1'],
      rtx: true,
      extensions: EXTENSIONS,
      rtcpfbs: FEEDBACK.filter(offered),
    },
  };
}

function connect(sdp) {
  // Of several fingerprints its parser keeps the last.
  sdp = sdp.replace(/^a=fingerprint:(?!sha-256).*\r?\n/gim, '');
  const offer = SDPInfo.parse(sdp);
  const transport = endpoint.createTransport(offer);
  transport.setRemoteProperties(offer);
  const answer = offer.answer({
    dtls: transport.getLocalDTLSInfo(),
    ice: transport.getLocalICEInfo(),
    candidates: endpoint.getLocalCandidates(),
    capabilities: capabilities(sdp),
  });
  transport.setLocalProperties(answer);
  return { offer, transport, answer };
}

const streams = new Map();

function whip(name, sdp) {
  if (streams.has(name)) throw new Refusal(409, 'the stream is published already');
  const { offer, transport, answer } = connect(sdp);
  const info = offer.getFirstStream();
  if (!info) {
    transport.stop();
    throw new Refusal(406, 'the offer has no msid and ssrc lines');
  }
  streams.set(name, transport.createIncomingStream(info));
  const close = () => {
    streams.delete(name);
    transport.stop();
  };
  return { sdp: answer.toString(), close };
}

function whep(name, sdp) {
  const incoming = streams.get(name);
  if (!incoming) throw new Refusal(404, 'no such stream');
  const { transport, answer } = connect(sdp);
  const tracks = (type) => {
    const medias = answer.getMedias().filter((m) => m.getType() === type && m.getCodecs().size);
    return medias.slice(0, 1).map((media) => ({ id: type, mediaId: media.getId() }));
  };
  const outgoing = transport.createOutgoingStream({
    id: randomUUID(),
    audio: tracks('audio'),
    video: tracks('video'),
  });
  outgoing.attachTo(incoming);
  answer.addStream(outgoing.getStreamInfo());
  return { sdp: answer.toString(), close: () => transport.stop() };
}

function quit() {
  endpoint.stop();
  process.exit(0);
}
process.on('SIGTERM', quit);
process.on('SIGINT', quit);
serve(Number(port), process.pid, { whip, whep });
