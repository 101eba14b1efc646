// Views: keys, changes, ends of what there was, tables, and several views of one topic.
import assert from 'node:assert/strict';
import { ALL, fakeLocks, isUpOf, scene, until } from './scene.js';

const T = 'table/t';
const text = (value) => JSON.stringify(value);

/** Puts a row, with what changed beside it. */
function put(engine, key, value, changes) {
  return engine.publish(T, text(value), undefined, { key, changes: changes && text(changes) });
}
const drop = (engine, key) => engine.publish(T, '', undefined, { key, op: 'delete' });

for (const transport of ALL) {
  scene(`${transport}: keys, deletions and the end of what there was come with what they are of`, async (engine, join) => {
    const client = join({ transport });
    put(engine, 'EUR USD', { bid: 1 });
    put(engine, '100%', { bid: 2 });
    const got = [];
    client.subscribe(T, { onSnapshotEnd: (cursor) => got.push(`end ${cursor}`) }, ({ key, op, data }) => got.push([key, op, data].join()));
    await until(() => got.length === 3);
    await isUpOf(client, transport);
    drop(engine, '100%');
    await until(() => got.length === 4);
    const { length } = client.states;
    engine.cut();
    await until(() => client.states.length > length || transport.endsWith('poll')); // Between two polls nothing is cut.
    await isUpOf(client, transport);
    await client.publish(T, { bid: 3 }, { key: 'a b/ü%', op: 'put' });
    await until(() => got.length === 5);
    assert.deepEqual(got, ['EUR USD,put,{"bid":1}', '100%,put,{"bid":2}', 'end feed0001-2', '100%,delete,', 'a b/ü%,put,{"bid":3}'], 'one end');
  });

  scene(`${transport}: a table is what its topic says, also behind cuts and gaps, and tells each change`, async (engine, join) => {
    const client = join({ transport });
    put(engine, 'a', { n: 1 });
    const table = client.table(T, { delta: true });
    const told = [];
    const ready = [];
    table.on('change', (key, value, old) => told.push([key, value?.n, old?.n].join()));
    table.on('ready', () => ready.push(table.size));
    await until(() => ready.length === 1);
    assert.deepEqual([table.get('a'), table.isReady, [...table.keys()], table.has('b')], [{ n: 1 }, true, ['a'], false]);
    await isUpOf(client, transport);
    put(engine, 'b', { n: 2 });
    await until(() => table.size === 2);
    engine.faults.full = -1; // While it is away,
    engine.cut();
    put(engine, 'a', { n: 3 });
    drop(engine, 'b');
    put(engine, 'c', { n: 4 });
    engine.forgetDeletions(T); // what was deleted is forgotten: everything comes again.
    engine.faults.full = 0;
    await until(() => ready.length === 2);
    assert.deepEqual([...table].map(([key, { n }]) => key + n), ['a3', 'c4']);
    assert.deepEqual(told, ['a,1,', 'b,2,', 'a,3,1', 'c,4,', 'b,,2']);
    engine.publish(T, '', undefined, { op: 'delete' });
    await until(() => table.size === 0);
    assert.deepEqual(client.gaps.map(({ reason }) => reason), ['expired']);
    table.close();
    put(engine, 'z', { n: 9 });
    await client.publish('other', 'x');
    assert.equal(table.size, 0);
  });

  scene(`${transport}: subscriptions to one topic that want different views of it get each its own`, async (engine, join) => {
    const client = join({ transport });
    const got = { whole: [], bids: [], cheap: [] };
    client.subscribe('t', { since: 'live' }, ({ data }) => got.whole.push(data));
    const bids = [['bid', 'a.b'], 'bid,a.b'].map((fields) => client.subscribe('t', { since: 'live', fields }, ({ data }) => got.bids.push(data)));
    client.subscribe('t', { since: 'live', where: 'bid < 5 AND name = \'50 %\'' }, ({ data }) => got.cheap.push(data));
    const said = () => engine.requests.map((line) => decodeURIComponent(line.replaceAll('+', ' ')));
    const asked = (words) => said().filter((line) => words.every((word) => line.includes(word))).length > 0;
    await until(() => asked(['t', 'fields=bid,a.b']) && asked(['where=bid < 5 AND name = \'50 %\'']));
    await isUpOf(client, transport);
    await client.publish('t', '{"bid":1}');
    await until(() => got.whole.length === 1 && got.bids.length === 2 && got.cheap.length === 1);
    assert.equal(said().some((line) => line.includes('fields') && line.includes('where')), false);
    // A view that nobody wants any more costs nothing: its connection ends.
    const open = engine.open;
    for (const sub of bids) sub.unsubscribe();
    if (transport === 'websocket') await until(() => engine.open === open - 1, 'one connection less');
    assert.deepEqual(client.errors, []);
  });
}

