// What a newcomer gets wrong: URLs and arguments. What can be understood is, and what never can be is refused at once, in words.
import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { connect } from '../corecast.js';
import { isUpOf, scene, until } from './scene.js';

/** Returns what a client asks for first, on a page or on none. */
async function askedFor(url, page) {
  const before = Object.getOwnPropertyDescriptor(globalThis, 'location');
  Object.defineProperty(globalThis, 'location', { value: page && { href: page }, configurable: true });
  let client;
  try {
    return await new Promise((resolve) => {
      const fetch = (target) => {
        resolve(String(target));
        return Promise.reject(new TypeError('there is no network'));
      };
      client = connect(url, { transport: 'poll', fetch });
    });
  } finally {
    client?.close();
    if (before) Object.defineProperty(globalThis, 'location', before);
    else delete globalThis.location;
  }
}

// Because of a bug: `localhost:8080` was retried for ever, as a URL of the scheme `localhost:`.
test('the URL of an engine is understood as it is meant, with a page and without', async () => {
  for (const [given, expected, onPage = expected] of [
    ['localhost:8080', 'http://localhost:8080/'], ['localhost', 'http://localhost/'], ['127.0.0.1:8080', 'http://127.0.0.1:8080/'],
    ['[::1]:8080/rt', 'http://[::1]:8080/rt/'], ['example.com', 'http://example.com/', 'https://example.com/'],
    ['example.com:81/rt', 'http://example.com:81/rt/', 'https://example.com:81/rt/'], ['//h:8080/x', 'http://h:8080/x/', 'https://h:8080/x/'],
    ['http://h:8080', 'http://h:8080/'], [' http://h/rt ', 'http://h/rt/'], ['ws://h/rt/', 'http://h/rt/'], ['WSS://h', 'https://h/'],
    [new URL('wss://h/a/b?c#d'), 'https://h/a/b/'], [{ href: 'http://h/x' }, 'http://h/x/'],
  ]) {
    assert.equal(await askedFor(given), expected, String(given));
    assert.equal(await askedFor(given, 'https://app.example/chat/room.html?x#y'), onPage, `${given} on a page`);
  }
  for (const [given, expected] of [
    [undefined, 'https://app.example/'], ['/rt', 'https://app.example/rt/'], ['rt', 'https://app.example/chat/rt/'], ['../rt/', 'https://app.example/rt/'],
    ['.', 'https://app.example/chat/'],
  ]) assert.equal(await askedFor(given, 'https://app.example/chat/room.html?x#y'), expected, String(given));
});

test('what never can be the URL of an engine is refused at once, and says what one looks like', async () => {
  for (const page of [undefined, 'https://app.example/', 'file:///home/me/page.html']) {
    for (const url of [
      '', ' ', null, 5, {}, 'http://', 'http://a b', 'localhost:99999', 'ftp://h', 'file:///x', 'mailto:me@h', 'javascript:0', 'data:,x', 'http://user:pass@h',
      'user@h:80', 'http://[::1', ...(page?.startsWith('https') ? [] : [undefined, '/rt', './rt']),
    ].filter((each) => !(page?.startsWith('https') && each === 'user@h:80'))) {
      await assert.rejects(askedFor(url, page), (error) => error instanceof TypeError && /^not the URL of an engine, as http:\/\/localhost:8080 is: /.test(error.message), `${url} on ${page}`);
    }
  }
});

test('options of connect that make no sense are refused at once', () => {
  for (const [options, says] of [
    [null, /no object/], ['sse', /no object/], [{ transports: ['sse'] }, /not an option of connect: transports/], [{ Transport: 'sse' }, /not an option/],
    [{ transport: 'pigeon' }, /not a transport: pigeon/], [{ transport: ['sse', undefined] }, /not a transport/], [{ transport: [] }, /no transport/],
    [{ token: 5 }, /token/], [{ fetch: 'node-fetch' }, /fetch/], [{ WebSocket: {} }, /WebSocket/], [{ backoffMs: 500 }, /backoffMs/],
    [{ backoffMs: [500] }, /not a time/], [{ pollMs: -1 }, /not a time/],
  ]) assert.throws(() => connect('http://127.0.0.1:1', options).close(), (error) => error instanceof TypeError && says.test(error.message), JSON.stringify(options));
});

