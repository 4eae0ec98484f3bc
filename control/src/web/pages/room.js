// The page of a room: publishes as one of its members, and shows the others in few slots, each a track
// that the server gives to one member or another. Who is in which is told by the session's events.

import { Events } from './events.js';
import { explain, insecureContext } from './messages.js';
import { TestCard } from './testcard.js';
import { askForToken } from './token.js';
import { Connection, EXTENSIONS, offerExtensions } from './webrtc.js';

const WANTED = ['room', 'slots', 'speaker'];
const VIDEO = { width: 640, height: 360, fps: 20, bitrate_bps: 400_000 };
const byId = (id) => document.getElementById(id);
const room = decodeURIComponent(location.pathname.split('/').pop());
const query = new URLSearchParams(location.search);
const count = (name, usual, most) => Math.min(most, Number(query.get(name) ?? usual) || 0);
const SLOTS = { audio: count('audio', 3, 8), video: count('video', 6, 16) };

let me = null;
let source = null;
let publishing = null;
let watching = null;
let events = null;
let problem = '';
// What the server told last.
let members = [];
let memberCount = 0;
let speaker = null;
let occupants = new Map();
// The slots of the present session, each with its transceiver and elements.
let slots = { audio: [], video: [] };
let ownTile = null;

document.title = `${room} · Fanmill`;
byId('room-name').textContent = room;
if (query.has('name')) byId('name').value = query.get('name');
if (query.has('source')) byId('source').value = query.get('source');

async function openSource(kind) {
  const { width, height, fps } = VIDEO;
  if (kind === 'testcard') return new TestCard(width, height, fps);
  if (!navigator.mediaDevices) throw insecureContext();
  const video = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: fps } };
  const wanted = { audio: true, video: kind === 'camera' ? video : false };
  const stream = await navigator.mediaDevices.getUserMedia(wanted);
  return { stream, stop: () => stream.getTracks().forEach((track) => track.stop()) };
}

function makeTile(stream, muted) {
  const tile = document.createElement('li');
  const video = document.createElement('video');
  const caption = document.createElement('span');
  Object.assign(video, { autoplay: true, muted, playsInline: true, srcObject: stream });
  caption.className = 'caption';
  tile.className = 'screen tile';
  tile.append(video, caption);
  byId('tiles').append(tile);
  return { tile, video, caption };
}

function prepareToPublish(pc) {
  for (const track of source.stream.getTracks()) {
    const encoding = { maxBitrate: VIDEO.bitrate_bps, maxFramerate: VIDEO.fps };
    const sendEncodings = [track.kind === 'video' ? encoding : {}];
    pc.addTransceiver(track, { direction: 'sendonly', streams: [source.stream], sendEncodings });
  }
}

function prepareToWatch(pc) {
  for (const { tile } of slots.video) tile.remove();
  byId('sounds').replaceChildren();
  const receive = (kind) => pc.addTransceiver(kind, { direction: 'recvonly' });
  slots = { audio: [], video: [] };
  for (let i = 0; i < SLOTS.audio; i += 1) {
    const transceiver = receive('audio');
    const sound = document.createElement('audio');
    sound.autoplay = true;
    sound.srcObject = new MediaStream([transceiver.receiver.track]);
    byId('sounds').append(sound);
    slots.audio.push({ transceiver });
  }
  for (let i = 0; i < SLOTS.video; i += 1) {
    const transceiver = receive('video');
    offerExtensions(transceiver, [EXTENSIONS.dependencies]);
    const made = makeTile(new MediaStream([transceiver.receiver.track]), true);
    made.video.addEventListener('resize', show);
    slots.video.push({ transceiver, ...made });
  }
  show();
}

function heard(name, data) {
  if (name === 'room') ({ members, count: memberCount } = data);
  if (name === 'slots') {
    const all = [...data.audio, ...data.video];
    occupants = new Map(all.map(({ mid, member }) => [mid, member]));
  }
  if (name === 'speaker') speaker = data.member;
  show();
}

function forget() {
  members = [];
  memberCount = 0;
  speaker = null;
  occupants = new Map();
}

async function enter(name, kind) {
  if (watching) return;
  problem = '';
  forget();
  me = name;
  const address = `/whep/${encodeURIComponent(`${room}~`)}`;
  const url = name ? `${address}?member=${encodeURIComponent(name)}` : address;
  watching = new Connection({ role: 'watch', url, prepare: prepareToWatch });
  const mine = watching;
  // Such as that somebody else is here under this name, or that a token is needed.
  const fail = ({ text, needsToken }) => {
    leave(text);
    if (needsToken) askForToken(byId('token'), () => enter(name, kind));
  };
  mine.addEventListener('state', () => {
    const { session, state } = mine;
    if (state === 'failed') return fail(mine);
    if (state === 'connected' && events?.session !== session) {
      const ended = () => session.lose(new Error('session-ended'));
      events = new Events(session, { wanted: WANTED, told: show, heard, ended });
    }
    show();
  });
  try {
    if (name) {
      source = await openSource(kind);
      ownTile = makeTile(source.stream, true);
      const url = `/whip/${encodeURIComponent(`${room}~${name}`)}`;
      publishing = new Connection({ role: 'publish', url, prepare: prepareToPublish });
      publishing.addEventListener('state', () => {
        if (publishing?.state === 'failed') return fail(publishing);
        if (publishing?.state === 'connected') mine.start();
        show();
      });
      publishing.start();
    } else {
      mine.start();
    }
  } catch (error) {
    leave(explain(error, 'publish'));
  }
  show();
}

