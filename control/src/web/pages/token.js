// The token that a page shows the server: out of its own address (#token=..., which is sent nowhere, or
// ?token=...), or out of a field that appears when one is needed. It is kept as long as the tab is open,
// so that the pages it leads to have it too.

const KEY = 'fanmill-token';
const waiting = new Set();

function fromAddress() {
  const of = (text) => new URLSearchParams(text).get('token');
  // A plus sign is none of a blank: tokens have no blanks.
  return (of(location.hash.slice(1)) || of(location.search))?.replaceAll(' ', '+') || null;
}

// Storage may be switched off.
function kept() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function keep(token) {
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // Then it is this page's alone.
  }
}

let current = fromAddress() ?? kept();
if (fromAddress()) keep(current);

/** The token, or null. */
export const token = () => current;

/** Header fields of a request that show it. */
export const authorization = () => (current ? { Authorization: `Bearer ${current}` } : {});

/** An address that shows it, for elements that cannot send header fields, and for other programs. */
export function withToken(address) {
  if (!current) return address;
  return `${address}${address.includes('?') ? '&' : '?'}token=${encodeURIComponent(current)}`;
}

/** The address of another page, which has it too. */
export const pageWithToken = (path) =>
  current ? `${path}#token=${encodeURIComponent(current)}` : path;

/** Shows a field for a token in `place`, once; calls `then` when there is one. */
export function askForToken(place, then) {
  if (waiting.has(place)) return;
  waiting.add(place);
  const form = document.createElement('form');
  const field = document.createElement('input');
  const button = document.createElement('button');
  form.className = 'token row';
  field.type = 'password';
  field.name = 'token';
  field.required = true;
  field.autocomplete = 'off';
  field.placeholder = 'Token';
  field.setAttribute('aria-label', 'Token');
  button.textContent = 'Use this token';
  form.append(field, button);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    current = field.value.trim();
    keep(current);
    waiting.delete(place);
    form.remove();
    then();
  });
  place.append(form);
}
