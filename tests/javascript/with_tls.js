// TLS: pages over https and WebSockets over wss in a browser, and the npm packages and Node's fetch, each with a certificate of the tests.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request } from 'node:https';
import { EventSource } from 'eventsource';
import { WebSocket } from 'ws';
import { CERTIFICATE, TLS_FLAGS } from './certificate.js';
import { DEADLINE_MS, newTopic, until } from './engine.js';
import { scene } from './scene.js';

const FLAGS = ['--shards', '2', '--echo', '--history-messages', '1000', '--history-bytes', '4M', ...TLS_FLAGS];
const ca = CERTIFICATE.text;
const wss = (engine, path) => `${engine.tlsUrl.replace('https', 'wss')}${path}`;

/** Asks over a connection that an agent keeps; returns the status and the text of the answer. */
function ask(url, { body, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const asking = request(url, { ca, ...options }, async (answer) => {
      let text = '';
      for await (const piece of answer) text += piece;
      resolve([answer.statusCode, text]);
    });
    asking.once('error', reject);
    asking.end(body);
  });
}

/** A `fetch` that believes the certificate, for what takes one: Node's own has no setting for that but its environment. */
const fetchWith = (agent) => (url, { headers, signal } = {}) => new Promise((resolve, reject) => {
  const asking = request(url, { ca, agent, headers: Object.fromEntries(new Headers(headers)), signal }, (answer) => {
    const body = new ReadableStream({
      start(controller) {
        answer.on('data', (piece) => controller.enqueue(piece));
        answer.once('end', () => controller.close());
        answer.once('error', (error) => controller.error(error));
      },
      cancel: () => answer.destroy(),
    });
    resolve({ status: answer.statusCode, headers: new Headers(answer.headers), url: String(url), redirected: false, body });
  });
  asking.once('error', reject);
  asking.end();
});

scene('a page over https connects by wss of the same host, and has every message once, over each transport', { flags: FLAGS },
  async ({ engine, page }) => {
    const topic = newTopic('https');
    const at = await page(`${engine.tlsUrl}/corecast.js`);
    assert.equal(await at.evaluate(() => window.isSecureContext && window.location.protocol), 'https:');
    for (const transport of ['websocket', 'sse', 'stream', 'long-poll', 'poll']) {
      const name = `${topic}/${transport}`;
      await at.evaluate(async ([path, over]) => {
        const { connect } = await import('/corecast.js');
        const client = connect(window.location.origin, { transport: over });
        window.got = [];
        window.client = client;
        client.subscribe(path, { since: 'earliest' }, ({ data }) => window.got.push(data));
      }, [name, transport]);
      await at.evaluate(async (path) => window.client.publish(path, 'from the page'), name);
      for (let n = 0; n < 20; n += 1) await engine.publish(name, `${n} ${'ü'.repeat(500 * n)}`);
      await at.waitForFunction(() => window.got.length >= 21, undefined, { polling: 20, timeout: DEADLINE_MS });
      assert.equal(await at.evaluate(() => window.client.transport), transport);
      const expected = ['from the page', ...Array.from({ length: 20 }, (_, n) => `${n} ${'ü'.repeat(500 * n)}`)];
      assert.deepEqual(await at.evaluate(() => window.got), expected, transport);
      await at.evaluate(() => window.client.close());
    }
  });

scene('the demo page works over https', { flags: FLAGS }, async ({ engine, page }) => {
  const at = await page(`${engine.tlsUrl}/`);
  await at.waitForFunction(() => document.querySelector('#state').textContent.includes('live over WebSocket'), undefined, { polling: 20, timeout: DEADLINE_MS });
  const said = `over https ${newTopic()}`;
  await at.fill('#say input', said);
  await at.press('#say input', 'Enter');
  await at.waitForFunction((text) => document.querySelector('#chat').textContent.includes(text), said, { polling: 20, timeout: DEADLINE_MS });
});

