// Reads HLS as a client with low latency does, for some seconds, and parses each playlist by the letter of
// the drafts (hls-parser, strict). Says what it has seen as JSON; fails with what is wrong.
//
// Usage: node hls_check.cjs URL RELOADS

const HLS = require('hls-parser');

HLS.setOptions({ strictMode: true });

const [start, reloads] = [process.argv[2], Number(process.argv[3])];

async function load(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return response;
}

async function playlist(url) {
  const text = await (await load(url)).text();
  try {
    return HLS.parse(text);
  } catch (error) {
    throw new Error(`${error.message}\n${text}`);
  }
}

function expect(is, what) {
  if (!is) throw new Error(what);
}

async function main() {
  const master = await playlist(start);
  expect(master.isMasterPlaylist && master.variants.length === 1, 'one variant');
  const [variant] = master.variants;
  expect(variant.codecs && variant.bandwidth >= variant.averageBandwidth, 'what the variant is');
  const media = new URL(variant.uri, start);
  const files = new Set();
  const bytes = {};
  let last = await playlist(media);
  for (let count = 0; count < reloads; count++) {
    const open = last.segments.at(-1);
    const complete = open.uri ? 0 : 1;
    const next = new URL(media);
    // The part after the last one that is listed.
    const parts = complete ? open.parts.filter((part) => !part.hint).length : 0;
    const number = last.mediaSequenceBase + last.segments.length - complete;
    next.searchParams.set('_HLS_msn', number);
    next.searchParams.set('_HLS_part', parts);
    const now = await playlist(next);
    expect(now.mediaSequenceBase >= last.mediaSequenceBase, 'media sequence numbers go back');
    expect(now.targetDuration === last.targetDuration, 'another target duration');
    // What is in both is the same in both.
    const then = new Map(last.segments.filter((one) => one.uri).map((one) => [one.mediaSequenceNumber, one]));
    for (const segment of now.segments) {
      const before = then.get(segment.mediaSequenceNumber);
      if (!before) continue;
      expect(segment.uri === before.uri && segment.duration === before.duration, `${segment.uri} is another`);
      expect(+segment.programDateTime === +before.programDateTime, `${segment.uri} is of another time`);
    }
    for (const segment of now.segments) {
      if (segment.map) files.add(segment.map.uri);
      if (segment.uri) files.add(segment.uri);
      for (const part of segment.parts) if (!part.hint) files.add(part.uri);
    }
    last = now;
  }
  // Those that are still listed.
  const listed = last.segments.flatMap((one) => [one.map?.uri, one.uri, ...one.parts.filter((part) => !part.hint).map((part) => part.uri)]);
  for (const uri of new Set(listed.filter(Boolean))) {
    bytes[uri] = (await (await load(new URL(uri, media))).arrayBuffer()).byteLength;
  }
  // A segment is its parts.
  for (const segment of last.segments.filter((one) => one.uri && one.parts.length)) {
    const sum = segment.parts.reduce((all, part) => all + bytes[part.uri], 0);
    expect(sum === bytes[segment.uri], `${segment.uri} has ${bytes[segment.uri]} bytes, and its parts ${sum}`);
  }
  console.log(JSON.stringify({ codecs: variant.codecs, files: files.size, checked: Object.keys(bytes).length }));
}

main().catch((error) => {
  console.error(error.message, error.cause ?? "");
  process.exit(1);
});
