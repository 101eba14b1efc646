// The npm packages `ws` and `eventsource` straight against the engine.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { EventSource } from 'eventsource';
import { WebSocket } from 'ws';
import { Engine, newTopic, until } from './engine.js';
import { scene } from './scene.js';

/** Opens a WebSocket; `heard` gets what comes, text as strings, the rest as arrays of bytes. */
async function open(engine, path, { protocol = [], ...options } = {}) {
  const ws = new WebSocket(`${engine.url.replace('http', 'ws')}${path}`, protocol, options);
  ws.heard = [];
  ws.on('message', (data, isBinary) => ws.heard.push(isBinary ? [...data] : data.toString()));
  ws.closed = once(ws, 'close').then(([code, reason]) => [code, reason.toString()]);
  ws.heardSome = (count) => until(() => ws.heard.length >= count && ws.heard, `${count} messages; there are ${ws.heard.length}`);
  await once(ws, 'open');
  return ws;
}

const line = (engine, options) => open(engine, '/ws', { protocol: 'corecast.v1', ...options });
const raw = (engine, topic, since) => open(engine, `/topics/${encodeURIComponent(topic)}?since=${since}`);

for (const [offers, perMessageDeflate] of [['offering permessage-deflate, as it does by default', true], ['offering no extension', false]]) {
  scene(`npm ws, ${offers}: text, bytes, fragments, empty and large messages`, { flags: ['--echo'] }, async ({ engine }) => {
    const ws = await open(engine, '/echo', { perMessageDeflate });
    if (!perMessageDeflate) assert.equal(ws.extensions, '');
    const noise = Buffer.from(Array.from({ length: 60_000 }, (_, i) => (i * 7919 + (i >> 3) * 31) % 256));
    const sent = ['', 'short', 'gr\u00fcn \u2028', 'same '.repeat(12_000), Buffer.alloc(0), Buffer.of(255, 0, 254), noise];
    for (const message of sent) ws.send(message);
    ws.send('in ', { fin: false });
    ws.send('three ', { fin: false });
    ws.ping('between'); // A control frame between the fragments.
    ws.send('parts', { fin: true });
    const all = await ws.heardSome(sent.length + 1);
    assert.deepEqual(all, [...sent.map((message) => (typeof message === 'string' ? message : [...message])), 'in three parts']);
    ws.close(4321, 'bye');
    assert.deepEqual(await ws.closed, [4321, '']);
  });

  scene(`npm ws, ${offers}: subscribes over the line protocol and goes on behind its cursor`, {}, async ({ engine }) => {
    const topic = newTopic('ws');
    let ws = await line(engine, { perMessageDeflate });
    assert.equal(ws.protocol, 'corecast.v1');
    ws.send(`SUB ${topic} id=s`);
    await ws.heardSome(2);
    const messages = [`PUB ${topic} event=tick id=a\ntext ${'x'.repeat(2000)}`, Buffer.concat([Buffer.from(`PUB ${topic} id=b\n`), Buffer.of(255, 10, 0)])];
    for (const message of messages) ws.send(message);
    const all = await ws.heardSome(6);
    assert.match(all[0], /^HI corecast\.v1 [0-9a-f]{16}$/);
    assert.match(all[1], /^OK s [0-9a-f]{8}-0$/);
    const cursor = (token) => new RegExp(`^OK ${token} (.*)$`, 'm').exec(all.filter((each) => typeof each === 'string').join('\n'))[1];
    const received = all.filter((each) => typeof each !== 'string' || each.startsWith('MSG'));
    assert.equal(received[0], `MSG ${topic} ${cursor('a')} event=tick\ntext ${'x'.repeat(2000)}`);
    assert.deepEqual(received[1], [...Buffer.from(`MSG ${topic} ${cursor('b')}\n`), 255, 10, 0]);
    ws.terminate();
    await engine.publish(topic, 'while it was away');
    ws = await line(engine, { perMessageDeflate });
    ws.send(`SUB ${topic} since=${cursor('a')}`);
    const again = await ws.heardSome(3);
    assert.deepEqual(again[1], received[1]);
    assert.match(again[2], /\nwhile it was away$/);
    ws.terminate();
  });
}

scene('npm ws: a gap is a line of the protocol, and 1013 on a raw WebSocket', { flags: ['--history-messages', '4'] }, async ({ engine }) => {
  const topic = newTopic('ws');
  const cursors = [];
  for (let n = 0; n < 8; n += 1) cursors.push(await engine.publish(topic, `${n}`));
  const ws = await line(engine);
  ws.send(`SUB ${topic} since=${cursors[0]} id=s`);
  const all = await ws.heardSome(7);
  assert.deepEqual(all.slice(1, 3), [`OK s ${cursors[7]}`, `GAP ${topic} ${cursors[0]} ${cursors[3]} 3 expired`]);
  assert.deepEqual(all.slice(3).map((each) => each.split('\n')[1]), ['4', '5', '6', '7']);
  ws.terminate();
  const bare = await raw(engine, topic, cursors[0]);
  const [code, reason] = await bare.closed;
  assert.equal(code, 1013);
  assert.match(String(reason), /^messages were lost; subscribe again; try again in \d+s$/);
  assert.deepEqual(bare.heard, []);
});

