// The client against a small engine in memory that breaks down in every way a network does.
import assert from 'node:assert/strict';
import { connect } from '../corecast.js';
import { FakeEngine } from './fake-engine.js';
import { ALL, fakeLocks, isUpOf, scene, until } from './scene.js';

for (const transport of ALL) {
  scene(`${transport}: messages keep text, lines, bytes and event names`, async (engine, join) => {
    const client = join({ transport });
    const got = [];
    client.subscribe('a/b c', { since: 'earliest' }, (message) => got.push(message));
    engine.publish('a/b c', 'one');
    engine.publish('a/b c', 'zwei\nZeilen\r\nund ü\u2028', 'tick');
    engine.publish('a/b c', '');
    engine.publish('a/b c', new Uint8Array([255, 0, 10, 254]));
    await until(() => got.length === 4);
    assert.deepEqual(got.map(({ cursor }) => cursor), [1, 2, 3, 4].map((n) => `feed0001-${n}`));
    assert.equal(got[0].data, 'one');
    assert.equal(got[0].topic, 'a/b c');
    assert.equal(got[1].event, 'tick');
    assert.equal(got[1].data, 'zwei\nZeilen\r\nund ü\u2028');
    assert.equal(got[2].data, '');
    assert.deepEqual([...got[3].data], [255, 0, 10, 254]);
    await isUpOf(client, transport);
    engine.publish('a/b c', 'line\u2028end'); // Because of a bug: in an event that ended the data.
    await until(() => got.length === 5);
    assert.equal(got[4].data, 'line\u2028end');
    assert.deepEqual(client.errors, []);
  });

  scene(`${transport}: connections that are cut make neither hole nor duplicate`, async (engine, join) => {
    const client = join({ transport });
    const got = { x: [], y: [], live: [] };
    for (const topic of ['x', 'y']) client.subscribe(topic, { since: 'earliest' }, ({ data }) => got[topic].push(+data));
    client.subscribe('live', { since: 'live' }, ({ data }) => got.live.push(+data));
    engine.publish('live', 'before');
    await isUpOf(client, transport);
    await until(() => client.states.some(({ state }) => state === 'open'));
    if (transport === 'websocket') await until(() => engine.requests.filter((line) => line.startsWith('SUB')).length === 3);
    for (let n = 0; n < 60; n += 1) {
      engine.publish(n % 2 ? 'x' : 'y', String(n));
      engine.publish('live', String(n));
      if (n % 13 === 5) engine.cut();
      await new Promise((resolve) => setTimeout(resolve, n % 5));
    }
    await until(() => got.x.length >= 30 && got.y.length >= 30 && got.live.at(-1) === 59, 'all of it');
    assert.deepEqual(got.y, Array.from({ length: 30 }, (_, i) => 2 * i));
    assert.deepEqual(got.x, Array.from({ length: 30 }, (_, i) => 2 * i + 1));
    const live = got.live.filter((n) => !Number.isNaN(n));
    assert.deepEqual(live, Array.from({ length: live.length }, (_, i) => 60 - live.length + i), 'no hole');
    assert.deepEqual(client.gaps, []);
  });

  scene(`${transport}: what comes twice is dropped, and a gap is told once`, async (engine, join) => {
    const client = join({ transport });
    for (let n = 1; n <= 9; n += 1) engine.publish('t', `${n}`);
    engine.forget('t', 2);
    engine.faults.twice = true;
    const got = [];
    const gaps = [];
    client.subscribe('t', { since: 'feed0001-3', onGap: (gap) => gaps.push(gap) }, ({ data }) => got.push(data));
    await until(() => got.length === 2);
    engine.publish('t', '10');
    await until(() => got.length === 3);
    assert.deepEqual(got, ['8', '9', '10']);
    assert.deepEqual(gaps, [{ topic: 't', from: 'feed0001-3', to: 'feed0001-7', count: 4, reason: 'expired' }]);
    assert.deepEqual(client.gaps, gaps);
  });

  if (['sse', 'stream'].includes(transport)) scene(`${transport}: why the engine ends a stream is told, and it goes on`, async (engine, join) => {
    const client = join({ transport });
    const [got, refused] = [[], []];
    client.on('refused', (why) => {
      refused.push(why);
      engine.faults.refuses = undefined;
    });
    engine.faults.refuses = { name: 'full', text: 'no room' };
    client.subscribe('t', { since: 'earliest' }, ({ data }) => got.push(data));
    engine.publish('t', '1');
    await until(() => refused.length && got.length && engine.streaming, 'the next stream');
    const waits = () => client.states.filter(({ state }) => state === 'waiting');
    assert.deepEqual(waits().map(({ error }) => [error.code, error.message]), [['full', 'no room']]);
    // What has stood for a while may end, for whatever reason.
    const stood = Date.now();
    await until(() => Date.now() - stood > 600, 'a while');
    engine.refuse('draining', 'so long');
    engine.publish('t', '2');
    await until(() => got.length === 2);
    assert.deepEqual(refused, [{ name: 'full', text: 'no room' }, { name: 'draining', text: 'so long' }]);
    assert.deepEqual([got, waits().length, client.errors, client.gaps], [['1', '2'], 1, [], []]);
  });

  scene(`${transport}: a new epoch is a gap, then what there is`, async (engine, join) => {
    const client = join({ transport });
    const got = [];
    client.subscribe('t', { since: 'earliest' }, ({ data }) => got.push(data));
    engine.publish('t', 'old');
    await until(() => got.length === 1);
    engine.topics.set('t', { epoch: 'feed0002', next: 1, items: [] });
    engine.publish('t', 'new');
    engine.cut();
    await until(() => got.length === 2);
    assert.deepEqual(got, ['old', 'new']);
    assert.deepEqual(client.gaps.map(({ reason }) => reason), ['epoch']);
  });

  scene(`${transport}: publishes what waited for the connection, in order`, async (engine, join) => {
    const client = join({ transport });
    const cursors = await Promise.all([
      client.publish('p', 'a'), client.publish('p', { n: 1 }), client.publish('p', new Uint8Array([255]), { event: 'e' }),
    ]);
    assert.deepEqual(engine.topics.get('p').items.map(({ data }) => data), ['a', '{"n":1}', new Uint8Array([255])]);
    assert.equal(engine.topics.get('p').items[2].event, 'e');
    assert.deepEqual(cursors, transport === 'websocket' ? [1, 2, 3].map((n) => `feed0001-${n}`) : [null, null, null]);
    if (transport !== 'websocket') assert.deepEqual(engine.batches, [3], 'one request');
    assert.equal(await client.publish('p', 'alone'), 'feed0001-4');
    engine.faults.refused = 'q';
    const both = await Promise.allSettled([client.publish('q', '1'), client.publish('p', 'good')]);
    assert.deepEqual(both.map(({ status }) => status), ['rejected', 'fulfilled'], 'only the guilty one is refused');
    assert.match(both[0].reason.message, /refused/);
  });
}

