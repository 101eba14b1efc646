// Options of subscriptions: whose hold, for how long, and which are none.
import assert from 'node:assert/strict';
import { fakeLocks, isUpOf, scene, until } from './scene.js';

for (const transport of ['websocket', 'sse']) {
  // Because of a bug: the options of a subscription that had ended went on slowing down the others of its topic.
  scene(`${transport}: the options of a subscription end with it; the newest of those that are left decides`, async (engine, join) => {
    const client = join({ transport });
    const last = (option) => engine.requests.filter((line) => line.startsWith(transport === 'sse' ? 'GET /topics?topic=t&transport=sse' : 'SUB t')).at(-1)?.includes(option);
    const got = [];
    client.subscribe('t', { since: 'live' }, ({ data }) => got.push(data));
    const slow = client.subscribe('t', { every: 60_000 }, () => {});
    const newest = client.subscribe('t', { conflate: true }, () => {});
    await until(() => last('conflate'));
    newest.unsubscribe();
    await until(() => last('every=60000') && !last('conflate'));
    slow.unsubscribe();
    await until(() => last('since') && !last('every'));
    await client.publish('t', 'x');
    await until(() => got.length === 1);
    // Whose options do not hold, leaves no trace.
    const { length } = engine.requests;
    client.subscribe('t', { since: 'live' }, () => {}).unsubscribe();
    await client.publish('t', 'y');
    assert.equal(engine.requests.length, length + 1);
  });
}

for (const transport of ['websocket', 'sse', 'stream']) {
  scene(`${transport}: what is still on its way when a subscription ends is not of the next one`, async (engine, join) => {
    // Because of a bug: it moved the next one behind the history that it had asked for.
    const client = join({ transport });
    const [first, got] = [[], []];
    for (const data of ['1', '2']) engine.publish('t', data);
    const sub = client.subscribe('t', { since: 'live' }, ({ data }) => first.push(data));
    await isUpOf(client, transport);
    await client.publish('t', '3');
    await until(() => first.length === 1);
    sub.unsubscribe();
    client.subscribe('t', { since: 'earliest' }, ({ data }) => got.push(data));
    engine.publish('t', '4'); // It still has the first one.
    await until(() => got.includes('4'));
    assert.deepEqual(got, ['1', '2', '3', '4']);
  });
}

scene('who subscribes to one more topic over HTTP does not stop the others until the first answer', async (engine, join) => {
  // Because of a bug: a poll of the new one that took long, or was refused in parts, silenced all.
  const client = join({ transport: 'sse' });
  const got = [];
  client.subscribe('old', { since: 'live' }, ({ data }) => got.push(data));
  await isUpOf(client, 'sse');
  engine.faults.held = 'new';
  client.subscribe('new', { since: 'earliest' }, ({ data }) => got.push(data));
  await until(() => engine.requests.some((line) => line.includes('topic=new')));
  engine.publish('old', 'goes on');
  await until(() => got.length === 1);
  engine.publish('new', 'answered');
  engine.release();
  await until(() => got.length === 2);
  assert.deepEqual([got, client.states.some(({ state }) => state === 'waiting')], [['goes on', 'answered'], false]);
});

scene('options that the engine would not understand are refused at once; what is never is as seldom as can be', async (engine, join) => {
  const client = join({ transport: 'websocket' });
  for (const every of [-1, 0.5, NaN, 'often']) assert.throws(() => client.subscribe('t', { every }, () => {}), TypeError);
  for (const since of ['-5000000000', 'aaaaaaaa-01', 'aaaaaaaa-99999999999999999999', -0.5, 1]) assert.throws(() => client.subscribe('t', { since }, () => {}), TypeError);
  client.subscribe('t', { every: Infinity }, () => {});
  client.subscribe('u', { every: 1e12 }, () => {});
  await until(() => engine.requests.filter((line) => line.includes('every=4294967295')).length === 2);
});

scene('tabs: the options of a subscription end with it, and with its tab, for all other tabs', async (engine, join) => {
  const locks = fakeLocks();
  const [leader, ...others] = [1, 2, 3].map(() => join({ shared: true, locks, transport: 'websocket' }));
  for (const tab of others) await isUpOf(tab, 'tab');
  const last = () => engine.requests.filter((line) => line.startsWith('SUB t')).at(-1) ?? '';
  const got = [];
  leader.subscribe('t', { since: 'live' }, ({ data }) => got.push(data));
  await until(() => last().includes('since'));
  const slow = others[0].subscribe('t', { since: 'live', every: 60_000 }, () => {});
  await until(() => last().includes('every=60000'));
  others[1].subscribe('t', { since: 'live', conflate: true }, () => {});
  await until(() => last().includes('conflate') && !last().includes('every'));
  others[1].close(); // Its tab is gone.
  await until(() => last().includes('every=60000') && !last().includes('conflate'));
  slow.unsubscribe();
  await until(() => last().includes('since') && !last().includes('every'));
  await leader.publish('t', 'x');
  await until(() => got.length === 1);
});
