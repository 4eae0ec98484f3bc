// Turns what went wrong into words a person can act on.

/** An answer of the server that was not a success. */
export class HttpProblem extends Error {
  constructor(status, detail, retryAfter_s) {
    super(detail || `HTTP ${status}`);
    this.status = status;
    this.detail = detail;
    this.retryAfter_s = retryAfter_s;
  }

  static async from(response) {
    const type = response.headers.get('Content-Type') ?? '';
    let text = /^(text\/plain|application\/(problem\+)?json)/.test(type)
      ? (await response.text().catch(() => '')).trim()
      : '';
    if (type.includes('json')) {
      try {
        const problem = JSON.parse(text);
        text = String(problem.detail ?? problem.error ?? problem.title ?? '');
      } catch {
        text = '';
      }
    }
    const retryAfter_s = Number(response.headers.get('Retry-After')) || 0;
    return new HttpProblem(response.status, text.slice(0, 300), retryAfter_s);
  }
}

const HTTP = {
  400: 'The server could not read this browser’s session description.',
  401: 'A token is needed here, or another one: whoever runs the server gives it to you.',
  403: 'The token of this page does not allow this.',
  404: {
    publish: 'This server does not take streams under this name.',
    watch: 'There is no such stream.',
  },
  405: 'The server does not do this here; is this the right address?',
  406: {
    publish: 'The server and this browser have no codec in common; choose another one.',
    watch: 'This browser cannot play any codec the server offers.',
  },
  409: {
    publish: 'Somebody is already publishing under this name; choose another or wait for them.',
    watch: 'The stream is not ready to be watched.',
  },
  415: 'The page and the server are of different versions. Reload the page.',
  422: 'The server understood the session description but cannot serve it.',
  429: 'Too many requests came from here.',
  503: 'The server is full or shutting down.',
};

const MEDIA = {
  NotAllowedError:
    'The browser was not allowed to use the device. Allow it in the address bar, then press Start.',
  NotFoundError: 'No camera or microphone was found. Connect one, or choose the test card.',
  NotReadableError: 'The camera or microphone is in use by another program.',
  OverconstrainedError: 'The camera cannot give this resolution; choose a smaller one.',
  SecurityError: 'The browser forbids cameras and screens on this page.',
};

const INSECURE =
  'Cameras and screens work only on secure pages: open this page over https, or on localhost. ' +
  'The test card works here.';

/** Words for any error of a session or of a media source. */
export function explain(error, role) {
  if (error?.name === 'InsecureContext') return INSECURE;
  if (error instanceof HttpProblem) {
    const known = HTTP[error.status];
    const other =
      error.status >= 500
        ? 'The server had an internal error.'
        : `The server refused (HTTP ${error.status}).`;
    const words = (typeof known === 'string' ? known : known?.[role]) ?? other;
    return error.detail ? `${words} (${error.detail})` : words;
  }
  if (error?.name in MEDIA) return MEDIA[error.name];
  if (navigator.onLine === false) return 'This device is not connected to any network.';
  if (error?.message === 'no-media-path') {
    return 'The server answered, but no media gets through: UDP may be blocked on the way to it.';
  }
  if (error?.message === 'session-ended') return 'The server ended the session.';
  if (error?.message === 'session-lost') return 'The connection was lost.';
  if (error?.name === 'TimeoutError') return 'The server did not answer in time.';
  if (error instanceof TypeError) return 'The server cannot be reached.';
  return error?.message ? `${error.message}.` : 'The connection was lost.';
}

/** Whether the same attempt would fail in the same way. */
export function isPermanent(error) {
  const passing = [404, 408, 412, 429];
  return error instanceof HttpProblem && error.status < 500 && !passing.includes(error.status);
}

/** The error of asking for a device on a page that is not secure. */
export function insecureContext() {
  return Object.assign(new Error('insecure context'), { name: 'InsecureContext' });
}
