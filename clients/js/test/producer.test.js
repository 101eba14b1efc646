// Clients that number what they publish: whatever is lost on the way, each message stands in its topic once, in its order, and is told its cursor.
import assert from 'node:assert/strict';
import { connect } from '../corecast.js';
import { ALL, fakeLocks, isUpOf, scene, until } from './scene.js';

const published = (engine, topic) => (engine.topics.get(topic)?.items ?? []).map(({ data }) => data);
const numbers = (count) => Array.from({ length: count }, (_, n) => `${n}`);

/** Loses each request, and each answer, so many times of a hundred: seldom enough that all comes through in the end. */
function losing(percent, seed) {
  let state = seed;
  return () => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return (state >> 8) % 100 < percent;
  };
}

for (const transport of ALL) {
  for (const seed of [1, 2, 3]) {
    scene(`${transport}: requests and answers are lost, and all is published once, in order (${seed})`, async (engine, join) => {
      engine.faults.losing = losing(transport === 'websocket' ? 4 : 25, seed);
      const client = join({ transport, producer: seed === 2 ? 'cam' : true });
      const told = [];
      for (let n = 0; n < 60;) {
        // Some in the same breath, some alone.
        for (const end = n + 1 + (n % 7); n < Math.min(end, 60); n += 1) told.push(client.publish(n % 2 ? 'p' : 'q', `${n}`, { event: 'e' }));
        await Promise.race([told.at(-1), new Promise((resolve) => setTimeout(resolve, 3))]);
      }
      const cursors = await Promise.all(told);
      assert.deepEqual(published(engine, 'q'), numbers(60).filter((n) => n % 2 === 0));
      assert.deepEqual(published(engine, 'p'), numbers(60).filter((n) => n % 2 === 1));
      // Who is told a cursor is told the right one.
      cursors.forEach((cursor, n) => assert.ok(cursor === null || cursor === `feed0001-${Math.floor(n / 2) + 1}`, `${n}: ${cursor}`));
      if (transport === 'websocket') assert.ok(!cursors.includes(null));
      assert.ok([...engine.producers.keys()].every((key) => /^[pq] (cam-)?[0-9a-f]{32}$/.test(key)), `${[...engine.producers.keys()]}`);
      assert.deepEqual(client.errors, []);
    });
  }

  scene(`${transport}: what is refused for a moment is sent again, and what is behind it waits`, async (engine, join) => {
    let left = 3;
    engine.faults.busy = () => (left -= 1) >= 0;
    const client = join({ transport, producer: true });
    for (const n of numbers(6)) await Promise.race([client.publish('p', n), new Promise((resolve) => setTimeout(resolve, 20))]);
    await until(() => published(engine, 'p').length === 6);
    assert.deepEqual(published(engine, 'p'), numbers(6));
  });

  scene(`${transport}: what is refused for good takes nothing with it`, async (engine, join) => {
    Object.assign(engine.faults, { messageMax: 1024 });
    const client = join({ transport, producer: true });
    const all = await Promise.allSettled(numbers(20).map((n) => client.publish('p', n % 7 === 3 ? 'x'.repeat(2000) : n)));
    all.forEach(({ reason }, n) => assert.equal(reason?.code, n % 7 === 3 ? 'too-large' : undefined));
    assert.deepEqual(published(engine, 'p'), numbers(20).filter((n) => n % 7 !== 3));
    assert.ok(all.every(({ reason }) => !reason?.isSent));
  });

  scene(`${transport}: where the engine has forgotten who it is, only what may have been published is given up`, async (engine, join) => {
    const client = join({ transport, producer: true });
    assert.notEqual(await client.publish('p', '0'), null);
    engine.producers.clear();
    await client.publish('p', '1');
    // Its answer is lost, and then the engine is another one.
    let lost = 1;
    engine.faults.losing = (which) => which === 'answer' && lost-- > 0 && (engine.producers.clear(), true);
    await assert.rejects(client.publish('p', '2'), { code: 'out-of-order', isSent: true });
    await client.publish('p', '3');
    assert.deepEqual(published(engine, 'p'), numbers(4));
  });
}

scene('tabs: what a tab publishes that follows is published once, whichever tab leads, and when', async (engine, join) => {
  const locks = fakeLocks();
  const options = { shared: true, locks, producer: true, transport: 'websocket' };
  const leader = join(options);
  await isUpOf(leader, 'websocket');
  const follower = join(options);
  await isUpOf(follower, 'tab');
  const told = [];
  for (const n of numbers(40)) {
    told.push(follower.publish('p', n));
    if (n === '20') leader.close(); // The other one takes over.
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(told);
  assert.deepEqual(published(engine, 'p'), numbers(40));
});

scene('what was sent long ago, by who was never answered, is given up, and what is new is not', async (engine, join, clock = Date.now) => {
  const client = join({ transport: 'websocket', producer: true });
  await isUpOf(client, 'websocket');
  engine.faults.losing = (which) => which === 'answer';
  const told = ['0', '1'].map((n) => assert.rejects(client.publish('p', n), { isSent: true }));
  await until(() => published(engine, 'p').length === 2 || engine.requests.filter((line) => line.startsWith('PUB')).length > 1);
  engine.faults.losing = undefined;
  engine.faults.blocked = ['websocket'];
  try {
    engine.cut();
    engine.producers.clear();
    Date.now = () => clock() + 3_600_000;
    engine.faults.blocked = [];
    const late = client.publish('p', 'new');
    await Promise.all(told);
    await late;
  } finally {
    Date.now = clock;
  }
  assert.equal(published(engine, 'p').filter((data) => data === '0').length, 1);
  assert.equal(published(engine, 'p').at(-1), 'new');
});

scene('a client that is closed tells what it does not know, and one that is not asked to number says nothing of numbers', async (engine, join) => {
  engine.faults.mute = true;
  const client = join({ transport: 'websocket', producer: true });
  await isUpOf(client, 'websocket');
  const told = client.publish('p', 'x');
  await until(() => engine.requests.some((line) => line.startsWith('PUB p')));
  client.close();
  await assert.rejects(told, { isSent: true });
  engine.faults.mute = false;
  const plain = join({ transport: 'websocket' });
  await plain.publish('p', 'y');
  assert.ok(!engine.requests.at(-1).includes('producer'));
  for (const producer of ['', 'a b', 'ü', 'x'.repeat(25), 1, {}]) assert.throws(() => connect(engine.url, { producer }), TypeError);
});
