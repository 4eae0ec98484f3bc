// One WHIP (RFC 9725) or WHEP session with the server, and a connection that keeps such a session
// alive. The pages own the RTCPeerConnection's tracks; this file owns its signalling.

import { extensionAddress } from './events.js';
import { HttpProblem, explain, isPermanent } from './messages.js';
import { token } from './token.js';

const CONNECT_TIMEOUT_MS = 15000;
const DISCONNECT_GRACE_MS = 2000;
const TRICKLE_BATCH_MS = 100;
const WAITING_RETRY_MS = 2000;
const RETRY_MAX_MS = 30000;
const SDP_FRAGMENT = 'application/trickle-ice-sdpfrag';

const sleep = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });

const lines = (sdp) => sdp.split(/\r?\n/).filter((line) => line.length > 0);

const attribute = (section, name) =>
  section.find((line) => line.startsWith(`a=${name}:`))?.slice(name.length + 3);

// The session-level lines and the first bundled m-section: with `max-bundle` the only one that
// has a transport, hence the only one candidates belong to.
function transportSection(sdp) {
  const all = lines(sdp);
  const starts = all.flatMap((line, index) => (line.startsWith('m=') ? [index] : []));
  const session = all.slice(0, starts[0] ?? all.length);
  const media = starts.map((start, i) => all.slice(start, starts[i + 1] ?? all.length));
  return { session, first: media[0] ?? [] };
}

// RFC 8840 9: what a PATCH says about our side of ICE.
function fragment(sdp, candidates, complete) {
  const { session, first } = transportSection(sdp);
  const body = session.filter((line) => line.startsWith('a=group:BUNDLE'));
  const media = first[0].replace(/^m=(\S+) \d+/, 'm=$1 9');
  body.push(media, `a=mid:${attribute(first, 'mid')}`);
  for (const name of ['ice-ufrag', 'ice-pwd']) {
    const value = attribute(first, name) ?? attribute(session, name);
    body.push(`a=${name}:${value}`);
  }
  body.push(...candidates.map((candidate) => `a=${candidate}`));
  if (complete) body.push('a=end-of-candidates');
  return body.join('\r\n') + '\r\n';
}

// RFC 9725 4.3.3: the answer of an ICE restart is the old answer with new credentials and
// candidates.
function restartedAnswer(answer, reply) {
  const fresh = lines(reply);
  const ufrag = attribute(fresh, 'ice-ufrag');
  const pwd = attribute(fresh, 'ice-pwd');
  if (!ufrag || !pwd) throw new Error('the answer to the ICE restart has no credentials');
  const candidates = fresh.filter((line) => line.startsWith('a=candidate:'));
  const moved = candidates.length > 0;
  const out = [];
  for (const line of lines(answer)) {
    if (line.startsWith('a=ice-ufrag:')) out.push(`a=ice-ufrag:${ufrag}`);
    else if (line.startsWith('a=ice-pwd:')) out.push(`a=ice-pwd:${pwd}`);
    else if (line.startsWith('a=mid:')) out.push(line, ...candidates.splice(0));
    else if (!(moved && /^a=(candidate|end-of-candidates)/.test(line))) out.push(line);
  }
  return out.join('\r\n') + '\r\n';
}

/** Header extensions that browsers have but do not offer by themselves. */
export const EXTENSIONS = {
  captureTime: 'http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time',
  // Without it, libwebrtc takes each spatial layer of AV1 for a picture of its own and shows none.
  dependencies:
    'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension',
};

/** Has a transceiver offer these header extensions too, in browsers where that can be chosen. */
export function offerExtensions(transceiver, uris) {
  const known = transceiver.getHeaderExtensionsToNegotiate?.();
  if (!known) return;
  for (const extension of known) {
    if (uris.includes(extension.uri)) extension.direction = 'sendrecv';
  }
  transceiver.setHeaderExtensionsToNegotiate(known);
}

/** One session: POST, trickled PATCHes, ICE restarts, DELETE. */
export class Session {
  constructor(url, token) {
    this.url = url;
    this.token = token;
    this.location = null;
    this.etag = null;
    this.eventsAddress = null;
    this.layerAddress = null;
    this.restarts = 0;
    this.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require' });
    this.candidates = [];
    this.gathered = false;
    this.trickling = false;
    this.trickleTimer = 0;
    this.closed = new AbortController();
    this.lost = new Promise((resolve) => (this.lose = resolve));
    this.pc.addEventListener('icecandidate', (event) => this.#gather(event.candidate));
  }

  async #request(method, url, headers, body) {
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    const signal = AbortSignal.any([this.closed.signal, AbortSignal.timeout(CONNECT_TIMEOUT_MS)]);
    const response = await fetch(url, { method, headers, body, signal, cache: 'no-store' });
    if (!response.ok) throw await HttpProblem.from(response);
    return response;
  }

