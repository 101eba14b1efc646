// The client in Node against a real engine: `CORECAST_URL=http://127.0.0.1:8080 npm test`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
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