for (const transport of ALL) {
  scene(`${transport}: a pattern reads what matches it, also what comes to be later, each message once and in order, through cuts`, async (engine, join) => {
    const client = join({ transport });
    engine.publish('prices/a b', '0');
    engine.publish('other', 'x');
    const got = new Map();
    let ends = 0;
    const sub = client.subscribe('prices/+', { onSnapshotEnd: () => { ends += 1; } }, ({ topic, data, of }) => {
      assert.equal(of, 'prices/+');
      got.set(topic, [...got.get(topic) ?? [], Number(data)]);
    });
    const table = client.table('prices/#');
    await until(() => ends === 1 && got.size === 1 && table.get('prices/a b') === 0);
    await isUpOf(client, transport);
    for (let n = 1; n <= 40; n += 1) {
      engine.publish(n % 2 ? 'prices/a b' : 'prices/new', `${n}`);
      engine.publish('prices/new/deep', `${n}`);
      if (n % 13 === 5) engine.cut();
      await new Promise((resolve) => setTimeout(resolve, n % 5));
    }
    await until(() => got.get('prices/a b').at(-1) === 39 && got.get('prices/new')?.at(-1) === 40 && table.get('prices/new/deep') === 40, 'all');
    const all = (first) => Array.from({ length: 20 }, (_, i) => first + 2 * i);
    assert.deepEqual([...got], [['prices/a b', [0, ...all(1)]], ['prices/new', all(2)]]);
    assert.deepEqual([...table.keys()].sort(), ['prices/a b', 'prices/new', 'prices/new/deep']);
    // Who comes later, and who goes on from where somebody was.
    const [late, on] = [[], []];
    client.subscribe('prices/+', ({ data }) => late.push(data));
    await until(() => late.length === 2);
    const { cursor } = sub;
    sub.unsubscribe();
    client.close();
    engine.publish('prices/new', '41');
    const next = join({ transport });
    next.subscribe('prices/+', { since: cursor }, ({ data }) => on.push(data));
    await until(() => on.length === 1);
    assert.deepEqual([on, ends, client.errors, client.gaps, next.errors], [['41'], 1, [], [], []]);
  });
}

for (const transport of ['websocket', 'sse', 'stream']) {
  scene(`${transport}: changes are applied, and each is handed out whole with what changed`, async (engine, join) => {
    const client = join({ transport });
    put(engine, 'a', { n: 1, deep: { x: 1, y: 2 } });
    const got = [];
    client.subscribe(T, { delta: true }, ({ op, data, changes }) => got.push({ op, data, changes }));
    await until(() => got.length === 1);
    await until(() => engine.requests.some((line) => /delta/.test(line)));
    await isUpOf(client, transport);
    const settle = () => until(() => engine.streaming || transport === 'websocket', 'a stream');
    await settle();
    put(engine, 'a', { n: 2, deep: { y: 2 } }, { n: 2, deep: { x: null } });
    // A name that means something to JavaScript is a name.
    put(engine, 'a', 'unused', JSON.parse('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'));
    await until(() => got.length === 3);
    assert.deepEqual(got[1], { op: 'merge', data: '{"n":2,"deep":{"y":2}}', changes: { n: 2, deep: { x: null } } });
    assert.equal(got[2].data, '{"n":2,"deep":{"y":2},"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}');
    assert.equal({}.polluted, undefined);
    assert.deepEqual(client.errors, []);
  });

  scene(`${transport}: who starts from a cursor, and knows nothing of what changes, fetches it`, async (engine, join) => {
    const client = join({ transport });
    const cursor = put(engine, 'a', { n: 1, m: 1 });
    put(engine, 'b', { n: 1 });
    const got = [];
    client.subscribe(T, { delta: true, since: 'feed0001-2' }, ({ key, data }) => got.push(key + data));
    await until(() => engine.requests.some((line) => /delta/.test(line)));
    await isUpOf(client, transport);
    await until(() => engine.streaming || transport === 'websocket', 'a stream');
    engine.faults.held = T; // What comes while it fetches waits.
    put(engine, 'a', { n: 2, m: 1 }, { n: 2 });
    put(engine, 'b', { n: 2 }, { n: 2 });
    await until(() => engine.requests.some((line) => /transport=poll.*since=latest/.test(line)));
    put(engine, 'a', { n: 2, m: 3 }, { m: 3 });
    drop(engine, 'b');
    engine.release();
    await until(() => got.length >= 3 && got.at(-1) === 'b');
    assert.ok(cursor && got.filter((line) => line.startsWith('a')).at(-1) === 'a{"n":2,"m":3}', got.join());
    assert.deepEqual(client.gaps, []);
  });
}

