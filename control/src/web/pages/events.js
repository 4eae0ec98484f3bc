// What the server tells of the stream while it is watched: WHEP's server-sent events
// (draft-ietf-wish-whep-02). They are read with fetch, which unlike EventSource can send a token
// and says with what status it was refused.

const EXTENSIONS = 'urn:ietf:params:whep:ext:core:';
const WANTED = ['active', 'inactive', 'paused', 'layers', 'viewercount'];
const RETRY_MIN_MS = 1000;
const RETRY_MAX_MS = 30000;
// The server sends something every 15 s.
const SILENCE_MS = 40000;
// Over HTTP/1.1 a browser has six connections to a server for all its pages together; if each kept
// one, the seventh page could not even be loaded.
const PLACES = 3;
const LEASE_MS = 10000;

const sleep = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });

/** The address of a WHEP extension in the `Link` field of a new session, or null. */
export function extensionAddress(extension, link, base) {
  for (const [, address, parameters] of (link ?? '').matchAll(/<([^>]*)>((?:[^,"]|"[^"]*")*)/g)) {
    const relations = parameters.match(/;\s*rel="?([^";]*)/i)?.[1].split(' ') ?? [];
    if (relations.includes(EXTENSIONS + extension)) return new URL(address, base).href;
  }
  return null;
}

// One of few places for pages of this browser that read events; null if all are taken.
function takePlace(page) {
  const [navigation] = performance.getEntriesByType('navigation');
  if (['h2', 'h3'].includes(navigation?.nextHopProtocol)) return '';
  try {
    const now = Date.now();
    for (let i = 0; i < PLACES; i += 1) {
      const key = `fanmill-events-${i}`;
      const [holder, until] = (localStorage.getItem(key) ?? '').split(' ');
      const left_ms = Number(until) - now;
      if (holder !== page && left_ms > 0 && left_ms <= LEASE_MS) continue;
      localStorage.setItem(key, `${page} ${now + LEASE_MS}`);
      return key;
    }
    return null;
  } catch {
    // Storage is switched off: nobody can count.
    return '';
  }
}

function leavePlace(key) {
  if (key) localStorage.removeItem(key);
}

// Calls `tell` with each event of a text/event-stream as it comes.
async function readEvents(body, tell, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    alive();
    const blocks = (text + value).replaceAll('\r\n', '\n').split('\n\n');
    text = blocks.pop();
    for (const block of blocks) {
      const fields = new Map(block.split('\n').map((line) => line.split(/: ?(.*)/s, 2)));
      if (fields.has('event')) tell(fields.get('event'), JSON.parse(fields.get('data') ?? '{}'));
    }
  }
}

/** Follows one session's events until it is closed. */
export class Events {
  /** `told` is called after every change of `live`, `paused`, `viewers` and `layers`; `ended` when the server says
   * that the session is over. Other events than of streams are `wanted` by name, and `heard` gets each. */
  constructor(session, { told, ended, wanted = WANTED, heard = () => {} }) {
    this.session = session;
    this.told = told;
    this.ended = ended;
    this.wanted = wanted;
    this.heard = heard;
    this.page = crypto.getRandomValues(new Uint32Array(2)).join('-');
    this.stream = null;
    this.reading = null;
    this.#forget();
    if (session.eventsAddress) this.#run(session.closed.signal);
  }

  // Without events `live` and `viewers` are null: not known.
  #forget() {
    this.live = null;
    this.viewers = null;
    this.paused = false;
    this.layers = [];
  }

  #tell(name, { viewercount, paused, ...layers }) {
    if (name === 'active') this.live = true;
    if (name === 'inactive') this.live = false;
    if (name === 'paused') this.paused = paused;
    // By media section; there is one with video.
    if (name === 'layers') this.layers = Object.values(layers).flat();
    if (name === 'inactive' || name === 'active') this.layers = [];
    if (name === 'viewercount') {
      this.viewers = viewercount;
      // It comes after what is so already, and that nobody publishes yet is not told.
      this.live ??= false;
    }
    this.told();
  }

  /** Reads anew: the way to the server may have changed. */
  again() {
    this.reading?.abort();
  }

  async #run(closed) {
    let failures = 0;
    while (!closed.aborted) {
      const place = takePlace(this.page);
      if (place === null) {
        await sleep(LEASE_MS / 2, closed);
        continue;
      }
      const renew = setInterval(() => takePlace(this.page), LEASE_MS / 4);
      try {
        if (await this.#read(closed)) return;
        failures = 0;
      } catch (error) {
        if (!closed.aborted) console.info('events are not read:', error.message);
        failures += 1;
      } finally {
        clearInterval(renew);
        leavePlace(place);
      }
      if (closed.aborted) return;
      this.#forget();
      this.told();
      const grown = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** failures);
      await sleep(grown * (0.75 + Math.random() / 2), closed);
    }
  }

  // Reads to the end; true if there is no more to be read.
  async #read(closed) {
    const reading = new AbortController();
    this.reading = reading;
    let timer = 0;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => reading.abort(), SILENCE_MS);
    };
    alive();
    const signal = AbortSignal.any([closed, reading.signal]);
    const request = async (method, url, body) => {
      const headers = body ? { 'Content-Type': 'application/json' } : {};
      const { token } = this.session;
      if (token) headers.Authorization = `Bearer ${token}`;
      return fetch(url, { method, headers, body, signal, cache: 'no-store' });
    };
    try {
      if (!this.stream) {
        const { eventsAddress: address } = this.session;
        const made = await request('POST', address, JSON.stringify(this.wanted));
        if (made.status === 404) return this.#over();
        const location = made.headers.get('Location');
        if (!made.ok || !location) throw new Error(`HTTP ${made.status}`);
        this.stream = new URL(location, made.url).href;
      }
      const response = await request('GET', this.stream);
      if (response.status === 404) return this.#over();
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const tell = (name, data) => {
        this.heard(name, data);
        this.#tell(name, data);
      };
      await readEvents(response.body, tell, alive);
      return false;
    } finally {
      clearTimeout(timer);
    }
  }

  #over() {
    this.#forget();
    this.ended();
    return true;
  }
}
