// What an engine refuses, and what it says when it wants to be left alone: the client must neither take others down with it
// nor ask in a storm.
import assert from 'node:assert/strict';
import http from 'node:http';
import { connect } from '../corecast.js';
import { ALL, fakeLocks, isUpOf, scene, until } from './scene.js';

/** As HTTP and the line protocol say it. */
const WAYS = {
  'a bad topic': { status: 400, body: '{"error":"topics that start with $ belong to the engine"}', code: 'bad-topic', text: 'topics that start with $ belong to the engine' },
  'what is forbidden': { status: 403, body: '{"error":"not yours"}', code: 'forbidden', text: 'not yours' },
  'what a proxy does not know': { status: 404, body: 'not found', code: 'too-many', text: 'not found' },
};
const gets = (engine, topic) => engine.requests.filter((line) => /^(GET|SUB)/.test(line) && line.includes(topic));
const reads = (engine) => engine.requests.filter((line) => line.startsWith('GET'));

/** Lets time pass on the wire: so many answers to somebody else, one after another. */
async function pass(engine, answers = 40) {
  for (let n = 0; n < answers; n += 1) await (await fetch(`${engine.url}/topics/clock`, { method: 'POST', body: 'tick' })).text();
}

for (const transport of ALL) {
  for (const [what, way] of Object.entries(WAYS)) {
    // Because of a bug: one refused subscription over HTTP ended all others for ever, and nobody was told.
    scene(`${transport}: ${what} is told once, to who asked for it, and all other topics go on`, async (engine, join) => {
      const client = join({ transport });
      const got = [];
      for (let n = 0; n < 9; n += 1) client.subscribe(`good ${n}`, { since: 'live' }, ({ topic }) => got.push(topic));
      await isUpOf(client, transport);
      engine.refusals.set('bad', way);
      client.subscribe('bad', () => got.push('bad'));
      await until(() => client.errors.length === 1, 'the error');
      const [error] = client.errors;
      assert.deepEqual([error.name, error.topic, error.message], ['CorecastError', 'bad', way.text]);
      assert.equal(error.status, transport === 'websocket' ? undefined : way.status);
      if (transport === 'websocket' || way.status !== 404) assert.equal(error.code, way.code);
      for (const round of [1, 2]) {
        for (let n = 0; n < 9; n += 1) await client.publish(`good ${n}`, 'x');
        await until(() => got.length === 9 * round, 'all others');
        if (round === 2) break;
        // On the next connection, too; that one request fails makes a client over HTTP begin anew.
        if (transport !== 'websocket') engine.faults.full = 1;
        engine.cut();
        await until(() => client.states.some(({ state }) => state === 'waiting'), 'the end of the connection');
        await isUpOf(client, transport);
      }
      assert.equal(got.includes('bad'), false);
      assert.equal(client.errors.length, 1, 'it is told once');
    });
  }

  scene(`${transport}: a refused topic that is all there is, is told, and does not make the client ask in a storm`, async (engine, join) => {
    engine.refusals.set('bad', WAYS['a bad topic']);
    const client = join({ transport });
    const sub = client.subscribe('bad', () => {});
    await until(() => client.errors.length === 1);
    await isUpOf(client, transport);
    await pass(engine);
    assert.ok(gets(engine, 'bad').length <= 2, `asked ${gets(engine, 'bad')}`);
    assert.equal(await client.publish('other', 'x'), 'feed0001-1', 'publishing works');
    // Nobody wants it any more: nothing is said about it, and it may be wanted anew.
    sub.unsubscribe();
    await client.publish('other', 'y');
    assert.equal(client.errors.length, 1);
    engine.refusals.clear();
    engine.publish('bad', 'now');
    const got = [];
    client.subscribe('bad', ({ data }) => got.push(data));
    await until(() => got.length === 1);
    assert.deepEqual([got, client.errors.length], [['now'], 1]);
  });

  scene(`${transport}: who subscribes to a refused topic again asks again`, async (engine, join) => {
    engine.refusals.set('bad', WAYS['a bad topic']);
    const client = join({ transport });
    const got = [];
    client.subscribe('good', ({ data }) => got.push(data));
    client.subscribe('bad', ({ data }) => got.push(data));
    await until(() => client.errors.length === 1);
    await isUpOf(client, transport);
    engine.refusals.clear();
    engine.publish('bad', 'now');
    client.subscribe('bad', { since: 'live' }, () => {});
    await until(() => got.length === 1);
    assert.equal(client.errors.length, 1);
  });
}

