// The front page: what is live, the way in, and what is recorded.

import { HttpProblem, explain } from './messages.js';
import { formatBitrate } from './stats.js';
import { askForToken, authorization, withToken } from './token.js';

const PERIOD_MS = 2000;
// How often a stream's picture is asked for.
const PICTURE_PERIOD_MS = 5000;
const note = document.getElementById('note');
const list = document.getElementById('streams');
const name = document.getElementById('name');

document.getElementById('open').addEventListener('submit', (event) => {
  event.preventDefault();
  const action = event.submitter?.value ?? 'watch';
  location.href = `/${action}/${encodeURIComponent(name.value.trim())}`;
});

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function uptime(seconds) {
  const s = Math.max(0, Math.floor(seconds ?? 0));
  const part = (value) => String(value).padStart(2, '0');
  const minutes = `${Math.floor(s / 60) % 60}:${part(s % 60)}`;
  return s < 3600 ? minutes : `${Math.floor(s / 3600)}:${minutes.padStart(5, '0')}`;
}

function trackText(track) {
  const parts = [track.codec];
  if (track.width && track.height) parts.push(`${track.width}×${track.height}`);
  if (track.bitrate_bps) parts.push(formatBitrate(track.bitrate_bps));
  return parts.filter(Boolean).join(' · ');
}

// Rows are kept from one look to the next, so that a button in use is not replaced, nor a picture.
const rows = new Map();

function makeRow(stream) {
  const row = element('li', 'card stream');
  const picture = element('img', 'thumbnail');
  Object.assign(picture, { alt: '', width: 160, height: 90, hidden: true });
  picture.addEventListener('load', () => (picture.hidden = false));
  picture.addEventListener('error', () => (picture.hidden = true));
  const about = element('div', 'about');
  const side = element('div', 'side');
  const record = element('button', '', 'Record');
  Object.assign(record, { type: 'button', hidden: true });
  record.addEventListener('click', () => toggleRecording(stream.name, record));
  row.append(picture, about, side, record);
  return { row, picture, about, side, record, picturedAt_ms: -PICTURE_PERIOD_MS };
}

function showStream(stream, { about, side }) {
  const title = element('a', 'name', stream.name);
  title.href = `/watch/${encodeURIComponent(stream.name)}`;
  const tracks = stream.tracks ?? [];
  about.replaceChildren(title, ...tracks.map((track) => element('span', 'hint', trackText(track))));
  const [look, word] = stream.live ? ['badge live', 'live'] : ['badge', 'waiting'];
  const viewers = stream.viewers === 1 ? '1 viewer' : `${stream.viewers ?? 0} viewers`;
  side.replaceChildren(element('span', look, word), element('span', 'hint', viewers));
  const backup = (stream.publishers ?? []).find((publisher) => publisher.role === 'backup');
  if (backup) side.append(element('span', 'hint', backup.on_air ? 'backup on air' : 'with backup'));
  if (stream.live) side.append(element('span', 'hint', uptime(stream.uptime_s)));
}

// Of a stream that comes by another protocol: from where, what is lost, and what is wrong with it.
function showIngest(ingest, { about }) {
  if (!ingest) return;
  const sum = (field) => ingest.tracks.reduce((all, track) => all + track[field], 0);
  const parts = [`by ${ingest.source.toUpperCase()} from ${ingest.remote}`];
  if (sum('lost')) parts.push(`${sum('lost')} packets lost`);
  if (sum('dropped')) parts.push(`${sum('dropped')} left out`);
  if (ingest.drift_ppm !== null) parts.push(`clock ${ingest.drift_ppm.toFixed(0)} ppm`);
  about.append(element('span', 'hint', parts.join(' · ')));
  for (const warning of ingest.warnings) about.append(element('span', 'hint problem', warning));
}

// Pictures of streams that nobody looks at are not asked for, nor of those the server cannot decode.
function showPicture(stream, made) {
  const pictured = (track) => ['VP8', 'H264'].includes(track.codec);
  if (!stream.live || !(stream.tracks ?? []).some(pictured)) {
    made.picture.hidden = true;
    return;
  }
  const now_ms = performance.now();
  if (document.hidden || now_ms - made.picturedAt_ms < PICTURE_PERIOD_MS) return;
  made.picturedAt_ms = now_ms;
  const address = `/${encodeURIComponent(stream.name)}/thumbnail.jpg`;
  made.picture.src = withToken(`${address}?width=160&at=${Math.floor(now_ms)}`);
}

// What records a stream into files; those that hold the last seconds are not for a button.
const recorderOf = (stream, recorders) =>
  recorders?.find(({ state, ...recorder }) => {
    return recorder.stream === stream && ['recording', 'waiting', 'failed'].includes(state);
  });