scene('the best transport that works is found, and remembered', async (engine, join) => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  for (const [i, transport] of ALL.entries()) {
    kept.clear();
    engine.faults.blocked = ALL.slice(0, i);
    const client = join({ storage });
    const got = [];
    client.subscribe('t', ({ data }) => got.push(data));
    await isUpOf(client, transport);
    engine.publish('t', transport);
    await until(() => got.at(-1) === transport);
    client.close();
    engine.requests.length = 0;
    const again = join({ storage });
    again.subscribe('t', { since: 'live' }, () => {});
    await isUpOf(again, transport);
    assert.ok(!engine.requests.some((line) => ALL.slice(0, i).some((name) => line.includes(`transport=${name}`))), 'not tried again');
    again.close();
  }
});

scene('a transport that opens and says nothing is left', async (engine, join) => {
  engine.faults.silent = ['websocket', 'sse', 'stream'];
  const client = join();
  const got = [];
  client.subscribe('t', { since: 'live' }, ({ data }) => got.push(data));
  await isUpOf(client, 'long-poll');
  engine.publish('t', 'through');
  await until(() => got.length === 1);
});

scene('an engine that is away is waited for; the transport that worked is kept', async (engine, join) => {
  const client = join();
  const got = [];
  client.subscribe('t', { since: 'earliest' }, ({ data }) => got.push(data));
  await isUpOf(client, 'websocket');
  engine.publish('t', '1');
  await until(() => got.length === 1);
  const { port } = engine;
  await engine.stop();
  await until(() => client.states.filter(({ state }) => state === 'waiting').length > 5);
  const next = await FakeEngine.start(port);
  next.topics = engine.topics;
  next.publish('t', '2');
  await until(() => got.length === 2);
  assert.equal(client.transport, 'websocket');
  const names = new Set(client.states.map(({ transport }) => transport).filter(Boolean));
  assert.deepEqual([...names], ['websocket']);
  client.close();
  await next.stop();
});

