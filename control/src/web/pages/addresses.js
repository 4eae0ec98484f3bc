// Lines to be copied into other programs: where else a stream is to be had, and how it is published
// by them.

import { token, withToken } from './token.js';

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

// Fills `list` with lines, each a title and a text.
function listLines(list, lines) {
  const rows = lines.map(([title, text]) => {
    const row = document.createElement('label');
    const field = document.createElement('input');
    const button = document.createElement('button');
    field.readOnly = true;
    field.value = text;
    button.type = 'button';
    button.textContent = 'Copy';
    button.addEventListener('click', () => copy(field, button));
    row.append(title, field, button);
    return row;
  });
  list.replaceChildren(...rows);
}

/** Fills `list` with the addresses of the stream `name`, which let in whoever has them. */
export function listAddresses(list, name) {
  const address = (file) =>
    withToken(`${location.origin}/${encodeURIComponent(name)}/${file}`);
  listLines(
    list,
    OUTPUTS.map(([title, file]) => [title, address(file)]),
  );
}

/**
 * Fills `list` with how encoders publish the stream `name`. RTMP and RTSP are at their usual ports. Where a
 * token is needed the lines say `TOKEN`: they are shown on screens that others see.
 */
export function listEncoders(list, name) {
  // A link made by somebody else must not put words into a line for a shell.
  if (!/^[A-Za-z0-9._~-]+$/.test(name)) return;
  const rtmp = `rtmp://${location.hostname}/live`;
  const key = token() ? `${name}?token=TOKEN` : name;
  // Shells read a question mark.
  const stream = token() ? `'${rtmp}/${key}'` : `${rtmp}/${key}`;
  const password = token() ? 'x:TOKEN@' : '';
  const video = '-c:v libx264 -preset veryfast -tune zerolatency -bf 0 -g 60';
  listLines(list, [
    ['ffmpeg', `ffmpeg -re -i film.mp4 ${video} -c:a aac -f flv ${stream}`],
    [
      'ffmpeg 8, WHIP',
      `ffmpeg -re -i film.mp4 ${video} -profile:v baseline -c:a libopus -ar 48000 -ac 2 ` +
        `${token() ? '-authorization TOKEN ' : ''}-f whip ${location.origin}/whip/${name}`,
    ],
    [
      'ffmpeg, RTSP',
      `ffmpeg -re -i film.mp4 ${video} -c:a aac -f rtsp -rtsp_transport tcp ` +
        `rtsp://${password}${location.hostname}:8554/${name}`,
    ],
    ['OBS, WHIP server', `${location.origin}/whip/${name}`],
    ...(token() ? [['OBS, Bearer Token', 'TOKEN']] : []),
    ['OBS, RTMP server', rtmp],
    ['OBS, stream key', key],
    [
      'GStreamer',
      `gst-launch-1.0 flvmux name=mux streamable=true ! rtmp2sink location=${stream} ` +
        'videotestsrc is-live=true ! x264enc tune=zerolatency key-int-max=60 ! h264parse ! mux. ' +
        'audiotestsrc is-live=true ! audioconvert ! avenc_aac ! mux.',
    ],
  ]);
}