function showRecorder(stream, recorders, { record, side }) {
  const recorder = recorderOf(stream.name, recorders);
  record.hidden = !recorders || (!recorder && !stream.live);
  record.textContent = recorder ? 'Stop recording' : 'Record';
  const label = recorder ? `Stop recording ${stream.name}` : `Record ${stream.name}`;
  record.setAttribute('aria-label', label);
  record.dataset.recorder = recorder?.id ?? '';
  if (!recorder) return;
  const failed = recorder.state === 'failed';
  const text = failed
    ? `recording failed: ${recorder.error}`
    : `recording · ${uptime(recorder.duration_ms / 1000)}`;
  side.append(element('span', failed ? 'hint problem' : 'hint recording', text));
}

async function toggleRecording(stream, button) {
  const { recorder } = button.dataset;
  const [command, request] = recorder
    ? ['stop', { recorder: Number(recorder) }]
    : ['create', { stream }];
  button.disabled = true;
  problem = '';
  try {
    const response = await fetch(`/api/recorders/${command}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...authorization() },
      body: JSON.stringify(request),
    });
    if (!response.ok) throw await HttpProblem.from(response);
  } catch (error) {
    problem = error instanceof HttpProblem && error.detail ? error.detail : explain(error);
  }
  button.disabled = false;
  await look();
}

async function get(path) {
  const signal = AbortSignal.timeout(5000);
  const response = await fetch(path, { cache: 'no-store', headers: authorization(), signal });
  if (!response.ok) throw await HttpProblem.from(response);
  return response.json();
}

function showAll(streams, recorders, ingests) {
  const gone = new Set(rows.keys());
  for (const stream of streams) {
    gone.delete(stream.name);
    if (!rows.has(stream.name)) rows.set(stream.name, makeRow(stream));
    const made = rows.get(stream.name);
    const ingest = ingests?.find((one) => one.stream === stream.name);
    const recorder = recorderOf(stream.name, recorders);
    const text = JSON.stringify([stream, ingest, recorder, Boolean(recorders)]);
    if (text !== made.shown) {
      showStream(stream, made);
      showIngest(ingest, made);
      showRecorder(stream, recorders, made);
      made.shown = text;
    }
    showPicture(stream, made);
  }
  for (const name of gone) {
    rows.get(name).row.remove();
    rows.delete(name);
  }
  const order = streams.map((stream) => rows.get(stream.name).row);
  // To move a row takes the focus from it.
  if (order.some((row, place) => list.children[place] !== row)) list.replaceChildren(...order);
}

function showRooms(rooms) {
  const text = JSON.stringify(rooms);
  const list = document.getElementById('rooms');
  document.getElementById('rooms-section').hidden = rooms.length === 0;
  if (list.dataset.shown === text) return;
  list.dataset.shown = text;
  const made = rooms.map(({ room, members, speaker }) => {
    const row = element('li', 'card stream');
    const about = element('div', 'about');
    const title = element('a', 'name', room);
    title.href = `/room/${encodeURIComponent(room)}`;
    const count = members === 1 ? '1 member' : `${members} members`;
    about.append(title, element('span', 'hint', speaker ? `${count} · ${speaker} speaks` : count));
    row.append(about);
    return row;
  });
  list.replaceChildren(...made);
}

// What the last press of a button came to, until the next.
let problem = '';

function say(text, isProblem) {
  note.textContent = text;
  note.classList.toggle('problem', isProblem);
}

// What this page is not given with the token it has.
const withheld = new Set();

// A server that embeds Fanmill may do without these.
async function optional(path) {
  if (withheld.has(path)) return null;
  try {
    return await get(path);
  } catch (error) {
    if ([401, 403].includes(error.status)) withheld.add(path);
    return null;
  }
}

function withNewToken() {
  withheld.clear();
  look();
}

async function look() {
  try {
    const [all, rooms, recorders, ingests] = await Promise.all([
      get('/api/streams'),
      optional('/api/rooms'),
      optional('/api/recorders'),
      optional('/api/ingests'),
    ]);
    showRooms(rooms ?? []);
    // Rooms are watched under a name that no stream has.
    const isRoom = ({ name }) => (rooms ?? []).some(({ room }) => name === `${room}~`);
    const streams = all.filter((stream) => !isRoom(stream));
    streams.sort((a, b) => Number(b.live) - Number(a.live) || a.name.localeCompare(b.name));
    showAll(streams, recorders, ingests);
    const nobody = 'Nobody is publishing yet. Name a stream above and be the first.';
    say(problem || (streams.length ? '' : nobody), Boolean(problem));
  } catch (error) {
    say(`The list of streams is not up to date. ${explain(error)}`, true);
    if (error.status === 401) askForToken(document.getElementById('token'), withNewToken);
  }
}

async function keepUp() {
  await look();
  setTimeout(keepUp, PERIOD_MS);
}
keepUp();
