// Tokens: how they are shown, that a fresh one is fetched when the engine says that one is over, and that no other client comes
// back with what is no good.
import assert from 'node:assert/strict';
import { ALL, isUpOf, scene, until } from './scene.js';

const shown = (engine, token) => engine.shown.filter((words) => words.includes(token));

for (const transport of ALL) {
  scene(`${transport}: the token is shown where each transport can show one`, async (engine, join) => {
    const client = join({ transport, token: 'a.b.c' });
    client.subscribe('a', () => {});
    await isUpOf(client, transport);
    const expected = transport === 'websocket' ? 'corecast.v1,bearer.a.b.c' : 'Bearer a.b.c';
    await until(() => shown(engine, expected).length > 0, expected);
    assert.ok(!engine.requests.some((line) => line.includes('a.b.c')), 'it is in no URL');
  });
}

scene('a WebSocket whose token is over comes back with a fresh one', async (engine, join) => {
  let count = 0;
  const client = join({ transport: 'websocket', token: async () => `t${(count += 1)}` });
  const got = [];
  client.subscribe('a', { since: 'live' }, ({ data }) => got.push(data));
  await isUpOf(client, 'websocket');
  engine.close(1008, 'the permission has expired');
  await until(() => shown(engine, 'bearer.t2').length === 1, 'the second token');
  await isUpOf(client, 'websocket');
  await client.publish('a', 'x');
  await until(() => got.length === 1, 'messages again');
  assert.deepEqual(client.errors, []);
});

scene('a client that has no other token stops, and says why', async (engine, join) => {
  const client = join({ transport: 'websocket', token: 'only' });
  await isUpOf(client, 'websocket');
  engine.close(1008, 'the permission was revoked');
  await until(() => client.state === 'closed', 'the end');
  assert.deepEqual(client.errors.map(({ message }) => message), ['the permission was revoked']);
  assert.equal(shown(engine, 'bearer.only').length, 1);
});

scene('a token that cannot be fetched is no reason to ask without one', async (engine, join) => {
  let fails = 3;
  const client = join({ transport: 'sse', token: () => ((fails -= 1) > 0 ? Promise.reject(new Error('login is down')) : 'good') });
  client.subscribe('a', () => {});
  await isUpOf(client, 'sse');
  const waits = client.states.filter(({ error }) => error?.code === 'unauthorized');
  assert.equal(waits.length, 2);
  assert.match(waits[0].error.message, /login is down/);
  assert.ok(engine.shown.every((words) => words.includes('good')), `${engine.shown}`);
});