  /** Offers what the transceivers of `pc` say and resolves when media can flow. */
  async open() {
    await this.pc.setLocalDescription();
    const response = await this.#request(
      'POST',
      this.url,
      { 'Content-Type': 'application/sdp' },
      this.pc.localDescription.sdp,
    );
    const location = response.headers.get('Location');
    if (!location) throw new Error('the server gave the session no address (Location)');
    this.location = new URL(location, response.url).href;
    this.etag = response.headers.get('ETag');
    const extension = (name) =>
      extensionAddress(name, response.headers.get('Link'), response.url);
    this.eventsAddress = extension('server-sent-events');
    this.layerAddress = extension('layer');
    await this.pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
    this.#resumeTrickle();
    await this.#connected();
    this.#watch();
  }

  #gather(candidate) {
    // An empty candidate line ends one generation; a null candidate ends gathering.
    if (candidate === null) this.gathered = true;
    else if (candidate.candidate) this.candidates.push(candidate.candidate);
    this.#scheduleTrickle();
  }

  #resumeTrickle() {
    this.trickling = true;
    this.#scheduleTrickle();
  }

  #scheduleTrickle() {
    if (!this.trickling || this.trickleTimer || this.closed.signal.aborted) return;
    if (this.candidates.length === 0 && !this.gathered) return;
    this.trickleTimer = setTimeout(() => {
      this.trickleTimer = 0;
      this.#trickle();
    }, TRICKLE_BATCH_MS);
  }

  async #trickle() {
    if (!this.trickling) return;
    const candidates = this.candidates.splice(0);
    const body = fragment(this.pc.localDescription.sdp, candidates, this.gathered);
    this.gathered = false;
    const headers = { 'Content-Type': SDP_FRAGMENT };
    if (this.etag) headers['If-Match'] = this.etag;
    try {
      await this.#request('PATCH', this.location, headers, body);
    } catch (error) {
      // The server sees our address in the first connectivity check anyway, and a server that
      // does not trickle says so here (RFC 9725 4.3.1): neither ends the session.
      if (!this.closed.signal.aborted) console.info('candidates were not taken:', error.message);
    }
  }

  async #connected() {
    const deadline = AbortSignal.timeout(CONNECT_TIMEOUT_MS);
    for (;;) {
      const state = this.pc.connectionState;
      if (state === 'connected') return;
      if (state === 'failed' || deadline.aborted) throw new Error('no-media-path');
      if (state === 'closed') throw new DOMException('closed', 'AbortError');
      await new Promise((resolve) => {
        for (const signal of [deadline, this.closed.signal]) {
          signal.addEventListener('abort', resolve, { once: true });
        }
        this.pc.addEventListener('connectionstatechange', resolve, { once: true });
      });
    }
  }

  #watch() {
    let mending = false;
    const mend = async () => {
      if (mending) return;
      mending = true;
      try {
        if (this.pc.iceConnectionState === 'disconnected') {
          await sleep(DISCONNECT_GRACE_MS, this.closed.signal);
        }
        if (['disconnected', 'failed'].includes(this.pc.iceConnectionState)) {
          this.onmending?.();
          await this.restart();
        }
        this.onmended?.();
      } catch (error) {
        console.info('the connection could not be restored:', error.message);
        this.lose(new Error('session-lost'));
      }
      mending = false;
    };
    this.pc.addEventListener('iceconnectionstatechange', () => {
      if (['disconnected', 'failed'].includes(this.pc.iceConnectionState)) mend();
    });
    // DTLS is over: the server said goodbye. No restart of ICE mends that.
    const dtls = (this.pc.getReceivers()[0] ?? this.pc.getSenders()[0])?.transport;
    dtls?.addEventListener('statechange', () => {
      if (['closed', 'failed'].includes(dtls.state)) this.lose(new Error('session-ended'));
    });
  }

  /** Restarts ICE on the running session (RFC 9725 4.3.3); media continues when it returns. */
  async restart() {
    this.trickling = false;
    this.candidates = [];
    this.gathered = false;
    const answer = this.pc.remoteDescription.sdp;
    await this.pc.setLocalDescription(await this.pc.createOffer({ iceRestart: true }));
    const response = await this.#request(
      'PATCH',
      this.location,
      { 'Content-Type': SDP_FRAGMENT, 'If-Match': '*' },
      fragment(this.pc.localDescription.sdp, [], false),
    );
    this.etag = response.headers.get('ETag') ?? this.etag;
    const sdp = restartedAnswer(answer, await response.text());
    await this.pc.setRemoteDescription({ type: 'answer', sdp });
    this.restarts += 1;
    this.#resumeTrickle();
    await this.#connected();
  }

  /** Ends the session here and on the server; `keepalive` lets the page go away meanwhile. */
  close() {
    if (this.closed.signal.aborted) return;
    this.closed.abort();
    clearTimeout(this.trickleTimer);
    this.pc.close();
    this.lose(null);
    if (!this.location) return;
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    fetch(this.location, { method: 'DELETE', headers, keepalive: true }).catch(() => {});
  }
}

