// Where else a stream is to be had: addresses for players that know no WebRTC, to be copied.

const OUTPUTS = [
  ['VLC, ffmpeg', 'live.mp4'],
  ['MPEG-TS', 'live.ts'],
  ['HLS', 'index.m3u8'],
];

async function copy(field, button) {
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    // Pages that came without TLS from another machine have no clipboard of their own.
    document.execCommand('copy');
  }
  button.textContent = 'Copied';
  setTimeout(() => (button.textContent = 'Copy'), 2000);
}

/** Fills `list` with the addresses of the stream `name`. */
export function listAddresses(list, name) {
  const rows = OUTPUTS.map(([title, file]) => {
    const row = document.createElement('label');
    const field = document.createElement('input');
    const button = document.createElement('button');
    field.readOnly = true;
    field.value = `${location.origin}/${encodeURIComponent(name)}/${file}`;
    button.type = 'button';
    button.textContent = 'Copy';
    button.addEventListener('click', () => copy(field, button));
    row.append(title, field, button);
    return row;
  });
  list.replaceChildren(...rows);
}