for (const transport of ['stream', 'long-poll']) {
  scene(`${transport}: Retry-After is obeyed, by reading and publishing`, async (engine, join) => {
    engine.faults.full = 2;
    const started = Date.now();
    const client = join({ transport });
    const got = [];
    client.subscribe('t', ({ data }) => got.push(data));
    await client.publish('t', 'patience');
    assert.ok(Date.now() - started > 950, `the answers said to wait a second: ${Date.now() - started}`);
    await until(() => got.length === 1);
    const asked = (verb) => engine.requests.filter((line) => line.startsWith(verb)).length;
    assert.ok(asked('POST') <= 3, 'no hurry');
    assert.equal(client.states.find(({ state }) => state === 'waiting').error.status, 503);
  });
}

scene('a full engine is not mistaken for a blocked transport', async (engine, join) => {
  engine.faults.full = -1;
  engine.faults.blocked = ['websocket'];
  const client = join();
  client.subscribe('t', () => {});
  await until(() => client.states.some(({ state }) => state === 'waiting'));
  const { waitMs, error } = client.states.find(({ state }) => state === 'waiting');
  assert.ok(waitMs >= 1000, `${waitMs}`);
  assert.ok(error);
});

scene('pauses double from the first to the longest, half of each by chance', async (engine, join) => {
  await engine.stop();
  const client = join({ transport: 'websocket', backoffMs: [4, 50] });
  const pauses = () => client.states.filter(({ state }) => state === 'waiting').map(({ waitMs }) => waitMs);
  await until(() => pauses().length >= 8);
  pauses().forEach((ms, i) => {
    const full = Math.min(50, 4 * 2 ** i);
    assert.ok(ms >= full / 2 && ms <= full, `pause ${i}: ${ms} ms of ${full}`);
  });
  assert.equal(new Set(pauses()).size, pauses().length, 'by chance');
});

scene('a WebSocket closed with 1013 comes back after a second at least', async (engine, join) => {
  const client = join({ transport: 'websocket' });
  await isUpOf(client, 'websocket');
  engine.close(1013, 'the engine is full');
  await until(() => client.states.some(({ state }) => state === 'waiting'));
  const { waitMs, error } = client.states.find(({ state }) => state === 'waiting');
  assert.ok(waitMs >= 1000 && waitMs <= 1250, `${waitMs}`);
  assert.deepEqual([error.code, error.message], [1013, 'the engine is full']);
});

scene('a WebSocket closed with words for when to come back comes back then', async (engine, join) => {
  const client = join({ transport: 'websocket' });
  await isUpOf(client, 'websocket');
  engine.close(1001, 'the engine is shutting down; try again in 2s');
  await until(() => client.states.some(({ state }) => state === 'waiting'));
  const { waitMs, error } = client.states.find(({ state }) => state === 'waiting');
  assert.ok(waitMs >= 2000 && waitMs <= 2500, `${waitMs}`);
  assert.deepEqual([error.code, error.message, error.retryMs], [1001, 'the engine is shutting down', 2000]);
});

scene('words for when to come back that mean years mean a day', async (engine, join) => {
  const client = join({ transport: 'websocket' });
  await isUpOf(client, 'websocket');
  engine.close(1013, 'the engine is overloaded; try again in 999999999s');
  await until(() => client.states.some(({ state }) => state === 'waiting'));
  assert.equal(client.states.find(({ state }) => state === 'waiting').error.retryMs, 86_400_000);
});

scene('a transport that opens and soon dies, again and again, is left', async (engine, join) => {
  engine.faults.brief = ['websocket', 'sse'];
  const client = join();
  const got = [];
  client.subscribe('t', { since: 'earliest' }, ({ data }) => got.push(data));
  await isUpOf(client, 'stream');
  engine.publish('t', 'through');
  await until(() => got.length === 1);
});

scene('without a WebSocket, as in Node 20, the client begins with server-sent events', async (engine, join) => {
  const client = join({ WebSocket: null });
  client.subscribe('t', () => {});
  await isUpOf(client, 'sse');
  assert.ok(!engine.requests.includes('UPGRADE'));
  assert.throws(() => connect(engine.url, { WebSocket: null, transport: 'websocket' }), /no WebSocket/);
});

