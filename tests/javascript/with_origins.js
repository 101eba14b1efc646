// Pages of other origins: what an allowed one may do, and that one that is not allowed can read nothing and publish nothing.
import assert from 'node:assert/strict';
import { newTopic } from './engine.js';
import { scene } from './scene.js';

const flags = (site) => ['--origins', site.origin('app.example')];

/** Tries everything a page can try, and returns what it got, or `refused`. Runs inside the page. */
async function tryAll({ url, ws }) {
  const options = { credentials: 'include' };
  const after = (ms, value) => new Promise((resolve) => setTimeout(resolve, ms, value));
  const attempts = {
    async poll() {
      const answer = await fetch(`${url}?transport=poll`, options);
      return [(await answer.json())[0].data, answer.headers.get('Corecast-Cursor') !== null];
    },
    async value() {
      return (await fetch(`${url}?transport=value`, options)).text();
    },
    async stream() {
      const { body } = await fetch(`${url}?transport=stream`, options);
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ''; ; text += (await reader.read()).value) {
        const line = text.split('\n').find((each) => each.startsWith('{'));
        if (!line) continue;
        reader.cancel();
        return JSON.parse(line).data;
      }
    },
    eventsource() {
      const source = new EventSource(`${url}?transport=sse`, { withCredentials: true });
      return new Promise((resolve, reject) => {
        source.onmessage = ({ data }) => resolve(data);
        source.onerror = () => source.readyState === EventSource.CLOSED && reject(new Error('closed'));
      }).finally(() => source.close());
    },
    websocket() {
      const socket = new WebSocket(ws);
      return new Promise((resolve, reject) => {
        socket.onmessage = ({ data }) => resolve(data);
        socket.onclose = reject;
      }).finally(() => socket.close());
    },
    async publish() {
      const answer = await fetch(`${url}%2Fpublished`, { ...options, method: 'POST', body: 'x', headers: { 'Corecast-Event': 'e' } });
      return (await answer.json()).cursor.endsWith('-1');
    },
    async simple() { // Needs no preflight.
      const answer = await fetch(`${url}%2Fsimple`, { ...options, method: 'POST', body: 'x' });
      return (await answer.json()).cursor.endsWith('-1');
    },
    async opaque() {
      const answer = await fetch(`${url}%2Fopaque`, { method: 'POST', body: 'x', mode: 'no-cors' });
      return [answer.type, await answer.text()];
    },
    async delete() {
      const answer = await fetch(`${url}%2Fkept`, { ...options, method: 'DELETE' });
      return answer.ok;
    },
    frame() { // `parent` is not reachable from another origin, so nobody is called.
      window.corecast = ({ data }) => {
        window.framed = data;
      };
      const frame = document.createElement('iframe');
      frame.src = `${url}?transport=forever-frame`;
      document.documentElement.append(frame);
      return new Promise((resolve) => {
        frame.onload = () => resolve();
        after(300).then(resolve);
      }).then(() => window.framed ?? 'nothing');
    },
  };
  const entries = Object.entries(attempts).map(async ([name, attempt]) => {
    const result = await Promise.race([attempt(), after(5000, 'nothing came')]).catch(() => 'refused');
    return [name, result];
  });
  return Object.fromEntries(await Promise.all(entries));
}

for (const [host, isAllowed] of [['app.example', true], ['evil.example', false], ['app.example.evil.example', false], ['127.0.0.1', true]]) {
  const name = isAllowed ? `a page of ${host}, another origin that is allowed, reads and publishes, with credentials`
    : `a page of ${host}, which is not allowed, reads nothing and changes nothing`;
  scene(name, { flags }, async ({ engine, profile, site }) => {
    const topic = newTopic('origin');
    await engine.publish(topic, 'secret');
    await engine.publish(`${topic}/kept`, 'kept');
    const mine = await profile();
    mine.expected = isAllowed ? /^error: .*Blocked a frame|parent/ : /CORS|Failed to load|WebSocket|Blocked a frame|Framing .* violates/;
    const page = await mine.page(site.origin(host));
    const found = await page.evaluate(tryAll, { url: engine.at(topic), ws: engine.at(topic).replace('http', 'ws') });
    const left = async (rest) => (await (await fetch(engine.at(`${topic}/${rest}`))).json()).length;
    if (isAllowed) {
      assert.deepEqual(found, {
        poll: ['secret', true], value: 'secret', stream: 'secret', eventsource: 'secret', websocket: 'secret', publish: true, simple: true,
        opaque: ['opaque', ''], delete: true, frame: 'nothing',
      });
      assert.deepEqual(await Promise.all(['published', 'simple', 'opaque', 'kept'].map(left)), [1, 1, 1, 0]);
    } else {
      assert.deepEqual(found, {
        poll: 'refused', value: 'refused', stream: 'refused', eventsource: 'refused', websocket: 'refused', publish: 'refused', simple: 'refused',
        opaque: ['opaque', ''], delete: 'refused', frame: 'nothing',
      });
      assert.deepEqual(await Promise.all(['published', 'simple', 'opaque', 'kept'].map(left)), [0, 0, 0, 1]);
    }
  });
}

scene('a browser asks once before it publishes across origins, and keeps the answer', { flags }, async ({ profile, network, site }) => {
  const between = await network();
  const page = await (await profile()).page(site.origin('app.example'));
  const cursors = await page.evaluate(async (url) => {
    const all = [];
    for (let n = 0; n < 3; n += 1) {
      const answer = await fetch(url, { method: 'POST', body: 'x', headers: { 'Corecast-Event': 'e' } });
      all.push((await answer.json()).cursor.split('-')[1]);
    }
    return all;
  }, `${between.url}/topics/preflight`);
  assert.deepEqual(cursors, ['1', '2', '3']);
  assert.deepEqual(between.asked.sort(), ['preflight', 'publish', 'publish', 'publish']);
});

scene('a page whose own name resolves to the engine (DNS rebinding) reads nothing and publishes nothing', {}, async ({ engine, profile }) => {
  const topic = newTopic('rebinding');
  await engine.publish(topic, 'secret');
  const mine = await profile();
  mine.expected = /421/;
  const page = await mine.page('about:blank');
  const { port } = new URL(engine.url);
  const answer = await page.goto(`http://evil.example:${port}/`);
  assert.equal(answer.status(), 421);
  // It is of the same origin as everything that it asks for here.
  const found = await page.evaluate(async (path) => {
    const read = await fetch(path);
    const published = await fetch(path, { method: 'POST', body: 'x' });
    return [read.status, (await read.text()).includes('secret'), published.status];
  }, new URL(engine.at(topic)).pathname);
  assert.deepEqual(found, [421, false, 421]);
  assert.equal((await (await fetch(engine.at(topic))).json()).length, 1);
});
