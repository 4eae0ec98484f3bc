// Reads an MP4 file box by box with mp4box and says what is wrong with it; nothing if all is well.
//
// Usage: node mp4_structure.cjs FILE

const fs = require('node:fs');
const { Log, createFile } = require('mp4box');

const wrong = [];
for (const level of ['log', 'info', 'warn', 'error']) {
  console[level] = (...words) => wrong.push(words.join(' '));
}
Log.setLogLevel(Log.LOG_LEVEL_WARN ?? 3);

const bytes = fs.readFileSync(process.argv[2]);
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
buffer.fileStart = 0;
const file = createFile(true);
file.onError = (module, message) => wrong.push(`${module}: ${message}`);
file.appendBuffer(buffer, true);
file.flush();

// Boxes fill what they are in, from its beginning to its end, and each is understood to the end.
function tile(boxes, start, end, where) {
  let at = start ?? boxes[0]?.start ?? end;
  for (const box of boxes) {
    const name = `${where}/${box.type}`;
    if (box.start !== at) wrong.push(`${name} begins at ${box.start} instead of ${at}`);
    if (box.has_unparsed_data) wrong.push(`${name} has bytes that mean nothing`);
    at = box.start + box.size;
    // How long the fields before the boxes within are, only the parser knows.
    if (box.boxes?.length) tile(box.boxes, undefined, at, name);
    if (box.type === 'stsd') tile(box.entries, undefined, at, name);
  }
  if (at !== end) wrong.push(`${where} ends at ${at} instead of ${end}`);
}
tile(file.boxes, 0, bytes.length, '');

const media = file.boxes.filter((box) => box.type === 'mdat');
const within = (sample) =>
  media.some(
    (mdat) =>
      sample.offset >= mdat.start + mdat.hdr_size &&
      sample.offset + sample.size <= mdat.start + mdat.size,
  );
const types = file.boxes.map((box) => box.type);
if (types.indexOf('moov') > types.indexOf('mdat')) wrong.push('the media come before the index');
let samples = 0;
for (const track of file.getInfo().tracks) {
  let before = null;
  for (const sample of file.getTrackSamplesInfo(track.id)) {
    const name = `sample ${sample.number} of the ${track.codec} track`;
    samples += 1;
    if (sample.size === 0) wrong.push(`${name} is empty`);
    if (!within(sample)) wrong.push(`${name} is outside of the media`);
    if (before && sample.dts <= before.dts) wrong.push(`${name} is decoded before the one before`);
    if (!before && !sample.is_sync) wrong.push(`${name} cannot be decoded by itself`);
    before = sample;
  }
  const last = before ? before.dts + before.duration : 0;
  if (track.duration && Math.abs(track.duration - last) > track.timescale) {
    wrong.push(`the ${track.codec} track says ${track.duration}, and lasts ${last}`);
  }
}
// A fragment begins where the one before ended, or later: then there is a gap.
const ends = new Map();
const fragments = file.boxes.filter((box) => box.type === 'moof');
fragments.forEach((fragment, i) => {
  if (fragment.mfhd.sequence_number !== i + 1) wrong.push(`fragment ${i + 1} has another number`);
  for (const { tfhd, tfdt, truns } of fragment.trafs) {
    const begins = tfdt.baseMediaDecodeTime;
    const lasts = truns.flatMap((run) => run.sample_duration).reduce((sum, each) => sum + each, 0);
    if (begins < (ends.get(tfhd.track_id) ?? 0)) {
      wrong.push(`fragment ${i + 1} of track ${tfhd.track_id} begins before the end of another`);
    }
    if (!(lasts > 0)) wrong.push(`fragment ${i + 1} of track ${tfhd.track_id} has no duration`);
    ends.set(tfhd.track_id, begins + lasts);
  }
});
if (samples === 0) wrong.push('there is nothing in it');
process.stdout.write(wrong.map((line) => `${line}\n`).join(''));