scene('npm ws: pings of both sides are answered', { flags: ['--ping-interval', '1s', '--dead-after', '2s'] }, async ({ engine }) => {
  const ws = await line(engine);
  const pong = once(ws, 'pong');
  ws.ping(Buffer.of(1, 255, 3));
  assert.deepEqual([...(await pong)[0]], [1, 255, 3]);
  // It answers by itself; a peer that does not is cut off after two seconds.
  const mute = await line(engine, { autoPong: false });
  for (let n = 0; n < 3; n += 1) await once(ws, 'ping');
  assert.equal((await mute.closed)[0], 1006);
  assert.equal(ws.readyState, WebSocket.OPEN);
  ws.close();
  assert.deepEqual(await ws.closed, [1000, '']);
});

scene('npm ws: the engine closes with the code of the reason', { flags: ['--max-message', '1k', '--echo'] }, async ({ engine }) => {
  const large = await line(engine);
  large.send(`PUB ${newTopic('ws')} id=1\n${'x'.repeat(3000)}`);
  assert.equal((await large.closed)[0], 1009);
  const wrong = await open(engine, '/echo');
  wrong.send(Buffer.of(0xc3, 0x28), { binary: false });
  assert.equal((await wrong.closed)[0], 1007);
  const reserved = await raw(engine, '$sys/x', 'latest');
  reserved.send('x');
  assert.equal((await reserved.closed)[0], 1008);
  const still = await Engine.start();
  const ws = await line(still);
  await Promise.all([still.stop(), ws.closed]);
  const [code, reason] = await ws.closed;
  assert.equal(code, 1001);
  assert.match(reason, /^the engine is shutting down; try again in ([1-9]|10)s$/);
  assert.equal(ws.heard.at(-1), `BYE 1001 ${reason}`);
  const refused = new WebSocket(`${engine.url.replace('http', 'ws')}/ws`, { origin: 'http://evil.example' });
  const [error] = await once(refused, 'error');
  assert.match(error.message, /403/);
});

/** Opens an event stream; `heard` gets `[type, data, id]`. */
function source(url, names = []) {
  const events = new EventSource(url);
  events.heard = [];
  for (const name of ['message', 'corecast-gap', 'corecast-base64', ...names]) {
    events.addEventListener(name, ({ type, data, lastEventId }) => events.heard.push([type, data, lastEventId]));
  }
  events.heardSome = (count) => until(() => events.heard.length >= count && events.heard, `${count} events`);
  return events;
}

scene('npm eventsource: names, ids, lines and bytes', {}, async ({ engine }) => {
  const topic = newTopic('eventsource');
  const events = source(engine.at(topic, { transport: 'sse' }), ['tick']);
  const cursors = [];
  try {
    for (const [data, name] of [['one'], ['two\nlines \u2028'], ['', 'tick'], [Uint8Array.of(255, 0)]]) cursors.push(await engine.publish(topic, data, name));
    assert.deepEqual(await events.heardSome(4), [
      ['message', 'one', cursors[0]], ['message', 'two\nlines \u2028', cursors[1]], ['tick', '', cursors[2]], ['corecast-base64', '/wA=', cursors[3]],
    ]);
  } finally {
    events.close();
  }
});

scene('npm eventsource: comes back behind the last event it had; a gap is told', { flags: ['--stream-seconds', '1', '--history-messages', '4'] },
  async ({ engine, network }) => {
    const between = await network();
    const topic = newTopic('eventsource');
    const cursors = [await engine.publish(topic, '0')];
    const events = source(engine.at(topic, { transport: 'sse' }).replace(engine.url, between.url));
    try {
      await events.heardSome(1);
      // It comes back when all is published, not in the midst of it: on a busy machine that once was sooner.
      between.blocked.add('sse');
      await until(() => between.asked.length > 1, 'the end of the stream, and an attempt to come back');
      for (let n = 1; n < 8; n += 1) cursors.push(await engine.publish(topic, `${n}`));
      between.blocked.clear();
      const [, gap, ...rest] = await events.heardSome(6);
      assert.equal(gap[0], 'corecast-gap');
      assert.deepEqual(JSON.parse(gap[1]), { topic, from: cursors[0], to: cursors[3], count: 3, reason: 'expired' });
      assert.deepEqual(rest.map(([, data, id]) => [data, id]), [4, 5, 6, 7].map((n) => [`${n}`, cursors[n]]));
    } finally {
      events.close();
    }
  });

scene('npm eventsource: passes over blocks with only an `id:`, as the documentation warns; the objects of `enveloped=1` do without', {}, async ({ engine }) => {
  const topics = [newTopic('eventsource'), newTopic('eventsource')];
  for (const topic of topics) await engine.publish(topic, topic);
  const events = source(engine.at(topics, { transport: 'sse', since: 'earliest', enveloped: '1' }));
  try {
    // Which of two topics is told first is not said: each has an order of its own.
    const all = await events.heardSome(2);
    assert.deepEqual(all.map(([type, data, id]) => [type, JSON.parse(data).data, id]).sort(), topics.map((topic) => ['message', topic, '']).sort());
  } finally {
    events.close();
  }
});
