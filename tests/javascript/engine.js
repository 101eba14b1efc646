// One engine process under test: started on free ports, asked, stopped by its own process.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** Longest wait for anything in a test, in milliseconds. */
export const DEADLINE_MS = 10_000;

const BINARY = process.env.CORECAST_BINARY ?? new URL('../../target/debug/corecast', import.meta.url).pathname;
let topics = 0;

/** Returns a topic that no other test uses. */
export const newTopic = (name = 't') => `test/${name}/${(topics += 1)}`;

/** Waits until `is()` is true or resolves to something true, and returns that. */
export async function until(is, what = String(is)) {
  for (const end = Date.now() + DEADLINE_MS; ;) {
    const found = await is();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export class Engine {
  #process;
  #output = '';

  /** Starts an engine with these flags besides those for its ports. */
  static async start(...flags) {
    const engine = new Engine();
    const ports = ['--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0'];
    engine.#process = spawn(BINARY, ['serve', ...ports, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    engine.ended = new Promise((resolve) => engine.#process.once('exit', (code, signal) => resolve(code ?? signal)));
    engine.ended.then((status) => {
      engine.status = status;
    });
    engine.#process.once('error', (error) => {
      engine.status = error.message;
    });
    for (const pipe of [engine.#process.stdout, engine.#process.stderr]) {
      createInterface({ input: pipe }).on('line', (line) => {
        engine.#output += `${line}\n`;
      });
    }
    await until(() => {
      if (engine.status !== undefined) throw new Error(`the engine did not start: ${engine.status}\n${engine.#output}`);
      engine.url = /^listening on (http:\S+)/m.exec(engine.#output)?.[1];
      engine.tlsUrl = /^listening on (https:\S+)/m.exec(engine.#output)?.[1];
      engine.adminUrl = /^admin on (http:\S+)/m.exec(engine.#output)?.[1];
      return engine.url && engine.adminUrl;
    }, 'the engine to start');
    return engine;
  }

  /** Lets it stand still, as a host does that has stopped; `goOn` ends that. */
  standStill() {
    this.#process.kill('SIGSTOP');
  }

  goOn() {
    this.#process.kill('SIGCONT');
  }

  /** Stops it in order; fails if it had ended before, or ends with a fault. */
  async stop() {
    if (this.status !== undefined) throw new Error(`the engine ended by itself: ${this.status}\n${this.#output}`);
    this.#process.kill('SIGTERM');
    if ((await this.ended) !== 0) throw new Error(`the engine ended with ${this.status}\n${this.#output}`);
  }

  /** Returns the counters of all shards together. */
  async stats() {
    return (await (await fetch(`${this.adminUrl}/stats`)).json()).total;
  }

  /** Returns the URL of a topic, or of a list of topics, with a query. */
  at(topic, query = {}) {
    const url = new URL(Array.isArray(topic) ? '/topics' : `/topics/${encodeURIComponent(topic)}`, this.url);
    url.search = new URLSearchParams(query);
    if (Array.isArray(topic)) for (const each of topic) url.searchParams.append('topic', each);
    return url.href;
  }

  /** Publishes a payload, text or bytes, and returns its cursor. */
  async publish(topic, data, event) {
    const headers = event ? { 'Corecast-Event': event } : {};
    const answer = await fetch(this.at(topic), { method: 'POST', body: data, headers });
    if (!answer.ok) throw new Error(`not published: ${answer.status} ${await answer.text()}`);
    return (await answer.json()).cursor;
  }

  /** Publishes many at once, each `{ topic, data, event }`. */
  async publishAll(messages) {
    const line = ({ topic, data, event }) => JSON.stringify(
      typeof data === 'string' ? { topic, data, event } : { topic, data: Buffer.from(data).toString('base64'), event, encoding: 'base64' },
    );
    const headers = { 'Content-Type': 'application/x-ndjson' };
    const answer = await fetch(`${this.url}/topics`, { method: 'POST', body: messages.map(line).join('\n'), headers });
    assert.deepEqual(await answer.json(), { published: messages.length });
  }

  /** Waits until a topic of its own has that many subscribers; the engine must serve nobody else meanwhile. */
  async subscribed(count) {
    await until(async () => (await this.stats()).subscriptions === count, `${count} subscriptions`);
  }
}
