// Views with the engine: keys, fields, conditions, changes and tables, over each transport of the client, and patterns.
import assert from 'node:assert/strict';
import { writeFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { WebSocket } from 'ws';
import { connect } from '../../clients/js/corecast.js';
import { until } from './engine.js';
import { scene } from './scene.js';

const ALL = ['websocket', 'sse', 'stream', 'long-poll', 'poll'];
const folder = await mkdtemp(join(tmpdir(), 'corecast-views-'));
after(() => rm(folder, { recursive: true }));
const config = join(folder, 'corecast.toml');
await writeFile(config, `
[[topics]]
match = "rows/#"
record = "command"
key = "id"
rows = 5000
rows-bytes = "4M"

[[topics]]
match = "record/#"
record = "merge"

[[topics]]
match = "few/#"
record = "command"
key = "id"
rows = 2
`);
const flags = ['--shards', '2', '--config', config];

/** Connects from Node to a network in front of the engine; ends with the test. */
async function joined({ network }, transport, body) {
  const between = await network();
  const client = connect(between.url, { transport, WebSocket, pollMs: 50, backoffMs: [10, 200], waitS: 2 });
  const errors = [];
  client.on('error', (error) => errors.push(error));
  try {
    await body(client, between, errors);
  } finally {
    client.close();
  }
}

/** What a table holds, as text that can be compared. */
const held = (table) => {
  const sorted = (_, value) => (value?.constructor === Object ? Object.fromEntries(Object.entries(value).sort()) : value);
  return [...table].map((row) => JSON.stringify(row, sorted)).sort();
};

/** Waits until a table holds what it should; says what is different if it does not. */
async function holds(table, rows, what) {
  const wanted = held(rows).join();
  await until(() => held(table).join() === wanted, what).catch(() => {
    const [has, should] = [held(table), held(rows)];
    const differences = [...has.filter((row) => !should.includes(row)).map((row) => `has ${row}`), ...should.filter((row) => !has.includes(row)).map((row) => `lacks ${row}`)];
    assert.fail(`${what}: ${has.length} for ${should.length} rows: ${differences.slice(0, 6).map((line) => line.slice(0, 200)).join('; ')}`);
  });
}

for (const transport of ALL) {
  scene(`${transport}: a table of a topic with keys is what its topic says, through cuts, whatever is put, changed and deleted`, { flags }, async ({ engine, network }) => {
    await joined({ network }, transport, async (client, between, errors) => {
      const topic = `rows/${transport}`;
      const publisher = connect(engine.url, { WebSocket });
      const slow = connect(between.url, { transport, WebSocket, pollMs: 50, backoffMs: [10, 200], waitS: 2 });
      try {
        const rows = new Map();
        const put = (id, row) => {
          rows.set(id, row);
          return publisher.publish(topic, row);
        };
        // More than an answer of a poll holds.
        await Promise.all(Array.from({ length: 400 }, (_, n) => put(`r${n}`, { id: `r${n}`, n, text: 'x'.repeat(300), deep: { a: 1, b: [n] } })));
        const table = client.table(topic, { delta: true });
        const seldom = slow.table(topic, { delta: true, every: 40 }); // It jumps from change to change.
        const some = client.table(topic, { where: 'n >= 1000', fields: ['id', 'n'] });
        await until(() => table.isReady && some.isReady && seldom.isReady, 'tables');
        assert.equal(table.size, 400);
        assert.equal(some.size, 0);
        let seed = 7;
        const roll = (sides) => {
          seed = (seed * 1103515245 + 12345) % 2 ** 31;
          return Math.floor((seed / 2 ** 31) * sides);
        };
        for (let round = 0; round < 300; round += 1) {
          const id = `r${roll(420)}`;
          const old = rows.get(id);
          if (!old || roll(4) === 0) await put(id, { id, n: roll(2000), text: 'y'.repeat(roll(50)), deep: { a: roll(3) } });
          else if (roll(4) === 0) {
            rows.delete(id);
            await publisher.publish(topic, undefined, { key: id, op: 'delete' });
          } else {
            const { text, ...rest } = old;
            rows.set(id, { ...rest, n: round, deep: { ...rest.deep, c: round } });
            await publisher.publish(topic, { id, n: round, text: null, deep: { c: round } }, { op: 'merge' });
          }
          if (round % 60 === 30) between.cut();
        }
        await holds(table, rows, 'the table');
        await holds(seldom, rows, 'the table that is seldom told');
        const wanted = new Map([...rows].filter(([, { n }]) => n >= 1000).map(([id, { n }]) => [id, { id, n }]));
        await holds(some, wanted, 'the view');
        await fetch(engine.at(topic), { method: 'DELETE' });
        await until(() => table.size === 0 && some.size === 0, 'empty tables');
        assert.deepEqual(errors, []);
      } finally {
        publisher.close();
        slow.close();
      }
    });
  });

  scene(`${transport}: a record is whole, also where only changes travel, and DELETE empties it`, { flags }, async ({ engine, network }) => {
    await joined({ network }, transport, async (client, _, errors) => {
      const topic = `record/${transport}`;
      await client.publish(topic, { bid: 1, ask: 2, depth: { first: 1 } });
      const got = [];
      let ends = 0;
      client.subscribe(topic, { delta: true, fields: 'bid,depth.first', onSnapshotEnd: () => { ends += 1; } }, ({ op, data }) => got.push(op === 'delete' ? op : data));
      await until(() => ends === 1 && got.length === 1, 'the record');
      await until(() => client.state === 'open', 'a connection');
      await client.publish(topic, { bid: 3 });
      await until(() => got.length === 2);
      await client.publish(topic, { depth: { first: 5 } });
      await until(() => got.length === 3);
      assert.deepEqual(got.map((data) => JSON.parse(data)), [{ bid: 1, depth: { first: 1 } }, { bid: 3, depth: { first: 1 } }, { bid: 3, depth: { first: 5 } }]);
      await fetch(engine.at(topic), { method: 'DELETE' });
      await until(() => got.at(-1) === 'delete');
      assert.deepEqual([ends, errors], [1, []]);
    });
  });

  scene(`${transport}: what is wrong with a view or a record is told by name, to who asked, and the others go on`, { flags }, async ({ engine, network }) => {
    await joined({ network }, transport, async (client, _, errors) => {
      const got = [];
      client.subscribe('rows/good', ({ data }) => got.push(data));
      client.subscribe(`rows/bad/${transport}`, { where: 'bid >> 1' }, () => {});
      await until(() => errors.length === 1, 'an error');
      assert.deepEqual([errors[0].topic, errors[0].code], [`rows/bad/${transport}`, 'bad-command']);
      assert.match(errors[0].message, /where/);
      await assert.rejects(client.publish(`rows/${transport}/x`, 'no record'), { code: 'bad-record' });
      await assert.rejects(client.publish(`rows/${transport}/x`, { no: 'key' }), { code: 'bad-record' });
      await assert.rejects(client.publish(`plain/${transport}`, 'x', { key: 'k' }), { code: 'bad-record' });
      for (const id of [1, 2]) await client.publish(`few/${transport}`, { id });
      await assert.rejects(client.publish(`few/${transport}`, { id: 3 }), (error) => error.code === 'full' && !error.isSent);
      await engine.publish('rows/good', '{"id":1}');
      await until(() => got.includes('{"id":1}'));
    });
  });
}

for (const transport of ALL) {
  scene(`${transport}: a pattern reads all that matches it, also what comes to be later, each message once and in order, through cuts`, { flags }, async ({ engine, network }) => {
    await joined({ network }, transport, async (client, between, errors) => {
      const under = `many/${transport}`;
      const count = 30; // topics
      const [got, ends] = [new Map(), []];
      const send = (n) => engine.publish(`${under}/t ${n % count}/x`, String(n));
      for (let n = 0; n < count / 2; n += 1) await send(n);
      await engine.publish(`${under}/other`, 'x');
      client.subscribe(`${under}/+/x`, { onSnapshotEnd: (places) => ends.push(places) }, ({ topic, data }) => got.set(topic, [...got.get(topic) ?? [], Number(data)]));
      const table = client.table(`${under}/#`);
      await until(() => ends.length === 1 && table.isReady && got.size === count / 2, 'the newest of each');
      for (let n = count; n < 400; n += 1) {
        await send(n);
        if (n % 90 === 0) between.cut();
      }
      const wanted = (topic) => Array.from({ length: 400 }, (_, n) => n).filter((n) => n % count === topic && (n >= count || n < count / 2));
      const all = () => Array.from({ length: count }, (_, topic) => got.get(`${under}/t ${topic}/x`) ?? []);
      await until(() => `${all().map((list) => list.at(-1))}` === `${all().map((_, topic) => wanted(topic).at(-1))}`, 'the newest of each').catch(() => {});
      assert.deepEqual(all(), all().map((_, topic) => wanted(topic)));
      await until(() => table.size === count + 1 && [...table.values()].filter((value) => value >= 400 - count).length === count, 'the newest of each in the table');
      assert.deepEqual([errors, ends.length], [[], 1]);
    });
  });
}

scene('websocket: a bandwidth can be changed while messages come, and the engine says how the connection does', { flags }, async ({ network }) => {
  await joined({ network }, 'websocket', async (client, _, errors) => {
    client.subscribe('rows/slow', () => {});
    await until(() => client.state === 'open');
    await client.setBandwidth(9000);
    const stat = await client.stat();
    assert.equal(stat.bandwidth, 9000, JSON.stringify(stat));
    assert.ok(stat.waiting >= 0 && stat.messages >= 0 && [0, 1].includes(stat.blocked), JSON.stringify(stat));
    await client.setBandwidth(0);
    assert.equal((await client.stat()).bandwidth, 0);
    assert.deepEqual(errors, []);
  });
});