function leave(reason = '') {
  for (const connection of [publishing, watching]) connection?.stop();
  source?.stop();
  ownTile?.tile.remove();
  for (const { tile } of slots.video) tile.remove();
  byId('sounds').replaceChildren();
  [publishing, watching, source, ownTile, events, me] = [null, null, null, null, null, null];
  slots = { audio: [], video: [] };
  problem = reason;
  forget();
  show();
}

const muted = () => source?.stream.getAudioTracks().some((track) => !track.enabled) ?? false;

function showMembers() {
  const rows = members.map((member) => {
    const row = document.createElement('li');
    const words = [member.name];
    if (member.name === me) words.push('(you)');
    if (!member.audio) words.push('without sound');
    if (member.name === speaker) words.push('speaks');
    row.textContent = words.join(' ');
    row.classList.toggle('speaks', member.name === speaker);
    return row;
  });
  if (memberCount > members.length) {
    const row = document.createElement('li');
    row.textContent = `and ${memberCount - members.length} more`;
    rows.push(row);
  }
  byId('members').replaceChildren(...rows);
}

function state() {
  if (problem) return 'failed';
  if (!watching) return 'idle';
  const both = [publishing, watching].filter(Boolean);
  return both.find((connection) => connection.state !== 'connected')?.state ?? 'connected';
}

function text() {
  return problem || [publishing, watching].map((one) => one?.text).find(Boolean) || '';
}

function show() {
  const inside = Boolean(watching);
  byId('join').hidden = inside;
  byId('bar').hidden = !inside;
  byId('people').hidden = !inside;
  byId('mute').hidden = !source;
  byId('mute').setAttribute('aria-pressed', String(muted()));
  byId('status').textContent = text();
  byId('status').classList.toggle('problem', ['failed', 'retrying'].includes(state()));
  byId('speaker').textContent = speaker && inside ? `${speaker} speaks` : '';
  for (const slot of slots.video) {
    const member = occupants.get(slot.transceiver.mid) ?? null;
    // Without events whatever comes is shown, if nobody knows of whom.
    slot.tile.hidden = occupants.size > 0 ? !member : slot.video.videoWidth === 0;
    slot.caption.textContent = member ?? '';
    slot.video.ariaLabel = member ? `Picture of ${member}` : '';
    slot.tile.classList.toggle('speaks', member !== null && member === speaker);
  }
  if (ownTile) {
    ownTile.tile.hidden = source.stream.getVideoTracks().length === 0;
    ownTile.caption.textContent = `${me} (you)`;
    ownTile.video.ariaLabel = 'Your own picture';
    ownTile.tile.classList.toggle('speaks', me === speaker);
  }
  showMembers();
}

byId('join').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = byId('name').value.trim();
  if (event.submitter?.value === 'watch') enter(null);
  else enter(name, byId('source').value);
});
byId('mute').addEventListener('click', () => {
  const enabled = muted();
  for (const track of source.stream.getAudioTracks()) track.enabled = enabled;
  show();
});
byId('leave').addEventListener('click', () => leave());
addEventListener('pagehide', () => leave());

window.fanmill = {
  get state() {
    return state();
  },
  get text() {
    return text();
  },
  get pc() {
    return watching?.pc ?? null;
  },
  get speaker() {
    return speaker;
  },
  get members() {
    return members.map(({ name }) => name);
  },
  /** Who is in which slot: of each kind by the order of the tracks. */
  get slots() {
    const names = (kind) =>
      slots[kind].map(({ transceiver }) => occupants.get(transceiver.mid) ?? null);
    return { audio: names('audio'), video: names('video') };
  },
  /** The element that shows a member, or null. */
  videoOf(member) {
    const slot = slots.video.find(({ transceiver }) => occupants.get(transceiver.mid) === member);
    return slot?.video ?? null;
  },
  enter,
  leave,
};

if (room.includes('~')) {
  byId('join').hidden = true;
  problem = 'The name of a room has no ~ in it; choose another.';
  byId('status').textContent = problem;
} else {
  show();
  if (query.get('autostart') === '1') enter(query.get('name'), query.get('source') ?? 'camera');
}