scene('topics with long names travel in requests that fit into the heads of proxies', async (engine, join) => {
  const client = join({ transport: 'long-poll' });
  const got = new Set();
  for (let n = 0; n < 64; n += 1) {
    const topic = `${n}/${'ü'.repeat(120)}`;
    engine.publish(topic, 'x');
    client.subscribe(topic, () => got.add(topic));
  }
  await until(() => got.size === 64);
  assert.ok(Math.max(...engine.requests.map((line) => line.length)) < 8000);
});

for (const transport of ['websocket', 'sse', 'long-poll']) {
  scene(`${transport}: who publishes after subscribing hears it`, async (engine, join) => {
    const client = join({ transport });
    client.subscribe('other', () => {});
    await isUpOf(client, transport);
    for (let n = 0; n < 10; n += 1) {
      const got = [];
      client.subscribe(`t${n}`, { since: 'live' }, ({ data }) => got.push(data));
      await client.publish(`t${n}`, 'mine');
      await until(() => got.length === 1);
    }
  });
}

scene('a loop that is behind stops reading, and goes on where it stopped: nothing is lost but what was forgotten', async (engine, join) => {
  const client = join({ transport: 'websocket' });
  const loop = client.messages('t', { since: 'live' });
  await until(() => engine.requests.some((line) => line.startsWith('SUB t')));
  const [count, most] = [5000, 4096];
  for (let n = 0; n < count; n += 1) engine.publish('t', `${n}`);
  await until(() => engine.requests.some((line) => line.startsWith('UNSUB t')), 'it stops reading');
  const got = [];
  for await (const { data } of loop) if (got.push(Number(data)) && data === `${count - 1}`) break;
  assert.deepEqual(got.slice(0, most), Array.from({ length: most }, (_, i) => i));
  assert.equal(client.gaps.reduce((sum, gap) => sum + gap.count, got.length), count, 'all is accounted for');
});

scene('many topics travel in requests of 64 with one list of cursors', async (engine, join) => {
  const client = join({ transport: 'long-poll' });
  const got = new Map();
  for (let n = 0; n < 70; n += 1) {
    engine.publish(`t${n}`, 'first');
    client.subscribe(`t${n}`, ({ topic, data }) => got.set(topic, data));
  }
  await until(() => got.size === 70);
  for (let n = 0; n < 70; n += 1) engine.publish(`t${n}`, 'second');
  await until(() => [...got.values()].every((data) => data === 'second'));
  const sizes = engine.requests.filter((line) => line.startsWith('GET /topics?')).map((line) => line.split('topic=').length - 1);
  assert.equal(Math.max(...sizes), 64);
  assert.deepEqual(client.errors, []);
});

scene('a second subscription has the history it asked for, the first nothing twice', async (engine, join) => {
  const client = join({ transport: 'websocket' });
  for (let n = 1; n <= 5; n += 1) engine.publish('t', `${n}`);
  const got = [];
  client.subscribe('t', ({ data }) => got.push(data));
  await until(() => got.length === 1);
  const starts = { earliest: ['1', '2', '3', '4', '5', '6'], '-2': ['4', '5', '6'], latest: ['5', '6'], live: ['6'], 'feed0001-3': ['4', '5', '6'] };
  const second = Object.keys(starts).map((since) => {
    const own = [];
    client.subscribe('t', { since }, ({ data }) => own.push(data));
    return own;
  });
  await until(() => second.every((own, i) => own.at(-1) === '5' || starts[Object.keys(starts)[i]].length === 1));
  engine.publish('t', '6');
  await until(() => second.every((own) => own.at(-1) === '6'));
  assert.deepEqual(second, Object.values(starts));
  assert.deepEqual(got, ['5', '6']);
});

scene('a second subscription to a topic that never rests stops asking, and has all of it, in order', async (engine, join) => {
  // Whenever it asks, another message has come: no answer is ever empty. It once asked for ever, and kept all that came.
  let asked = 0;
  let n = 0;
  const fetch = (url, options) => {
    asked += 1;
    engine.publish('t', `${(n += 1)}`);
    return globalThis.fetch(url, options);
  };
  const client = join({ transport: 'websocket', fetch });
  const first = [];
  client.subscribe('t', { since: 'earliest' }, ({ data }) => first.push(Number(data)));
  await isUpOf(client, 'websocket');
  while (n < 5) engine.publish('t', `${(n += 1)}`);
  await until(() => first.length === 5);
  for (const [since, from] of [['earliest', 1], ['feed0001-3', 4]]) {
    const second = [];
    asked = 0;
    client.subscribe('t', { since }, ({ data }) => second.push(Number(data)));
    await until(() => second.length > 0);
    engine.publish('t', `${(n += 1)}`);
    await until(() => second.at(-1) === n);
    assert.deepEqual(second, Array.from({ length: n - from + 1 }, (_, i) => from + i));
    assert.ok(asked <= 2, `it asked ${asked} times`);
  }
  assert.equal(first.at(-1), n);
  assert.deepEqual(client.errors, []);
});