/**
 * Keeps one session open until `stop`: restores it, opens it anew with growing pauses, waits for
 * a stream that has not begun. Fires `state` with `{state, text}`; states are `idle`,
 * `connecting`, `connected`, `restoring`, `waiting`, `retrying`, `failed`.
 */
export class Connection extends EventTarget {
  constructor({ role, url, prepare }) {
    super();
    this.role = role;
    this.url = url;
    this.prepare = prepare;
    this.state = 'idle';
    this.text = '';
    /** Whether it failed for want of a token, or of another one. */
    this.needsToken = false;
    this.session = null;
    this.stopping = null;
    this.waking = new AbortController();
    addEventListener('online', () => this.waking.abort());
  }

  get pc() {
    return this.session?.pc ?? null;
  }

  #set(state, text) {
    this.state = state;
    this.text = text;
    this.dispatchEvent(new CustomEvent('state', { detail: { state, text } }));
  }

  start() {
    if (this.stopping) return;
    this.needsToken = false;
    this.stopping = new AbortController();
    this.#run(this.stopping.signal);
  }

  stop() {
    this.stopping?.abort();
    this.stopping = null;
    this.session?.close();
    this.#set('idle', '');
  }

  async #run(stopped) {
    for (let failures = 0; !stopped.aborted; ) {
      if (this.state !== 'waiting') {
        this.#set('connecting', failures === 0 ? 'Connecting …' : 'Trying again …');
      }
      const session = new Session(this.url, token());
      this.session = session;
      let error = null;
      try {
        this.prepare(session.pc);
        session.onmending = () =>
          this.#set('restoring', 'The connection was interrupted; restoring it …');
        session.onmended = () => this.#set('connected', '');
        await session.open();
        if (stopped.aborted) break;
        failures = 0;
        this.#set('connected', '');
        error = await session.lost;
      } catch (caught) {
        error = caught;
      } finally {
        session.close();
      }
      if (stopped.aborted) return;
      failures += 1;
      if (await this.#pause(error, failures, stopped)) return;
    }
  }

  // Says what went wrong and waits; true if trying again would be of no use.
  async #pause(error, failures, stopped) {
    if (this.role === 'watch' && error?.status === 404) {
      this.#set('waiting', 'Waiting for the publisher: this stream has not begun.');
      await sleep(WAITING_RETRY_MS, stopped);
      return false;
    }
    const reason = explain(error, this.role);
    if (isPermanent(error)) {
      this.needsToken = [401, 403].includes(error.status);
      this.stopping = null;
      this.#set('failed', reason);
      return true;
    }
    // Pauses grow and differ from viewer to viewer, so that a server that returns is not
    // met by all of them at once.
    const grown = Math.min(RETRY_MAX_MS, 500 * 2 ** failures) * (0.75 + Math.random() / 2);
    const pause_ms = Math.max(grown, (error?.retryAfter_s ?? 0) * 1000);
    const pause_s = Math.max(1, Math.round(pause_ms / 1000));
    this.#set('retrying', `${reason} Trying again in ${pause_s} s …`);
    this.waking = new AbortController();
    await sleep(pause_ms, AbortSignal.any([stopped, this.waking.signal]));
    return false;
  }
}
