// The client as the engine serves it: as it is written and minified, compressed, kept by browsers; and pages that were opened from a file.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { DEADLINE_MS, newTopic } from './engine.js';
import { scene } from './scene.js';

const PATHS = ['/corecast.js', '/corecast.min.js'];

/** Asks without a library that decodes or keeps anything. */
const ask = (url, headers) => new Promise((resolve, reject) => {
  http.get(url, { headers, agent: false }, async (answer) => {
    const parts = [];
    for await (const part of answer) parts.push(part);
    resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) });
  }).on('error', reject);
});

scene('the client is served as it stands in the tree, with gzip to those who read it, and again only to those who have it not', {}, async ({ engine }) => {
  for (const path of PATHS) {
    const whole = await readFile(new URL(`../../clients/js${path}`, import.meta.url));
    const plain = await ask(engine.url + path, {});
    const packed = await ask(engine.url + path, { 'Accept-Encoding': 'gzip, deflate, br' });
    assert.deepEqual([plain.body.equals(whole), gunzipSync(packed.body).equals(whole)], [true, true], path);
    assert.deepEqual([plain.headers['content-encoding'], packed.headers['content-encoding']], [undefined, 'gzip']);
    for (const { headers } of [plain, packed]) {
      const again = await ask(engine.url + path, { 'If-None-Match': headers.etag, 'Accept-Encoding': headers['content-encoding'] ?? 'identity' });
      assert.deepEqual([again.status, again.body.length, again.headers.etag], [304, 0, headers.etag]);
    }
    assert.ok(packed.body.length < (path === '/corecast.min.js' ? 14_500 : 24_500), `${packed.body.length} bytes`);
  }
});

for (const path of PATHS) {
  scene(`a page uses ${path}, and a second one has it from the browser's own cache`, {}, async ({ engine, network, profile }) => {
    const between = await network();
    const mine = await profile();
    const topic = newTopic('assets');
    for (const data of ['1', '2']) {
      const page = await mine.page(`${between.url}/topics/x`);
      const got = await page.evaluate(async ([at, name, text]) => {
        const { connect } = await import(at);
        const client = connect();
        const heard = new Promise((resolve) => client.subscribe(name, { since: 'live', onStart: () => client.publish(name, text) }, (message) => resolve(message.data)));
        return heard.finally(() => client.close());
      }, [path, topic, data]);
      assert.equal(got, data);
      await page.close();
    }
    assert.equal(between.asked.filter((asked) => asked === path).length, 1, `${between.asked}`);
  });
}

/** A page as somebody has it on a disk. */
async function fromFile(body) {
  const folder = await mkdtemp(join(tmpdir(), 'corecast-page-'));
  try {
    await body(async (engine, options) => {
      const path = join(folder, 'page.html');
      await writeFile(path, `<!doctype html><meta charset="utf-8"><title>news</title><link rel="icon" href="data:,"><pre></pre><script type="module">
        import { connect } from '${engine.url}/corecast.js';
        const show = (text) => document.querySelector('pre').append(text + '\\n');
        const client = connect('${engine.url}', ${JSON.stringify(options)});
        client.on('error', ({ message }) => show(message));
        client.on('state', ({ state }) => show(state));
        client.subscribe('news', { since: 'live', onStart: () => client.publish('news', 'from a file') }, ({ data }) => show('got ' + data));
      </script>`);
      return pathToFileURL(path).href;
    });
  } finally {
    await rm(folder, { recursive: true });
  }
}

const shows = (page, text) => page.waitForFunction((what) => document.querySelector('pre').textContent.includes(what), text, { polling: 20, timeout: 2 * DEADLINE_MS });

// Because of a bug: such a page stayed blank, as a module of another origin is not even run, and nothing said why.
for (const options of [{}, { transport: 'sse', backoffMs: [10, 100] }]) {
  scene(`a page that was opened from a file is told that its origin is not allowed, and by which setting it would be: ${JSON.stringify(options)}`,
    { flags: ['--shards', '1'] }, async ({ engine, profile }) => {
      await fromFile(async (make) => {
        const mine = await profile();
        mine.expected = /ERR_|CORS|403|WebSocket/;
        const page = await mine.page(await make(engine, options));
        await shows(page, 'setting `origins` (--origins null)');
        const text = await page.textContent('pre');
        assert.ok(!/open|got/.test(text), text);
      });
    });
}

scene('a page that was opened from a file works where `null` is an allowed origin', { flags: ['--shards', '1', '--origins', 'null'] }, async ({ engine, profile }) => {
  await fromFile(async (make) => {
    const page = await (await profile()).page(await make(engine, {}));
    await shows(page, 'got from a file');
  });
});