scene('half of sixty topics refused: each is told, all others are read, with a bounded number of requests', async (engine, join) => {
  const client = join({ transport: 'sse' });
  const got = new Set();
  for (let n = 0; n < 60; n += 1) {
    if (n % 2) engine.refusals.set(`t${n}`, WAYS['what is forbidden']);
    engine.publish(`t${n}`, 'x');
    client.subscribe(`t${n}`, ({ topic }) => got.add(topic));
  }
  await until(() => got.size === 30 && client.errors.length === 30);
  assert.deepEqual(new Set(client.errors.map(({ topic }) => topic)), new Set(engine.refusals.keys()));
  await isUpOf(client, 'sse');
  await pass(engine);
  assert.ok(reads(engine).length < 2 * 60 + 10, `${reads(engine).length} requests`);
  // The next connection asks for one of the refused, not for all of them.
  const before = reads(engine).length;
  engine.faults.full = 1;
  engine.cut();
  await until(() => client.state === 'waiting');
  await isUpOf(client, 'sse');
  await pass(engine);
  assert.ok(reads(engine).length - before < 10, `${reads(engine).length - before} requests`);
  assert.equal(client.errors.length, 30);
});

scene('a topic that was refused, and is not any more, comes back by itself; one that is wrong is not asked for again', async (engine, join) => {
  const { setTimeout: real } = globalThis;
  globalThis.setTimeout = (then, ms, ...words) => real(then, ms >= 30_000 ? 20 : ms, ...words); // The pauses of half a minute.
  try {
    const client = join({ transport: 'stream', idleMs: 25_000 });
    const got = [];
    engine.refusals.set('later', WAYS['what is forbidden']);
    engine.refusals.set('wrong', WAYS['a bad topic']);
    for (const topic of ['good', 'later', 'wrong']) client.subscribe(topic, ({ data }) => got.push(data));
    await until(() => client.errors.length === 2);
    const asked = gets(engine, 'wrong').length;
    await until(() => gets(engine, 'later').length > 10, 'it is asked for now and then');
    assert.equal(gets(engine, 'wrong').length, asked);
    engine.publish('later', 'at last');
    engine.refusals.delete('later');
    await until(() => got.length === 1);
    assert.equal(client.errors.length, 2);
  } finally {
    globalThis.setTimeout = real;
  }
});

scene('an engine that is full for a new topic does not take away the others', async (engine, join) => {
  const client = join({ transport: 'sse' });
  const got = [];
  client.subscribe('old', { since: 'live' }, ({ data }) => got.push(data));
  await isUpOf(client, 'sse');
  await until(() => gets(engine, 'sse').length === 1);
  engine.faults.fullFor = 'new'; // A poll needs no memory, a stream does.
  client.subscribe('new', () => {});
  await until(() => client.errors.length === 1);
  assert.deepEqual([client.errors[0].status, client.errors[0].code, client.errors[0].topic], [503, 'full', 'new']);
  await client.publish('old', 'x');
  await until(() => got.length === 1);
  assert.equal(client.state, 'open');
});

scene('where somebody refuses everything, the client waits longer and longer, tells each topic once, and comes back', async (engine, join) => {
  const client = join({ transport: 'sse', backoffMs: [10, 40] });
  const got = [];
  for (const topic of ['a', 'b', 'c', 'd']) {
    engine.refusals.set(topic, { status: 403, body: '<html>please log in</html>' });
    client.subscribe(topic, { since: 'earliest' }, ({ data }) => got.push(data));
  }
  await until(() => client.states.filter(({ state }) => state === 'waiting').length >= 5);
  assert.equal(client.errors.length, 4);
  assert.equal(client.states.some(({ state }) => state === 'open'), false, 'it is not open');
  const attempts = client.states.filter(({ state }) => state === 'connecting').length;
  assert.ok(reads(engine).length <= 7 + attempts, `${reads(engine).length} requests in ${attempts} attempts`);
  engine.refusals.clear();
  for (const topic of ['a', 'b', 'c', 'd']) engine.publish(topic, topic);
  await until(() => got.length === 4);
});

scene('a transport that is refused is left, whatever the topics; the topics are not blamed', async (engine, join) => {
  engine.faults.blocked = ['websocket', 'sse', 'stream'];
  const client = join();
  const got = [];
  client.subscribe('a', { since: 'feed0001-0' }, ({ data }) => got.push(data));
  client.subscribe('b', ({ data }) => got.push(data));
  await isUpOf(client, 'long-poll');
  engine.publish('a', '1');
  await until(() => got.length === 1);
  assert.deepEqual(client.errors, []);
});

scene('requests that are too long for somebody in between become shorter', async (engine, join) => {
  engine.faults.longest = 1000;
  const client = join({ transport: 'sse' });
  const got = new Set();
  for (let n = 0; n < 40; n += 1) client.subscribe(`${n}/${'x'.repeat(50)}`, { since: 'feed0001-0' }, ({ topic }) => got.add(topic));
  await isUpOf(client, 'sse');
  for (let n = 0; n < 40; n += 1) engine.publish(`${n}/${'x'.repeat(50)}`, 'x');
  await until(() => got.size === 40);
  assert.deepEqual(client.errors, []);
});