scene('wrong arguments of every method are a clear error at once, and cost the client nothing', async (engine, join) => {
  const client = join({ transport: 'websocket' });
  const cycle = {};
  cycle.cycle = cycle;
  for (const [call, says] of [
    // Because of a bug: such a subscription failed at its first message, and lost it.
    [() => client.subscribe('t'), /messages\(topic\)/], [() => client.subscribe('t', { since: 'live' }), /messages\(topic\)/],
    [() => client.subscribe('t', {}, 'callback'), /needs a function/], [() => client.subscribe('t', null, () => {}), /no object/],
    [() => client.subscribe('t', 'live', () => {}), /no object/], [() => client.subscribe(undefined, () => {}), /not a topic/],
    [() => client.subscribe(['t'], () => {}), /not a topic/], [() => client.subscribe('t', { onGap: true }, () => {}), /onGap is not a function/],
    [() => client.subscribe('t', { since: 'yesterday' }, () => {}), /not a start/],
    [() => client.messages(), /not a topic/], [() => client.messages('t', 'live'), /no object/], [() => client.messages('t', { since: {} }), /not a start/],
    [() => client.publish(), /not a topic/], [() => client.publish('t'), /nothing to publish/], [() => client.publish('t', () => {}), /nothing to publish/],
    [() => client.publish('t', cycle), /circular/], [() => client.publish('t', 1n), /BigInt/], [() => client.publish('t', new Blob(['x'])), /a Blob/],
    [() => client.publish('t', Promise.resolve('x')), /a Promise/], [() => client.publish('t', 'x', 'event'), /no object/],
    [() => client.publish('t', 'x', null), /no object/], [() => client.publish('t', 'x', { event: 5 }), /not an event name/],
    [() => client.on('message', () => {}), /not an event: message; there are gap/], [() => client.on('toString', () => {}), /not an event/],
    [() => client.on('state'), /needs a function/], [() => client.on(Symbol('s'), () => {}), /not an event/],
  ]) assert.throws(call, (error) => error instanceof TypeError && says.test(error.message), String(call));
  const got = [];
  client.subscribe('t', { since: 'live' }, ({ data }) => got.push(data));
  await isUpOf(client, 'websocket');
  await client.publish('t', 'x');
  await until(() => got.length === 1);
  assert.deepEqual([client.errors, engine.requests.filter((line) => line.startsWith('SUB')).length], [[], 1]);
});

/** A proxy that has an engine under a path, and takes the path off. */
async function proxied(engine, prefix, body) {
  const inner = (path) => ({ port: engine.port, host: '127.0.0.1', path: path.slice(prefix.length - 1) });
  const isOurs = ({ url }) => url.startsWith(prefix);
  const strangers = [];
  const server = http.createServer((request, answer) => {
    if (!isOurs(request)) return strangers.push(request.url) && answer.writeHead(404).end();
    const further = http.request({ ...inner(request.url), method: request.method, headers: request.headers }, (from) => {
      answer.writeHead(from.statusCode, from.headers).flushHeaders();
      from.pipe(answer);
    });
    further.on('error', () => answer.destroy());
    answer.on('close', () => further.destroy());
    return request.pipe(further);
  });
  const ends = new Set();
  server.on('upgrade', (request, socket) => {
    if (!isOurs(request)) return strangers.push(request.url) && socket.destroy();
    const further = http.request({ ...inner(request.url), headers: request.headers });
    further.on('upgrade', (from, wire, head) => {
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${Object.entries(from.headers).map((pair) => pair.join(': ')).join('\r\n')}\r\n\r\n`);
      socket.write(head);
      for (const [one, other] of [[socket, wire], [wire, socket]]) one.on('error', () => {}).on('close', () => other.destroy()).pipe(other);
    });
    further.on('error', () => socket.destroy());
    ends.add(socket);
    return further.end();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await body(`http://127.0.0.1:${server.address().port}${prefix}`);
    assert.deepEqual(strangers, []);
  } finally {
    for (const socket of ends) socket.destroy();
    server.closeAllConnections();
    server.close();
  }
}

for (const transport of ['websocket', 'sse', 'stream', 'long-poll', 'poll']) {
  scene(`${transport}: an engine under a path of a proxy is read, published to and looked for there, and nowhere else`, async (engine, join) => {
    await proxied(engine, '/rt/', async (url) => {
      for (const base of [url, url.slice(0, -1)]) {
        const client = join({ transport, url: base });
        const got = [];
        client.subscribe('a/b', { since: 'live' }, ({ data }) => got.push(data));
        await isUpOf(client, transport);
        await Promise.all(['1', '2'].map((data) => client.publish('a/b', data)));
        await client.publish('a/b', '3');
        await until(() => got.length === 3);
        assert.deepEqual([got, client.errors], [['1', '2', '3'], []]);
        client.close();
      }
    });
  });
}
