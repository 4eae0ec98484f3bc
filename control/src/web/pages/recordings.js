// The recordings: played in the page itself, or as streams that everybody watches.

import { HttpProblem, explain } from './messages.js';
import { askForToken, authorization, withToken } from './token.js';

const PERIOD_MS = 1000;
const byId = (id) => document.getElementById(id);
const note = byId('note');
const video = byId('video');

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(text, label, act, className = '') {
  const made = element('button', className, text);
  made.type = 'button';
  made.setAttribute('aria-label', label);
  made.addEventListener('click', act);
  return made;
}

function say(text, isProblem = false) {
  note.textContent = text;
  note.classList.toggle('problem', isProblem);
}

async function get(path) {
  const signal = AbortSignal.timeout(10_000);
  const response = await fetch(path, { cache: 'no-store', headers: authorization(), signal });
  if (!response.ok) throw await HttpProblem.from(response);
  return response.json();
}

// The server's words say what is in the way of a file; the status alone would not.
async function command(name, request) {
  try {
    const response = await fetch(`/api/players/${name}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...authorization() },
      body: JSON.stringify(request),
    });
    if (!response.ok) throw await HttpProblem.from(response);
    say('');
    await refreshPlayers();
    return true;
  } catch (error) {
    say(error instanceof HttpProblem && error.detail ? error.detail : explain(error), true);
    if ([401, 403].includes(error.status)) askForToken(byId('token'), () => say(''));
    return false;
  }
}

const clock = (seconds) => {
  const s = Math.max(0, Math.floor(seconds));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`;
};

function size(bytes) {
  const units = ['bytes', 'KB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
}

// A stream's name out of a file's: what a name may hold, of what the path has.
const streamName = (path) =>
  path
    .replace(/\.[^.]*$/, '')
    .replace(/[^A-Za-z0-9._~-]+/g, '-')
    .slice(0, 64) || 'recording';

function preview(path) {
  byId('preview').hidden = false;
  video.src = withToken(`/recordings/files/${path.split('/').map(encodeURIComponent).join('/')}`);
  video.play().catch(() => {});
}

async function stream(path) {
  const name = streamName(path);
  if (await command('create', { stream: name, path })) await command('play', { stream: name });
}

// None of files the server cannot decode: the place stays empty.
function thumbnail(path) {
  const picture = element('img', 'thumbnail');
  Object.assign(picture, { alt: '', width: 160, height: 90, loading: 'lazy' });
  picture.addEventListener('error', () => (picture.hidden = true));
  const encoded = path.split('/').map(encodeURIComponent).join('/');
  picture.src = withToken(`/recordings/thumbnails/${encoded}?width=160`);
  return picture;
}

function fileItem(file) {
  const row = element('li', 'card stream');
  const about = element('div', 'about');
  const date = new Date(file.modified_s * 1000).toLocaleString();
  about.append(element('span', 'name', file.path), element('span', 'hint', `${size(file.bytes)} · ${date}`));
  const side = element('div', 'row');
  side.append(
    button('Play here', `Play ${file.path} here`, () => preview(file.path)),
    button('Play as stream', `Play ${file.path} as a stream`, () => stream(file.path), 'primary'),
  );
  row.append(thumbnail(file.path), about, side);
  return row;
}

// Rows are kept from one look to the next, so that a button or slider in use is not replaced.
const rows = new Map();

function playerRow(name) {
  const row = element('li', 'card stream');
  const about = element('div', 'about');
  const title = element('a', 'name', name);
  title.href = `/watch/${encodeURIComponent(name)}`;
  const what = element('span', 'hint');
  const position = element('input');
  Object.assign(position, { type: 'range', min: 0, step: 0.04 });
  position.setAttribute('aria-label', `Position of ${name}`);
  position.addEventListener('change', () => {
    command('seek', { stream: name, position_s: Number(position.value) });
  });
  about.append(title, what, position);
  const toggle = button('Pause', `Pause or play ${name}`, () => {
    command(toggle.dataset.command, { stream: name });
  });
  const repeat = button('Repeat', `Repeat ${name}`, () => {
    command('set', { stream: name, repeat: repeat.getAttribute('aria-pressed') !== 'true' });
  });
  const stop = button('Stop', `Stop ${name}`, () => command('stop', { stream: name }));
  const side = element('div', 'row');
  side.append(toggle, repeat, stop);
  row.append(about, side);
  return { row, what, position, toggle, repeat };
}

function showPlayer(player, { what, position, toggle, repeat }) {
  const end = player.duration_s ? ` / ${clock(player.duration_s)}` : '';
  const silent = player.left_out.length ? ` · not played: ${player.left_out.join('; ')}` : '';
  what.textContent = `${player.state} · ${player.path} · ${clock(player.position_s)}${end}${silent}`;
  position.hidden = !player.duration_s;
  position.max = player.duration_s ?? 0;
  if (document.activeElement !== position) position.value = player.position_s;
  toggle.textContent = player.state === 'playing' ? 'Pause' : 'Play';
  toggle.dataset.command = player.state === 'playing' ? 'pause' : 'play';
  repeat.setAttribute('aria-pressed', String(player.repeat));
}

async function refreshPlayers() {
  const players = await get('/api/players');
  for (const name of [...rows.keys()]) {
    if (players.some((player) => player.stream === name)) continue;
    rows.get(name).row.remove();
    rows.delete(name);
  }
  for (const player of players) {
    if (!rows.has(player.stream)) {
      rows.set(player.stream, playerRow(player.stream));
      byId('players').append(rows.get(player.stream).row);
    }
    showPlayer(player, rows.get(player.stream));
  }
}

async function keepUp() {
  try {
    await refreshPlayers();
  } catch (error) {
    say(`The list of players is not up to date. ${explain(error)}`, true);
  }
  setTimeout(keepUp, PERIOD_MS);
}

async function begin() {
  try {
    const files = await get('/api/recordings');
    byId('files').replaceChildren(...files.map(fileItem));
    say(files.length ? '' : 'There are no recordings: put MP4 files into the directory given by --recordings.');
  } catch (error) {
    say(`The list of recordings could not be read. ${explain(error)}`, true);
    if ([401, 403].includes(error.status)) {
      askForToken(byId('token'), begin);
      return;
    }
  }
  keepUp();
}

video.addEventListener('error', () => say('This browser cannot play the file.', true));
begin();