scene('websocket: a subscription that the engine is too full for is told once, and asked for until there is room', async (engine, join) => {
  const { setTimeout: real } = globalThis;
  const pauses = [];
  globalThis.setTimeout = (then, ms, ...words) => (ms >= 900 && ms <= 40_000 ? pauses.push([then, ms]) : real(then, ms, ...words));
  try {
    const client = join({ transport: 'websocket', openMs: 0, pingMs: 0, silenceMs: 0 });
    const got = [];
    engine.refusals.set('t', { code: 'full', text: 'the engine is full' });
    const sub = client.subscribe('t', ({ data }) => got.push(data));
    const times = [];
    for (let n = 1; n <= 6; n += 1) {
      await until(() => pauses.length === 1 && gets(engine, 'SUB t').length === n);
      const [[then, ms]] = pauses.splice(0);
      times.push(ms);
      if (n < 6) then();
      else pauses.push([then, ms]);
    }
    times.forEach((ms, i) => assert.ok(ms >= Math.min(30_000, 1000 * 2 ** i) && ms <= 37_500, `pause ${i}: ${ms}`));
    assert.equal(client.errors.length, 1);
    // Because of a bug: what was asked again for a subscription that had ended took the next one away.
    sub.unsubscribe();
    engine.refusals.clear();
    client.subscribe('t', { since: 'live' }, ({ data }) => got.push(data));
    pauses[0][0]();
    await client.publish('t', 'x');
    await until(() => got.length === 1);
    assert.equal(client.errors.length, 1);
    assert.equal(engine.requests.some((line) => line.startsWith('UNSUB')), false);
  } finally {
    globalThis.setTimeout = real;
  }
});

scene('websocket: a topic for which a connection had no room is read when another one is left', async (engine, join) => {
  const client = join({ transport: 'websocket' });
  const got = [];
  engine.refusals.set('late', { code: 'too-many', text: 'too many subscriptions' });
  const sub = client.subscribe('early', () => {});
  client.subscribe('late', { since: 'live' }, ({ data }) => got.push(data));
  await until(() => client.errors.length === 1);
  engine.refusals.clear();
  sub.unsubscribe();
  await client.publish('late', 'x');
  await until(() => got.length === 1);
  assert.equal(client.errors.length, 1);
});

scene('tabs: what is refused is told in the tab that asked for it, and only there', async (engine, join) => {
  const locks = fakeLocks();
  engine.refusals.set('bad', WAYS['a bad topic']);
  for (const transport of ['websocket', 'sse']) {
    const [leader, follower] = [join({ shared: true, locks, transport }), join({ shared: true, locks, transport })];
    const got = [];
    leader.subscribe('good', { since: 'live' }, () => got.push('leader'));
    follower.subscribe('good', { since: 'live' }, () => got.push('follower'));
    await isUpOf(follower, 'tab');
    const sub = follower.subscribe('bad', () => {});
    await until(() => follower.errors.length === 1);
    const { message, topic, code } = follower.errors[0];
    assert.deepEqual([message, topic, code], [WAYS['a bad topic'].text, 'bad', 'bad-topic']);
    sub.unsubscribe();
    await follower.publish('good', 'x');
    await until(() => got.length === 2);
    // A publication that is refused says what it says without a tab in between.
    engine.faults.refused = 'q';
    const [theirs, ours] = await Promise.all([follower, leader].map((tab) => tab.publish('q', 'x').catch((error) => ({ ...error }))));
    assert.deepEqual(theirs, ours);
    assert.deepEqual([leader.errors, follower.errors.length], [[], 1]);
    leader.close();
    follower.close();
  }
});

