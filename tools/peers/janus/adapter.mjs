// Janus, its videoroom plugin, behind WHIP and WHEP.   node adapter.mjs PORT LOOPBACK_SHIM
//
// Janus is a process of its own, with one event loop for all media; only signalling passes here. It
// takes the first SRTP profile that it likes of those the client offers (AES-256-GCM, AES-128-GCM,
// then SHA1), and has no setting for it.
import path from 'node:path';

import { Refusal, serve } from '../front.mjs';
import { Janus } from './janus.mjs';
import { answerSection, declineSection, description, parse } from './sdp.mjs';

const FEED_RETRY_MS = 200;
const FEED_RETRIES = 25;

const [port, shim] = process.argv.slice(2);
const janus = await Janus.start(path.resolve(shim));
const rooms = new Map();
let nextRoom = 1000;

/** The publisher's video codecs, as the plugin lists them. */
function videoCodecs(offer) {
  const videos = parse(offer).sections.filter((section) => section.kind === 'video');
  const names = videos.flatMap((section) =>
    section.formats.map((format) => section.codec(format)?.split('/')[0]),
  );
  return ['vp8', 'h264'].filter((codec) => names.includes(codec)).join(',') || 'vp8';
}

async function publish(handle, room, offer) {
  await janus.message(handle, {
    request: 'create',
    room,
    publishers: 1,
    permanent: false,
    bitrate: 0,
    fir_freq: 0,
    audiocodec: 'opus',
    videocodec: videoCodecs(offer),
    audiolevel_ext: false,
    videoorient_ext: false,
    playoutdelay_ext: false,
    transport_wide_cc_ext: false,
    notify_joining: false,
  });
  // Offered the choice, Janus would be the DTLS client.
  const sdp = offer.replace(/^a=setup:actpass/gm, 'a=setup:active');
  const join = { request: 'joinandconfigure', ptype: 'publisher', room, id: 1 };
  return janus.message(handle, join, { type: 'offer', sdp });
}

async function whip(stream, offer) {
  if (rooms.has(stream)) throw new Refusal(409, 'the stream is published already');
  const room = nextRoom++;
  rooms.set(stream, { room });
  const handle = await janus.attach();
  try {
    const { data, sdp } = await publish(handle, room, offer);
    if (!sdp) throw new Refusal(502, JSON.stringify(data));
    const feeds = (data.streams ?? []).filter((feed) => !feed.disabled);
    const answered = parse(sdp).sections.filter((section) => section.port !== '0');
    const tracks = feeds.length ? feeds : answered.map(({ kind, mid }) => ({ type: kind, mid }));
    rooms.set(stream, { room, tracks });
    const close = async () => {
      rooms.delete(stream);
      await janus.message(handle, { request: 'destroy', room }).catch(() => {});
      await janus.detach(handle);
    };
    return { sdp, close };
  } catch (error) {
    rooms.delete(stream);
    await janus.detach(handle);
    throw error;
  }
}

/** Joins as a subscriber of `tracks`; gives Janus's offer. */
async function subscribe(handle, room, tracks) {
  const streams = tracks.map(({ mid }) => ({ feed: 1, mid }));
  const join = { request: 'join', ptype: 'subscriber', room, autoupdate: false, streams };
  for (let tries = 0; ; tries++) {
    try {
      return (await janus.message(handle, join)).sdp;
    } catch (error) {
      // Janus has a feed only once its publisher's DTLS is up.
      if (tries >= FEED_RETRIES || !/No such feed/.test(error.message)) throw error;
      await new Promise((resolve) => setTimeout(resolve, FEED_RETRY_MS));
    }
  }
}

/** The track that each section of a viewer's offer gets, or undefined. */
function assign(sections, tracks) {
  const left = [...tracks];
  return sections.map((section) => {
    const place = left.findIndex((track) => section.port !== '0' && track.type === section.kind);
    return place < 0 ? undefined : left.splice(place, 1)[0];
  });
}

async function exchange(handle, { room, tracks }, offer) {
  const client = parse(offer);
  const assigned = assign(client.sections, tracks);
  const wanted = assigned.filter(Boolean);
  if (!wanted.length) throw new Refusal(406, 'nothing to send');
  const server = parse(await subscribe(handle, room, wanted));
  const [toServer, toClient, serverMids, clientMids] = [[], [], [], []];
  client.sections.forEach((mine, place) => {
    if (!assigned[place]) {
      toClient.push(declineSection(mine));
      return;
    }
    const theirs = server.sections[serverMids.length];
    const passive = mine.get('setup') === 'passive';
    serverMids.push(theirs.mid);
    clientMids.push(mine.mid);
    toServer.push(answerSection(theirs, mine, 'recvonly', passive ? 'passive' : 'active'));
    toClient.push(answerSection(mine, theirs, 'sendonly', passive ? 'active' : 'passive'));
  });
  const answer = { type: 'answer', sdp: description(serverMids, false, toServer) };
  await janus.message(handle, { request: 'start' }, answer);
  return description(clientMids, server.head.includes('a=ice-lite'), toClient);
}

async function whep(stream, offer) {
  const room = rooms.get(stream);
  if (!room?.tracks) throw new Refusal(404, 'no such stream');
  const handle = await janus.attach();
  const close = () => janus.detach(handle);
  try {
    return { sdp: await exchange(handle, room, offer), close };
  } catch (error) {
    await close();
    throw error;
  }
}

serve(Number(port), janus.pid, { whip, whep });
