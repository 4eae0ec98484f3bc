// Session descriptions. Janus offers to its subscribers, and so do WHEP clients: both are given an
// answer made from the other's offer.
import { Refusal } from '../front.mjs';

/** The lines of a description: those ahead of the first section, and each section. */
export function parse(sdp) {
  const parts = sdp.replace(/\r/g, '').split(/\n(?=m=)/);
  const [head, ...sections] = parts.map((part) => part.split('\n').filter(Boolean));
  return { head, sections: sections.map((lines) => new Section(lines, head)) };
}

class Section {
  constructor(lines, head) {
    this.lines = lines;
    this.head = head;
    [this.kind, this.port, this.protocol, ...this.formats] = lines[0].slice(2).split(' ');
  }

  get mid() {
    return this.get('mid');
  }

  /** The values of every `a=NAME:` line. */
  all(name, lines = this.lines) {
    const start = `a=${name}:`;
    return lines.filter((line) => line.startsWith(start)).map((line) => line.slice(start.length));
  }

  /** The first value, here or ahead of all sections. */
  get(name) {
    return this.all(name)[0] ?? this.all(name, this.head)[0];
  }

  /** Name, clock rate and channels of a payload type; one channel is not told from two. */
  codec(format) {
    const map = this.all('rtpmap').find((value) => value.startsWith(`${format} `));
    return map?.split(' ')[1].toLowerCase().replace(/\/[12]$/, '');
  }
}

/** The section that answers `offer` on behalf of the one who wrote `peer`. */
export function answerSection(offer, peer, direction, setup) {
  const formats = offer.formats.filter((format) => {
    const codec = offer.codec(format);
    return codec && peer.formats.includes(format) && peer.codec(format) === codec;
  });
  if (!formats.length) {
    const both = `${offer.lines[0]} / ${peer.lines[0]}`;
    throw new Refusal(406, `WHEP must offer the publisher's payload types: ${both}`);
  }
  const shared = (name) => offer.all(name).filter((value) => peer.all(name).includes(value));
  const attributes = (names, from) =>
    names.flatMap((name) => from(name).map((value) => `a=${name}:${value}`));
  const of = (format) => (name) =>
    offer.all(name).filter((value) => value.startsWith(`${format} `));
  const candidates = attributes(['candidate'], (name) => peer.all(name));
  const sources = attributes(['msid', 'ssrc-group', 'ssrc'], (name) => peer.all(name));
  return [
    `m=${offer.kind} 9 ${offer.protocol} ${formats.join(' ')}`,
    'c=IN IP4 127.0.0.1',
    `a=mid:${offer.mid}`,
    `a=${direction}`,
    'a=rtcp-mux',
    ...attributes(['ice-ufrag', 'ice-pwd', 'fingerprint'], (name) => [peer.get(name)]),
    `a=setup:${setup}`,
    ...formats.flatMap((format) => attributes(['rtpmap', 'fmtp'], of(format))),
    ...attributes(['rtcp-fb'], (name) =>
      shared(name).filter((value) => formats.includes(value.split(' ')[0])),
    ),
    // Only where both sides chose the same id.
    ...attributes(['extmap'], shared),
    ...candidates,
    ...(candidates.length ? ['a=end-of-candidates'] : []),
    ...(direction === 'sendonly' ? sources : []),
  ];
}

/** The section that declines `offer`. */
export function declineSection(offer) {
  const line = offer.lines[0].replace(/^(m=\w+) \d+/, '$1 0');
  return [line, 'c=IN IP4 127.0.0.1', `a=mid:${offer.mid}`, 'a=inactive'];
}

/** A whole description; `mids` are those of the sections that are not declined. */
export function description(mids, lite, sections) {
  const lines = [
    'v=0',
    `o=- ${Date.now()} 2 IN IP4 127.0.0.1`,
    's=-',
    't=0 0',
    `a=group:BUNDLE ${mids.join(' ')}`,
    ...(lite ? ['a=ice-lite'] : []),
    'a=msid-semantic: WMS *',
    ...sections.flat(),
  ];
  return `${lines.join('\r\n')}\r\n`;
}
