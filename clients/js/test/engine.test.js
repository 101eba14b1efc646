// The client in Node against a real engine: `CORECAST_URL=http://127.0.0.1:8080 npm test`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import Version7 from 'ws-7';
import { WebSocket as Version817 } from 'ws-8.17';
import { connect } from '../corecast.js';

const url = process.env.CORECAST_URL;
const skip = url ? false : 'CORECAST_URL is not set';
const ALL = ['websocket', 'sse', 'stream', 'long-poll', 'poll'];
const QUICK = { WebSocket, backoffMs: [20, 200], pollMs: 50 };
let topics = 0;
const newTopic = () => `js test/${process.pid}-${Date.now()}-${(topics += 1)}`;

async function until(is, what) {
  for (const end = Date.now() + 10_000; !is();) {
    if (Date.now() > end) assert.fail(`waited in vain: ${what ?? is}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

for (const transport of ALL) {
  test(`${transport}: history, live messages, bytes and events`, { skip }, async () => {
    const topic = newTopic();
    const client = connect(url, { ...QUICK, transport });
    try {
      const first = await client.publish(topic, 'one');
      await client.publish(topic, 'two\nlines\u2028', { event: 'tick' });
      const got = [];
      client.subscribe(topic, { since: first }, (message) => got.push(message));
      await until(() => got.length === 1);
      await client.publish(topic, new Uint8Array([255, 0, 10]));
      await client.publish(topic, '');
      await until(() => got.length === 3);
      assert.equal(client.transport, transport);
      assert.equal(got[0].topic, topic);
      assert.equal(got[0].data, 'two\nlines\u2028');
      assert.equal(got[0].event, 'tick');
      assert.deepEqual([...got[1].data], [255, 0, 10]);
      assert.equal(got[2].data, '');
    } finally {
      client.close();
    }
  });

  test(`${transport}: three topics, one of them not there yet, and an old cursor`, { skip }, async () => {
    const [old, live, later] = [newTopic(), newTopic(), newTopic()];
    const client = connect(url, { ...QUICK, transport });
    const gaps = [];
    client.on('gap', (gap) => gaps.push(gap));
    try {
      const cursor = await client.publish(old, '0');
      for (let n = 1; n <= 100; n += 1) await client.publish(old, `${n}`);
      await client.publish(live, 'not this');
      const got = { [old]: [], [live]: [], [later]: [] };
      client.subscribe(old, { since: cursor }, ({ data }) => got[old].push(+data));
      client.subscribe(live, { since: 'live' }, ({ data }) => got[live].push(data));
      client.subscribe(later, { since: 'latest' }, ({ data }) => got[later].push(data));
      await until(() => got[old].at(-1) === 100);
      const [gap] = gaps;
      assert.equal(gap.reason, 'expired');
      assert.equal(got[old].length + gap.count, 100);
      // What a client publishes after it subscribed, it hears.
      await Promise.all([client.publish(live, 'this'), client.publish(later, 'that')]);
      await until(() => got[live].length && got[later].length);
      assert.deepEqual([got[live], got[later], gaps.length], [['this'], ['that'], 1]);
    } finally {
      client.close();
    }
  });
}

for (const [name, Class] of [['7.5', Version7], ['8.17', Version817]]) {
  // Because of a bug: before 8.18, `ws` cannot send a Blob.
  test(`ws ${name}: bytes and text go through, both ways`, { skip }, async () => {
    const topic = newTopic();
    const client = connect(url, { ...QUICK, WebSocket: Class, transport: 'websocket' });
    try {
      const got = [];
      client.subscribe(topic, { since: 'earliest' }, ({ data }) => got.push(typeof data === 'string' ? data : [...data]));
      for (const data of [Uint8Array.of(255, 10, 0), 'gr\u00fcn', Buffer.of(254), new Uint8Array(60_000).fill(128), '']) await client.publish(topic, data);
      await until(() => got.length === 5);
      assert.deepEqual(got, [[255, 10, 0], 'gr\u00fcn', [254], [...new Uint8Array(60_000).fill(128)], '']);
    } finally {
      client.close();
    }
  });
}

for (const transport of ALL) {
  // Because of a bug: over HTTP one refused subscription ended all others for ever, without an `error` event.
  test(`${transport}: a topic that the engine refuses is told, and the others go on`, { skip }, async () => {
    const topic = newTopic();
    const client = connect(url, { ...QUICK, transport });
    const [got, errors] = [[], []];
    client.on('error', (error) => errors.push(error));
    try {
      client.subscribe(topic, { since: 'earliest' }, ({ data }) => got.push(data));
      for (const bad of ['$a', '$b']) client.subscribe(bad, () => {});
      await until(() => errors.length === 2);
      await client.publish(topic, 'x');
      await until(() => got.length === 1);
      assert.deepEqual(errors.map((error) => [error.topic, error.code]).sort(), [['$a', 'bad-topic'], ['$b', 'bad-topic']]);
      // A publication that is refused says the same on every way.
      await assert.rejects(client.publish('$a', 'x'), { code: 'bad-topic', message: 'topics that start with $ belong to the engine' });
    } finally {
      client.close();
    }
  });
}

test('changing transports in mid-stream makes neither hole nor duplicate', { skip }, async () => {
  const topic = newTopic();
  const publisher = connect(url, QUICK);
  const got = [];
  try {
    let cursor = 'earliest';
    let n = 0;
    for (const transport of [...ALL, ...ALL.toReversed()]) {
      const client = connect(url, { ...QUICK, transport });
      const wanted = got.length + 5;
      const sub = client.subscribe(topic, { since: cursor }, ({ data }) => got.push(+data));
      for (let i = 0; i < 6; i += 1) await publisher.publish(topic, `${n++}`);
      await until(() => got.length >= wanted, transport);
      client.close(); // Perhaps before the last one came.
      cursor = sub.cursor;
    }
    assert.deepEqual(got, Array.from(got, (_, i) => i));
    assert.ok(got.length >= 5 * 2 * ALL.length);
  } finally {
    publisher.close();
  }
});

test('the first choice is a WebSocket, or without one, server-sent events', { skip }, async () => {
  const withOne = connect(url, QUICK);
  await until(() => withOne.state === 'open');
  assert.equal(withOne.transport, 'websocket');
  withOne.close();
  if (globalThis.WebSocket) return;
  const without = connect(url, { backoffMs: [20, 200] });
  without.subscribe('probe', () => {});
  await until(() => without.state === 'open');
  assert.equal(without.transport, 'sse');
  without.close();
});
