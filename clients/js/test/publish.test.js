// What is published, and what each publisher hears: batches that are refused, text that is none, bytes by any WebSocket.
import assert from 'node:assert/strict';
import { WebSocket } from 'ws';
import Version7 from 'ws-7';
import { WebSocket as Version817 } from 'ws-8.17';
import { ALL, isUpOf, scene, until } from './scene.js';

const HTTP = ALL.slice(1);
const outcomes = (promises) => Promise.allSettled(promises).then((all) => all.map(({ value, reason }) => (reason ? reason.code : value ?? 'published')));
const published = (engine, topic) => (engine.topics.get(topic)?.items ?? []).map(({ data }) => data);

// Because of a bug: 64 lines of a burst made a batch that the engine refused as a whole, and each publisher was refused.
scene('a burst larger than the engine takes at once is published in parts, in order', async (engine, join) => {
  engine.faults.messageMax = 1024;
  const client = join({ transport: 'sse' });
  const burst = Array.from({ length: 60 }, (_, n) => `${n} ${'ü'.repeat(400)}`);
  const all = await outcomes(burst.map((data) => client.publish('p', data)));
  assert.deepEqual(all.filter((cursor) => cursor !== 'published' && !cursor.startsWith('feed0001-')), []);
  assert.deepEqual(published(engine, 'p'), burst);
  // It knows now: the next burst is right at once.
  const refused = () => engine.bodies.filter(({ length }) => length > 16 * 1024).length;
  const before = refused();
  await Promise.all(burst.map((data) => client.publish('q', data)));
  assert.deepEqual([published(engine, 'q'), refused()], [burst, before]);
});

scene('batches are measured in bytes, not in characters', async (engine, join) => {
  const client = join({ transport: 'sse' });
  await Promise.all(Array.from({ length: 40 }, () => client.publish('p', '\u20ac'.repeat(10_000))));
  assert.equal(published(engine, 'p').length, 40);
  assert.ok(Math.max(...engine.bodies.map(({ length }) => length)) <= 256 * 1024);
});

for (const [what, wrong, at, code] of [
  ['too large', { data: 'x'.repeat(2000) }, [0], 'too-large'], ['too large', { data: 'x'.repeat(2000) }, [7, 8, 20, 39], 'too-large'],
  ['for a topic that is refused', { topic: 'q' }, [39], 'bad-command'], ['wrong', { topic: 'q' }, Array.from({ length: 40 }, (_, n) => n), 'bad-command'],
]) {
  scene(`of a batch, only what is ${what} is refused, each with its own answer, and the rest keeps its order: ${at.length} of 40`, async (engine, join) => {
    Object.assign(engine.faults, { messageMax: 1024, refused: 'q' });
    const client = join({ transport: 'long-poll' });
    const all = Array.from({ length: 40 }, (_, n) => ({ topic: 'p', data: `${n}`, ...(at.includes(n) && wrong) }));
    const told = await outcomes(all.map(({ topic, data }) => client.publish(topic, data)));
    told.forEach((said, n) => (at.includes(n) ? assert.equal(said, code) : assert.notEqual(said, code)));
    assert.deepEqual(published(engine, 'p'), all.filter((_, n) => !at.includes(n)).map(({ data }) => data));
    assert.ok(engine.bodies.length <= 4 * at.length + 10, `${engine.bodies.length} requests`);
  });
}

scene('what a proxy that lost the engine says leaves open whether it was published', async (engine, join) => {
  for (const status of [502, 504]) {
    const fetch = (url, init) => (init?.method === 'POST' ? Promise.resolve(new Response('bad gateway', { status })) : globalThis.fetch(url, init));
    const client = join({ transport: 'poll', fetch });
    await assert.rejects(client.publish('p', 'x'), { status, isSent: true });
  }
});

for (const transport of ALL) {
  // Because of a bug: a batch with such a text was refused, a WebSocket took it.
  scene(`${transport}: half of a surrogate pair is U+FFFD, in a batch and alone; in a name it is refused at once`, async (engine, join) => {
    const client = join({ transport });
    const wrong = 'a\ud800b\udfffc\ud83d';
    const right = 'a\ufffdb\ufffdc\ufffd';
    await Promise.all([client.publish('p', wrong), client.publish('p', { [wrong]: 1 }), client.publish('p', '\ud83d\ude00')]);
    await client.publish('p', wrong);
    assert.deepEqual(published(engine, 'p'), [right, JSON.stringify({ [wrong]: 1 }), '\ud83d\ude00', right]);
    for (const topic of [wrong, 't\udc00', 'a/.', '..', './b', 'a/../b']) {
      assert.throws(() => client.publish(topic, 'x'), TypeError);
      assert.throws(() => client.subscribe(topic, () => {}), TypeError);
    }
    assert.throws(() => client.publish('p', 'x', { event: '\ud800' }), TypeError);
    assert.deepEqual(client.errors, []);
  });
}

/** WebSockets that hand out bytes in ways of their own. */
const handing = (change) => class extends WebSocket {
  set onmessage(hear) {
    super.onmessage = ({ data }) => hear({ data: typeof data === 'string' ? data : change(Buffer.from(data)) });
  }

  get onmessage() {
    return super.onmessage;
  }
};

for (const [what, Class] of Object.entries({
  'ws 7.5': Version7, 'ws 8.17': Version817, 'the newest ws': WebSocket, 'one that hands out Buffers': handing((data) => data),
  'one that hands out fragments': handing((data) => [data.subarray(0, 5), data.subarray(5, 6), data.subarray(6)]),
})) {
  // Because of a bug: before 8.18, `ws` cannot send a Blob.
  scene(`bytes come and go through a WebSocket of ${what}`, async (engine, join) => {
    const client = join({ transport: 'websocket', WebSocket: Class });
    const got = [];
    client.subscribe('t', { since: 'live' }, ({ data }) => got.push(typeof data === 'string' ? data : [...data]));
    await isUpOf(client, 'websocket');
    const buffer = Uint8Array.of(1, 255, 0, 10, 254, 7);
    for (const data of [buffer, buffer.buffer, new DataView(buffer.buffer, 1, 3), Buffer.from([255]), 'text']) await client.publish('t', data);
    await until(() => got.length === 5);
    assert.deepEqual(got, [[...buffer], [...buffer], [255, 0, 10], [255], 'text']);
    assert.deepEqual(client.errors, []);
  });
}
