// What a test with the engine in memory is: a name that says what it shows, an engine, and a way to connect to it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { connect } from '../corecast.js';
import { FakeEngine } from './fake-engine.js';

export const ALL = ['websocket', 'sse', 'stream', 'long-poll', 'poll'];
const QUICK = { WebSocket, backoffMs: [10, 100], pollMs: 20, silenceMs: 300, openMs: 1000, waitS: 2 };

/** Waits until `is` is true; fails after ten seconds. */
export async function until(is, what) {
  for (const end = Date.now() + 10_000; !is();) {
    if (Date.now() > end) assert.fail(`waited in vain: ${what ?? is}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Runs `body` with an engine and a way to connect to it; ends both. */
export function scene(name, body) {
  test(name, { timeout: 30_000 }, async () => {
    const engine = await FakeEngine.start();
    const clients = [];
    const join = ({ url = engine.url, ...options } = {}) => {
      const client = connect(url, { ...QUICK, ...options });
      client.errors = [];
      client.gaps = [];
      client.states = [];
      client.on('error', (error) => client.errors.push(error));
      client.on('gap', (gap) => client.gaps.push(gap));
      client.on('state', (state) => client.states.push(state));
      clients.push(client);
      return client;
    };
    try {
      await body(engine, join);
    } finally {
      for (const client of clients) client.close();
      await engine.stop();
    }
  });
}

export const isUpOf = (client, transport) => until(() => client.state === 'open' && client.transport === transport, transport);

/** Stands in for `navigator.locks`, which Node 20 has not: a queue per name. */
export function fakeLocks() {
  const queues = new Map();
  const next = async (name) => {
    const queue = queues.get(name);
    await queue[0]();
    queue.shift();
    if (queue.length) next(name);
  };
  return { request(name, held) {
    const queue = queues.get(name) ?? [];
    queues.set(name, queue);
    if (queue.push(held) === 1) next(name);
  } };
}
