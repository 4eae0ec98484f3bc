// The front page: what is live, and the way in.

import { HttpProblem, explain } from './messages.js';
import { formatBitrate } from './stats.js';

const PERIOD_MS = 2000;
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

function item(stream) {
  const row = element('li', 'card stream');
  const about = element('div', 'about');
  const title = element('a', 'name', stream.name);
  title.href = `/watch/${encodeURIComponent(stream.name)}`;
  about.append(title);
  for (const track of stream.tracks ?? []) about.append(element('span', 'hint', trackText(track)));
  const side = element('div', 'side');
  const [look, word] = stream.live ? ['badge live', 'live'] : ['badge', 'waiting'];
  const badge = element('span', look, word);
  const viewers = stream.viewers === 1 ? '1 viewer' : `${stream.viewers ?? 0} viewers`;
  side.append(badge, element('span', 'hint', viewers));
  const backup = (stream.publishers ?? []).find((publisher) => publisher.role === 'backup');
  if (backup) side.append(element('span', 'hint', backup.on_air ? 'backup on air' : 'with backup'));
  if (stream.live) side.append(element('span', 'hint', uptime(stream.uptime_s)));
  row.append(about, side);
  return row;
}

let shown = '';
async function refresh() {
  try {
    const response = await fetch('/api/streams', {
      cache: 'no-store',
      signal: AbortSignal.timeout(5000),
    });
    if (!response.ok) throw await HttpProblem.from(response);
    const streams = await response.json();
    streams.sort((a, b) => Number(b.live) - Number(a.live) || a.name.localeCompare(b.name));
    const text = JSON.stringify(streams);
    if (text !== shown) list.replaceChildren(...streams.map(item));
    shown = text;
    note.textContent = streams.length
      ? ''
      : 'Nobody is publishing yet. Name a stream above and be the first.';
    note.classList.remove('problem');
  } catch (error) {
    note.textContent = `The list of streams is not up to date. ${explain(error)}`;
    note.classList.add('problem');
  }
  setTimeout(refresh, PERIOD_MS);
}
refresh();