/** Runs `body` with a server that says no to everything with these headers, and counts how often it had to. */
async function refusing(headers, body) {
  const said = { count: 0 };
  const server = http.createServer((request, answer) => {
    said.count += 1;
    answer.writeHead(503, headers).end();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await body(`http://127.0.0.1:${server.address().port}`, said);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

const DAY_S = 86_400;
const YEARS = { 'Retry-After': 'Fri, 31 Dec 2100 23:59:59 GMT' };
for (const [headers, least, most] of [
  [{ 'Retry-After': '2' }, 2, 2.5], [{ 'Retry-After': '2147484' }, DAY_S, 1.25 * DAY_S], [{ 'Retry-After': '9'.repeat(400) }, DAY_S, 1.25 * DAY_S],
  [YEARS, DAY_S, 1.25 * DAY_S], [{ 'Retry-After': 'Friday, 31-Dec-99 23:59:59 GMT' }, 1, 1.25 * DAY_S],
  // Two clocks, one of them years late: what counts is what lies between the two dates of the answer.
  [{ Date: 'Fri, 31 Dec 2100 23:59:50 GMT', ...YEARS }, 9, 11.25],
  [{ 'Retry-After': 'Thu, 01 Jan 1970 00:00:00 GMT' }, 1, 1.25], [{}, 1, 1.25],
  ...['-5', 'NaN', 'Infinity', '1e400', '', 'soon'].map((value) => [{ 'Retry-After': value }, 1, 1.25]),
]) {
  // Because of a bug: more than 2^31 ms is no time at all for `setTimeout`, and the client asked 250 times a second.
  scene(`Retry-After is obeyed up to a day, and never means a storm: ${JSON.stringify(headers).slice(0, 80)}`, () => refusing(headers, async (url, said) => {
    const client = connect(url, { transport: 'poll' });
    const waits = [];
    client.on('state', ({ state, waitMs }) => state === 'waiting' && waits.push(waitMs / 1000));
    try {
      client.subscribe('t', () => {});
      await until(() => waits.length === 1);
      assert.ok(waits[0] >= least * 0.99 && waits[0] <= most, `${waits[0]} s`);
      const { count } = said;
      for (let n = 1; n <= 20; n += 1) await (await fetch(url)).text();
      assert.ok(said.count <= count + 21, `${said.count}`);
    } finally {
      client.close();
    }
  }));
}

for (const [what, options, transport] of [
  ['idleMs', { idleMs: 2 ** 31 }, 'stream'], ['idleMs', { idleMs: Infinity }, 'sse'], ['waitS', { waitS: 1e12 }, 'long-poll'], ['waitS', { waitS: 0.5 }, 'long-poll'],
  ['pollMs', { pollMs: 1e15 }, 'poll'], ['openMs', { openMs: 2 ** 40 }, 'websocket'], ['silenceMs', { silenceMs: Infinity }, 'sse'],
  ['pingMs', { pingMs: 2 ** 31 }, 'websocket'], ['backoffMs', { backoffMs: [2 ** 33, Infinity] }, 'websocket'],
]) {
  // Because of a bug: a time beyond 31 bits was no time at all.
  scene(`${what}: a very long time is a long time (${JSON.stringify(options)}, ${transport})`, async (engine, join) => {
    const { setTimeout: real } = globalThis;
    const times = [];
    globalThis.setTimeout = (then, ms, ...words) => times.push(ms) && real(then, ms, ...words);
    try {
      const client = join({ transport, ...options });
      const got = [];
      client.subscribe('t', { since: 'earliest' }, ({ data }) => got.push(data));
      await isUpOf(client, transport);
      if (transport !== 'poll') {
        engine.publish('t', 'x');
        await until(() => got.length === 1);
      }
      await pass(engine);
      assert.ok(reads(engine).length <= 5, `${reads(engine)}`);
      assert.deepEqual(client.states.map(({ state }) => state).filter((state) => state === 'waiting'), []);
      if (what === 'backoffMs') {
        engine.cut();
        await until(() => client.state === 'waiting');
      }
      const wrong = times.filter((ms) => !(ms >= 0 && ms < 2 ** 31));
      assert.deepEqual(wrong, []);
    } finally {
      globalThis.setTimeout = real;
    }
  });
}

scene('times that are none are refused at once', async (engine) => {
  for (const wrong of [-1, NaN, 'soon', {}]) {
    for (const key of ['openMs', 'silenceMs', 'idleMs', 'pingMs', 'pollMs', 'waitS']) assert.throws(() => connect(engine.url, { [key]: wrong }), TypeError);
    for (const backoffMs of [[wrong, 5], [5, wrong], [5], 5]) assert.throws(() => connect(engine.url, { backoffMs }), TypeError);
  }
});

scene('a client that is closed while it has to wait for hours lets the process end', () => refusing({ 'Retry-After': '7200' }, async (url) => {
  const { setTimeout: real, clearTimeout: stop } = globalThis;
  const running = new Set();
  globalThis.setTimeout = (then, ms, ...words) => {
    const timer = real(() => {
      running.delete(timer);
      then(...words);
    }, ms);
    if (ms > 10_000) running.add(timer);
    return timer;
  };
  globalThis.clearTimeout = (timer) => running.delete(timer) | stop(timer);
  try {
    const client = connect(url, { transport: 'poll' });
    client.subscribe('t', () => {});
    const sent = client.publish('t', 'x');
    await until(() => running.size > 0);
    client.close();
    await assert.rejects(sent, /closed/);
    await until(() => running.size === 0, 'no timer is left');
  } finally {
    globalThis.setTimeout = real;
    globalThis.clearTimeout = stop;
  }
}));