scene('unsubscribing ends the messages, and the subscription at the engine with the last of a topic', async (engine, join) => {
  const client = join({ transport: 'websocket' });
  const got = [];
  const one = client.subscribe('t', { since: 'live' }, () => got.push(1));
  const two = client.subscribe('t', { since: 'live' }, () => got.push(2));
  await until(() => engine.requests.some((line) => line.startsWith('SUB t')));
  one.unsubscribe();
  engine.publish('t', 'x');
  await until(() => got.length === 1);
  two.unsubscribe();
  await until(() => engine.requests.some((line) => line.startsWith('UNSUB t')));
  engine.publish('t', 'y');
  assert.deepEqual(got, [2]);
});

scene('a loop gets messages, and unsubscribes when it is left or the client closes', async (engine, join) => {
  const client = join();
  for (const n of [1, 2, 3]) engine.publish('t', `${n}`);
  const got = [];
  for await (const { data } of client.messages('t', { since: 'earliest' })) if (got.push(data) === 3) break;
  assert.deepEqual(got, ['1', '2', '3']);
  await until(() => engine.requests.some((line) => line.startsWith('UNSUB')));
  const loop = (async () => {
    for await (const { data } of client.messages('other', { since: 'live' })) got.push(data);
    return 'over';
  })();
  client.close();
  assert.equal(await loop, 'over');
});

scene('a publication whose answer is lost says that it may have been published', async (engine, join) => {
  engine.faults.mute = true;
  const client = join({ transport: 'websocket' });
  const sent = client.publish('t', 'x');
  await until(() => engine.requests.some((line) => line.startsWith('PUB')));
  engine.cut();
  await assert.rejects(sent, (error) => error.isSent === true);
});

scene('wrong arguments are refused at once', async (engine, join) => {
  const client = join();
  for (const topic of ['', 'a//b', '/a', 'a+', 'a#', 'x'.repeat(256), 'a\n', undefined]) {
    assert.throws(() => client.subscribe(topic, () => {}), TypeError);
  }
  assert.throws(() => client.subscribe('a', { since: 'yesterday' }, () => {}), TypeError);
  assert.throws(() => client.publish('a', 'x', { event: 'two words' }), TypeError);
  assert.throws(() => client.publish('a', undefined), TypeError);
  assert.throws(() => client.on('nonsense', () => {}), TypeError);
  assert.throws(() => connect(engine.url, { transport: 'pigeon' }), TypeError);
  client.close();
  await assert.rejects(client.publish('a', 'x'), /closed/);
});

scene('tabs share one connection, and another takes over when the first closes', async (engine, join) => {
  const locks = fakeLocks();
  const tabs = [];
  for (let n = 0; n < 3; n += 1) {
    const tab = join({ shared: true, locks });
    tab.got = [];
    await until(() => tab.state === 'open');
    tab.subscribe('t', { since: n ? 'earliest' : 'live' }, ({ data }) => tab.got.push(data));
    tabs.push(tab);
  }
  assert.deepEqual(tabs.map(({ transport }) => transport), ['websocket', 'tab', 'tab']);
  await until(() => engine.requests.some((line) => line.startsWith('SUB t')));
  assert.equal(await tabs[1].publish('t', '1'), 'feed0001-1');
  await until(() => tabs.every(({ got }) => got.length === 1));
  assert.equal(engine.requests.filter((line) => line === 'UPGRADE').length, 1);
  tabs[0].close();
  engine.publish('t', '2');
  await until(() => tabs[1].got.length === 2 && tabs[2].got.length === 2);
  assert.deepEqual(tabs.map(({ got }) => got), [['1'], ['1', '2'], ['1', '2']]);
  assert.deepEqual(tabs.slice(1).map(({ transport }) => transport), ['websocket', 'tab']);
  assert.equal(engine.requests.filter((line) => line === 'UPGRADE').length, 2);
});
