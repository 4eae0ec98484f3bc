// The HTTP front both peers are given, since neither speaks WHIP and WHEP itself; 127.0.0.1 only.
//
//   POST /whip/STREAM   a publisher's offer   -> 201, the answer, Location
//   POST /whep/STREAM   a viewer's offer      -> 201, the answer, Location
//   DELETE LOCATION     ends the session; a publisher's takes its stream along
//   GET /pid            the process whose CPU time and memory are the server's
import http from 'node:http';
import { randomUUID } from 'node:crypto';

/** A request that is answered with `status` and the reason. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * Listens on `port`. `whip` and `whep` take a stream's name and an offer, and give (a promise of)
 * `{ sdp, close }`: the answer, and what ends the session.
 */
export function serve(port, pid, { whip, whep }) {
  const open = { whip, whep };
  const sessions = new Map();

  async function reply(request, body) {
    const [, kind, stream, id] = request.url.split('/');
    if (request.method === 'GET' && request.url === '/pid') {
      return { status: 200, type: 'text/plain', body: String(pid) };
    }
    if (request.method === 'POST' && Object.hasOwn(open, kind) && stream && !id) {
      const session = await open[kind](stream, body);
      const location = `/${kind}/${stream}/${randomUUID()}`;
      sessions.set(location, session);
      return { status: 201, type: 'application/sdp', location, body: session.sdp };
    }
    const session = sessions.get(request.url);
    if (!session) throw new Refusal(404, 'no such session');
    if (request.method !== 'DELETE') throw new Refusal(405, 'a session can only be DELETEd');
    sessions.delete(request.url);
    await session.close();
    return { status: 200, type: 'text/plain', body: '' };
  }

  const server = http.createServer(async (request, response) => {
    let result;
    try {
      let body = '';
      for await (const chunk of request) body += chunk;
      result = await reply(request, body);
    } catch (error) {
      const status = error instanceof Refusal ? error.status : 500;
      const text = error instanceof Refusal ? error.message : error.stack;
      result = { status, type: 'text/plain', body: `${text}\n` };
    }
    const headers = { 'Content-Type': result.type };
    if (result.location) headers.Location = result.location;
    response.writeHead(result.status, headers).end(result.body);
  });
  server.listen(port, '127.0.0.1');
}