for (const transport of ALL) {
  scene(`${transport}: what is published at once keeps its keys and what it does`, async (engine, join) => {
    const client = join({ transport });
    await Promise.all([
      client.publish(T, { n: 1 }, { key: 'a b' }), client.publish(T, 'x', { key: 'ü%', event: 'e' }), client.publish(T, undefined, { key: 'c', op: 'delete' }),
    ]);
    await client.publish(T, { n: 2 }, { key: 'd=e f', op: 'merge' });
    const items = engine.topics.get(T).items.map(({ key, op, data, event }) => [key, op, data, event]);
    assert.deepEqual(items, [['a b', undefined, '{"n":1}', undefined], ['ü%', undefined, 'x', 'e'], ['c', 'delete', '', undefined], ['d=e f', 'merge', '{"n":2}', undefined]]);
  });
}

scene('tabs: keys, changes, ends and further views reach the tabs that follow', async (engine, join) => {
  const locks = fakeLocks();
  const [leader, follower] = [1, 2].map(() => join({ shared: true, locks, transport: 'websocket' }));
  await isUpOf(follower, 'tab');
  put(engine, 'a', { n: 1 });
  const got = [];
  follower.subscribe(T, { delta: true, onSnapshotEnd: () => got.push('end') }, ({ key, op, data, changes }) => got.push([key, op, data, text(changes)].join()));
  await until(() => got.length === 2);
  put(engine, 'a', { n: 2 }, { n: 2 });
  await until(() => got.length === 3);
  assert.deepEqual(got, ['a,put,{"n":1},', 'end', 'a,merge,{"n":2},{"n":2}']);
  const views = [];
  leader.subscribe(T, { fields: 'n', since: 'live' }, ({ data }) => views.push(`leader ${data}`));
  follower.subscribe(T, { fields: 'm', since: 'live' }, ({ data }) => views.push(`follower ${data}`));
  await until(() => ['fields=n', 'fields=m'].every((word) => engine.requests.some((line) => line.includes(word))));
  put(engine, 'a', { n: 3 }, { n: 3 });
  await until(() => views.length === 2 && got.length === 4);
  const places = [];
  const own = follower.subscribe('many/+', { since: 'live', onStart: () => {} }, ({ data }, { cursor }) => places.push(data, cursor));
  await until(() => engine.requests.some((line) => line.startsWith('SUB many/+')));
  engine.publish('many/a', 'x');
  await until(() => places.length === 2);
  assert.deepEqual([places[0], /^~feed0001-\d+$/.test(places[1]), own.cursor], ['x', true, places[1]]);
  assert.equal((await follower.stat()).waiting, 5000);
  await follower.setBandwidth(8000);
  assert.ok(engine.requests.some((line) => /^SET bandwidth=8000 id=/.test(line)));
});

scene('how much a connection may take is said when it begins, and while it runs; what it does is told', async (engine, join) => {
  const client = join({ transport: 'websocket', bandwidth: 64_000 });
  client.subscribe('t', { batch: 50, rate: 1000, queue: 10 }, () => {});
  await isUpOf(client, 'websocket');
  await client.setBandwidth(0);
  await until(() => engine.requests.includes('SET bandwidth=0 id=2') && engine.requests.some((line) => /^SUB t since=latest batch=50 rate=1000 queue=10 id=1$/.test(line)));
  assert.deepEqual(await client.stat(), { waiting: 5000, messages: 12, blocked: 1, bandwidth: 0, later: 7 });
  const stream = join({ transport: 'stream', bandwidth: 64_000 });
  stream.subscribe('t', () => {});
  await isUpOf(stream, 'stream');
  const last = () => engine.requests.filter((line) => line.includes('transport=stream')).at(-1);
  assert.match(last(), /bandwidth=64000/);
  await stream.setBandwidth(9000);
  await until(() => /bandwidth=9000/.test(last()));
  await assert.rejects(stream.stat(), { code: 'unavailable' });
});

scene('what makes no sense in a view is told at once', async (engine, join) => {
  const client = join();
  for (const options of [{ fields: 5 }, { where: {} }, { every: 1.5 }, { batch: -1 }, { rate: NaN }, { queue: 'x' }]) {
    assert.throws(() => client.subscribe('t', options, () => {}), TypeError, text(options));
  }
  for (const options of [{ key: '' }, { key: 5 }, { key: 'a\nb' }, { key: 'x'.repeat(256) }, { op: 'remove' }]) assert.throws(() => client.publish('t', 'x', options), TypeError, text(options));
  for (const pattern of ['a+', '#/a', 'a/#/b', '+a/b', '', 'a//+', '*']) assert.throws(() => client.subscribe(pattern, () => {}), TypeError, pattern);
  assert.throws(() => client.publish('a/+', 'x'), TypeError);
  assert.throws(() => client.setBandwidth(-1), TypeError);
  assert.throws(() => client.table('t').on('nonsense', () => {}), /there are change, ready/);
  for (let n = 1; n < 8; n += 1) client.subscribe('t', { where: `n = ${n}` }, () => {});
  assert.throws(() => client.subscribe('t', { where: 'n = 8' }, () => {}), { name: 'CorecastError', code: 'too-many' });
});