scene('a browser does not open a page whose certificate nobody believes', { flags: FLAGS }, async ({ engine, profile }) => {
  const mine = await profile();
  mine.expected = /./;
  // The key is believed for any name, so the port of a listener without TLS has to do: no certificate at all.
  await assert.rejects(mine.page(engine.url.replace('http:', 'https:')), /ERR_SSL_PROTOCOL_ERROR|ERR_CONNECTION_CLOSED|ERR_EMPTY_RESPONSE/);
});

scene('npm ws over wss: text, bytes, large and compressed messages come back; who does not know the certificate does not connect', { flags: FLAGS },
  async ({ engine }) => {
    for (const perMessageDeflate of [true, false]) {
      const ws = new WebSocket(wss(engine, '/echo'), { ca, perMessageDeflate });
      const heard = [];
      ws.on('message', (data, isBinary) => heard.push(isBinary ? [...data] : data.toString()));
      await once(ws, 'open');
      const noise = Buffer.from(Array.from({ length: 60_000 }, (_, i) => (i * 7919 + (i >> 3) * 31) % 256));
      const sent = ['', 'short', 'gr\u00fcn', 'same '.repeat(12_000), Buffer.of(255, 0, 254), noise, ...Array.from({ length: 300 }, (_, n) => `${n}`)];
      for (const message of sent) ws.send(message);
      await until(() => heard.length >= sent.length, `${sent.length} messages; there are ${heard.length}`);
      assert.deepEqual(heard, sent.map((message) => (typeof message === 'string' ? message : [...message])));
      ws.close(4321);
      assert.equal((await once(ws, 'close'))[0], 4321);
    }
    const stranger = new WebSocket(wss(engine, '/echo'));
    const [error] = await once(stranger, 'error');
    assert.match(error.code, /SELF_SIGNED|UNABLE_TO_VERIFY/);
  });

scene('npm eventsource over https: events come, and go on behind the last one after the stream has ended', { flags: [...FLAGS, '--stream-seconds', '1'] },
  async ({ engine }) => {
    const topic = newTopic('eventsource');
    const agent = new Agent({ ca, keepAlive: true });
    const url = engine.at(topic, { transport: 'sse' }).replace(engine.url, engine.tlsUrl);
    const heard = [];
    let opened = 0;
    const events = new EventSource(url, { fetch: fetchWith(agent) });
    events.addEventListener('message', ({ data }) => heard.push(data));
    events.addEventListener('open', () => {
      opened += 1;
    });
    try {
      await until(() => opened > 0, 'it is there'); // It gets what comes from now on.
      for (let n = 0; n < 30; n += 1) await engine.publish(topic, `${n}`);
      await until(() => opened > 1, 'it has come back');
      await engine.publish(topic, 'last');
      await until(() => heard.includes('last'), 'the last one');
      assert.deepEqual(heard, [...Array.from({ length: 30 }, (_, n) => `${n}`), 'last']);
    } finally {
      events.close();
      agent.destroy();
    }
  });

scene('Node keeps its connections and its sessions: many requests are one handshake, and the next connection resumes', { flags: ['--shards', '1', ...TLS_FLAGS] },
  async ({ engine }) => {
    const topic = newTopic('node');
    const url = engine.at(topic).replace(engine.url, engine.tlsUrl);
    const agent = new Agent({ keepAlive: true, maxSockets: 1, maxCachedSessions: 10 });
    const before = await engine.stats();
    for (let n = 0; n < 20; n += 1) {
      const [status] = await ask(url, { agent, method: 'POST', body: `${n}` });
      assert.equal(status, 200);
    }
    const kept = await engine.stats();
    assert.equal(kept.tls_handshakes - before.tls_handshakes, 1);
    const [, text] = await ask(`${url}?since=earliest`, { agent, headers: { Connection: 'close' } });
    assert.deepEqual(JSON.parse(text).map(({ data }) => data), Array.from({ length: 20 }, (_, n) => `${n}`));
    await ask(url, { agent, method: 'POST', body: 'again' });
    const after = await engine.stats();
    assert.deepEqual([after.tls_handshakes - kept.tls_handshakes, after.tls_resumed - kept.tls_resumed], [1, 1]);
    agent.destroy();
  });
