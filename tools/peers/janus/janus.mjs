// A Janus of this process's own, and its HTTP API: one session, one long poll.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

import { Refusal } from '../front.mjs';

const EVENT_TIMEOUT_MS = 15_000;
const START_TIMEOUT_MS = 10_000;

const transaction = () => randomBytes(8).toString('hex');
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The program, and the folder of its plugins and transports as distributions lay it out. */
function installation() {
  const folders = (process.env.PATH ?? '').split(':');
  const program = folders.map((dir) => path.join(dir, 'janus')).find((file) => fs.existsSync(file));
  if (!program) throw new Error('janus is not in PATH; run tools/compare-peers install');
  const architecture = { x64: 'x86_64', arm64: 'aarch64' }[process.arch];
  const places = [`lib/${architecture}-linux-gnu/janus`, 'lib/janus'];
  const library = places
    .map((place) => path.join(path.dirname(program), '..', place))
    .find((folder) => fs.existsSync(folder));
  if (!library) throw new Error(`no plugins of janus in ${places.join(' or ')}`);
  return { program, library };
}

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Writes a configuration: videoroom and HTTP only, one thread for all media, no logging. */
function configure(folder, library, port) {
  const others = (kind, keep) => {
    const files = fs.readdirSync(path.join(library, kind));
    return files.filter((file) => file.endsWith('.so') && file !== keep).join(',');
  };
  const write = (name, text) => fs.writeFileSync(path.join(folder, name), text);
  write(
    'janus.jcfg',
    `general: {
  configs_folder = "${folder}"
  plugins_folder = "${library}/plugins"
  transports_folder = "${library}/transports"
  debug_level = 0
  session_timeout = 0
  candidates_timeout = 30
  event_loops = 1
}
media: { rtp_port_range = "20000-31999"; slowlink_threshold = 0 }
nat: { ice_lite = true; ice_enforce_list = "127.0.0.1"; ice_ignore_list = "vmnet" }
plugins: { disable = "${others('plugins', 'libjanus_videoroom.so')}" }
transports: { disable = "${others('transports', 'libjanus_http.so')}" }
events: { broadcast = false }
`,
  );
  write(
    'janus.transport.http.jcfg',
    `general: {
  json = "compact"; base_path = "/janus"
  http = true; port = ${port}; ip = "127.0.0.1"; https = false
}
admin: { admin_http = false }
`,
  );
  write('janus.plugin.videoroom.jcfg', 'general: { events = false }\n');
}

/** Starts Janus, which ends with this process and this process with it. Returns its pid. */
function start({ program, library }, port, shim) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'janus-'));
  configure(folder, library, port);
  const configuration = ['-F', folder, '-C', path.join(folder, 'janus.jcfg')];
  // Should this process be killed, Janus is too; setpriv becomes what it starts.
  const janus = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...configuration], {
    stdio: 'ignore',
    env: { ...process.env, LD_PRELOAD: shim },
  });
  let quitting = false;
  const quit = () => {
    quitting = true;
    janus.kill('SIGTERM');
    setTimeout(() => janus.kill('SIGKILL'), 3000);
  };
  janus.on('exit', (code, signal) => {
    if (!quitting) console.error(`janus ended by itself: ${signal ?? code}`);
    fs.rmSync(folder, { recursive: true, force: true });
    process.exit(quitting ? 0 : 1);
  });
  process.on('SIGTERM', quit);
  process.on('SIGINT', quit);
  return janus.pid;
}

/** The API: handles of the videoroom plugin, and messages to them. */
export class Janus {
  #agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
  #waiting = new Map();
  #base;
  #session;

  /** Starts Janus with `shim` preloaded and waits until it answers. */
  static async start(shim) {
    const janus = new Janus();
    const port = await freePort();
    janus.pid = start(installation(), port, shim);
    janus.#base = `http://127.0.0.1:${port}/janus`;
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!janus.#session) {
      try {
        const body = { janus: 'create', transaction: transaction() };
        janus.#session = (await janus.#call('', body)).data.id;
      } catch (error) {
        if (Date.now() > deadline) throw error;
        await sleep(50);
      }
    }
    janus.#poll();
    return janus;
  }

  #call(place, body) {
    return new Promise((resolve, reject) => {
      const options = { method: body ? 'POST' : 'GET', agent: body ? this.#agent : undefined };
      const request = http.request(`${this.#base}${place}`, options, (response) => {
        let text = '';
        response.on('data', (chunk) => (text += chunk));
        response.on('error', reject);
        response.on('end', () => {
          try {
            resolve(JSON.parse(text));
          } catch (error) {
            reject(error);
          }
        });
      });
      request.on('error', reject);
      request.end(body && JSON.stringify(body));
    });
  }

  async #poll() {
    for (;;) {
      const place = `/${this.#session}?maxev=50&rid=${Date.now()}`;
      const events = await this.#call(place).catch(() => null);
      if (!events) await sleep(50);
      for (const event of [events ?? []].flat()) {
        this.#waiting.get(event.transaction)?.(event);
        this.#waiting.delete(event.transaction);
      }
    }
  }

  /** A new handle. */
  async attach() {
    const body = { janus: 'attach', plugin: 'janus.plugin.videoroom', transaction: transaction() };
    return (await this.#call(`/${this.#session}`, body)).data.id;
  }

  /** Ends a handle and its PeerConnection. */
  async detach(handle) {
    const body = { janus: 'detach', transaction: transaction() };
    await this.#call(`/${this.#session}/${handle}`, body).catch(() => {});
  }

  /** Sends a request to the plugin; gives its data and its SDP, if any. */
  async message(handle, body, jsep) {
    const id = transaction();
    const event = new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new Refusal(504, `janus: no event for ${body.request}`));
      }, EVENT_TIMEOUT_MS);
      this.#waiting.set(id, (event) => {
        clearTimeout(timer);
        resolve(event);
      });
    });
    const message = { janus: 'message', transaction: id, body, ...(jsep && { jsep }) };
    const reply = await this.#call(`/${this.#session}/${handle}`, message);
    // Some requests are answered at once, the others are acknowledged and answered by an event.
    if (reply.janus !== 'ack') {
      this.#waiting.get(id)?.(reply);
      this.#waiting.delete(id);
    }
    const { plugindata, jsep: description } = await event.then((event) => {
      if (!event.plugindata?.data || event.plugindata.data.error) {
        throw new Refusal(502, JSON.stringify(event));
      }
      return event;
    });
    return { data: plugindata.data, sdp: description?.sdp };
  }
}
