// The dashboard of the admin listener: whether an operator sees what is, and can use it.
import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WebSocket } from 'ws';
import { findings } from './axe.js';
import { texts } from './corpus.js';
import { DEADLINE_MS, Engine, newTopic, until } from './engine.js';
import { Network } from './network.js';
import { scene } from './scene.js';

const FLAGS = ['--shards', '2', '--history-messages', '100'];
/** Between publications, in milliseconds: enough for figures that can be told apart. */
const PACE_MS = 20;

/** Waits until `is(words)` is true inside the page. */
const untilThere = (page, is, words) => page.waitForFunction(is, words, { polling: 20, timeout: 2 * DEADLINE_MS });
/** Waits until an element's text holds `text`. */
const shows = (page, selector, text) => untilThere(page, ([where, what]) => document.querySelector(where)?.textContent.includes(what), [selector, text])
  .catch(async (cause) => {
    throw new Error(`${selector} does not show: ${text}; but: ${await page.textContent(selector).catch(String)}`, { cause });
  });
/** Waits until a tile of the overview begins with a number for which `is` holds. */
const tile = (page, name, least) => untilThere(page, ([term, from]) => [...document.querySelectorAll('.tiles div')].some(
  (each) => each.firstChild.textContent === term && parseFloat(each.lastChild.textContent) >= from,
), [name, least]);
const stateIs = (page, text) => shows(page, '#state', text);
/** Goes to a page of the dashboard, as a link does. */
const go = (page, hash) => page.evaluate((to) => {
  location.hash = to;
}, hash);

/** Connects a reader of topics, which is closed by `ends`. */
async function reader(engine, ends, ...topics) {
  const ws = new WebSocket(new URL('/ws', engine.url.replace('http', 'ws')), 'corecast.v1');
  ends.push(() => ws.terminate());
  ws.on('error', () => {});
  ws.closed = new Promise((resolve) => ws.once('close', resolve));
  await new Promise((resolve) => ws.once('open', resolve));
  topics.forEach((topic, n) => ws.send(`SUB ${topic} id=${n}`));
  await new Promise((resolve) => ws.on('message', (data) => `${data}`.startsWith(`OK ${topics.length - 1}`) && resolve()));
  return ws;
}

/** Publishes to a topic all the time, until `ends`. */
function publishing(engine, ends, topic) {
  let count = 0;
  const timer = setInterval(() => engine.publish(topic, `message ${(count += 1)}`).catch(() => {}), PACE_MS);
  ends.push(() => clearInterval(timer));
}

/** Adds a test whose readers and publishers end with it. */
function load(name, traits, body) {
  scene(name, traits, async (given) => {
    const ends = [];
    try {
      await body({ ...given, ends });
    } finally {
      for (const end of ends.reverse()) await end();
    }
  });
}

/** Returns shard and slot of the connection of a reader. */
async function slotOf(engine, ws) {
  const peer = `127.0.0.1:${ws._socket.localPort}`;
  return until(async () => (await (await fetch(`${engine.adminUrl}/connections?limit=1000`)).json()).find((row) => row.peer === peer), 'the connection');
}

load('the overview shows figures that move with what readers and publishers do, and asks nobody but its engine', { flags: FLAGS },
  async ({ engine, page, ends }) => {
    const topic = newTopic('dashboard');
    for (let n = 0; n < 3; n += 1) await reader(engine, ends, topic);
    publishing(engine, ends, topic);
    const at = await page('about:blank');
    const asked = new Set();
    at.on('request', (request) => asked.add(new URL(request.url()).origin));
    at.on('websocket', (socket) => asked.add(new URL(socket.url()).origin.replace('ws', 'http')));
    const answer = await at.goto(engine.adminUrl);
    assert.match(answer.headers()['content-security-policy'], /default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'/);
    assert.doesNotMatch(await answer.text(), /<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)/, 'nothing that the policy would have to allow');
    await stateIs(at, 'live');
    await tile(at, 'Connections', 3);
    await tile(at, 'Messages in', 1);
    await tile(at, 'Messages out', 3);
    await shows(at, '[data-id=hottest]', topic);
    await shows(at, '[data-id=kinds]', 'line');
    await shows(at, '[data-id=shards-sum]', '2 shards');
    await shows(at, '[data-id=latency] .legend', 's');
    // A drawing has a name that says what it shows.
    await untilThere(at, () => /now \d/.test(document.querySelector('[data-id=delivered] .chart').getAttribute('aria-label')));
    assert.deepEqual([...asked], [engine.adminUrl]);

    // Who reads is not disturbed.
    await at.click('#pause');
    await stateIs(at, 'paused');
    const figures = () => at.textContent('#main');
    const before = await figures();
    const { published } = await engine.stats();
    await until(async () => (await engine.stats()).published > published + 100, 'a hundred more messages');
    assert.equal(await figures(), before);
    await at.click('#pause');
    await stateIs(at, 'live');
    await untilThere(at, (then) => document.querySelector('#main').textContent !== then, before);
  });

for (const colorScheme of ['light', 'dark']) {
  for (const [width, height] of [[1280, 800], [360, 740]]) {
    load(`the dashboard can be read and used by everybody, ${colorScheme} and ${width} wide: axe finds nothing on any page`, { flags: FLAGS },
      async ({ engine, profile, ends }) => {
        const topic = newTopic(`dashboard/${'long-'.repeat(20)}name`);
        const ws = await reader(engine, ends, topic);
        publishing(engine, ends, topic);
        const { shard, slot } = await slotOf(engine, ws);
        const between = await Network.start({ url: engine.adminUrl });
        ends.push(() => between.stop());
        const mine = await profile({ viewport: { width, height }, colorScheme });
        mine.expected = /ERR_|WebSocket connection/;
        const page = await mine.page(between.url);
        const ready = [
          ['#/', '[data-id=hottest]', topic], ['#/topics', '[data-id=rows]', topic], [`#/topic/${topic}`, '[data-id=messages]', 'message'],
          ['#/connections', '[data-id=rows]', `${shard}/${slot}`], [`#/connection/${shard}/${slot}`, '[data-id=facts]', '127.0.0.1'],
          ['#/elsewhere', 'h1', 'There is no such page'],
        ];
        await stateIs(page, 'live');
        for (const [hash, selector, text] of ready) {
          await go(page, hash);
          await shows(page, selector, text);
          assert.deepEqual(await findings(page), [], hash);
          const [wanted, there] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
          assert.ok(wanted <= there, `${hash}: ${wanted} pixels in ${there}`);
        }
        await go(page, `#/connection/${shard}/${slot}`);
        await page.click('[data-id=disconnect]:enabled');
        assert.deepEqual(await findings(page), [], 'the question');
        await page.keyboard.press('Escape');
        await go(page, '#/');
        await shows(page, '[data-id=hottest]', topic);
        between.isAway = true;
        between.cut();
        await stateIs(page, 'engine gone since');
        assert.deepEqual(await findings(page), [], 'without an engine');
      });
  }
}

load('the dashboard can be used with the keyboard alone: all is reached, it is seen where one is, and a page begins at its heading', { flags: ['--shards', '1'] },
  async ({ engine, page, ends }) => {
    const topic = newTopic('keyboard');
    await reader(engine, ends, topic);
    publishing(engine, ends, topic);
    const at = await page(engine.adminUrl);
    await shows(at, '[data-id=hottest]', topic);
    const here = () => at.evaluate(() => {
      const element = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(element);
      return { text: element.getAttribute('aria-label') ?? element.textContent, tag: element.tagName, isSeen: outlineStyle !== 'none' && outlineWidth !== '0px' };
    });
    await at.keyboard.press('Tab');
    assert.equal((await here()).text, 'Skip to the page');
    const reached = [];
    for (let n = 0; n < 40 && !reached.includes('Events, the newest first'); n += 1) {
      await at.keyboard.press('Tab');
      const { text, isSeen } = await here();
      assert.ok(isSeen, `nobody sees that one is at: ${text}`);
      reached.push(text);
    }
    for (const each of ['Pause', 'Overview', 'Topics', 'Connections', topic, 'Events, the newest first']) assert.ok(reached.includes(each), `not reached: ${each}`);
    await at.focus('#skip');
    await at.keyboard.press('Enter');
    assert.equal((await here()).tag, 'MAIN');
    await at.focus('nav a[href="#/topics"]');
    await at.keyboard.press('Enter');
    await shows(at, '[data-id=rows]', topic);
    assert.deepEqual(await here().then(({ text, tag }) => [text, tag]), ['Topics', 'H1']);
    assert.equal(await at.title(), 'Topics – corecast dashboard');
    await at.fill('[data-id=open] input', topic);
    await at.keyboard.press('Enter');
    await shows(at, 'h1', topic);
    await shows(at, '[data-id=messages]', 'message');
  });

load('a limit that is near, and what was refused, is said in words', { flags: ['--shards', '1', '--max-topics', '10'] }, async ({ engine, page }) => {
  const at = await page(engine.adminUrl);
  await shows(at, '[data-id=near]', 'None is near');
  for (let n = 0; n < 10; n += 1) await engine.publish(newTopic('many'), 'x').catch(() => {}); // The last ones find no room.
  await engine.publish(newTopic('large'), 'x'.repeat(100_000)).catch(() => {});
  await shows(at, '[data-id=near]', 'Near: topics at ');
  await shows(at, '[data-id=limits]', 'near: ');
  await shows(at, '[data-id=events]', 'Refused: a payload was too large');
});

load('a row under the keyboard keeps its place while what it shows goes on, and takes its new one afterwards', { flags: ['--shards', '1', '--history-messages', '50'] },
  async ({ engine, page }) => {
    const [large, small] = [newTopic('large'), newTopic('small')];
    await engine.publish(large, 'x'.repeat(3000));
    await engine.publish(small, 'x');
    const at = await page(`${engine.adminUrl}/#/topics`);
    await at.selectOption('[name=sort]', 'bytes');
    const before = ([first, second]) => {
      const shown = [...document.querySelectorAll('[data-id=rows] a')].map((link) => link.textContent);
      return shown.includes(second) && shown.indexOf(first) < shown.indexOf(second);
    };
    await untilThere(at, before, [large, small]);
    await at.focus(`text="${small}"`);
    for (let n = 0; n < 5; n += 1) await engine.publish(small, 'x'.repeat(3000));
    await untilThere(at, (topic) => [...document.querySelectorAll('[data-id=rows] tr')].some((row) => row.textContent.startsWith(topic) && row.textContent.includes('KiB')), small);
    assert.ok(await at.evaluate(before, [large, small]));
    assert.equal(await at.evaluate(() => document.activeElement.textContent), small);
    await at.focus('#pause');
    await untilThere(at, before, [small, large]);
  });

load('a page of a topic shows what is published now, whatever it is, as text', { flags: FLAGS }, async ({ engine, page }) => {
  const topic = newTopic("topic with spaces, 100% 'quoted' <b>");
  await engine.publish(topic, 'before');
  const at = await page(`${engine.adminUrl}/#/topic/${encodeURIComponent(topic)}`);
  await shows(at, '[data-id=messages]', 'before');
  const first = '[data-id=messages] tbody tr:first-child .payload';
  for (const text of ['<script>pwned()</script>', '<img src=x onerror=pwned()>', ...texts.slice(0, 10)].filter(Boolean)) {
    await engine.publish(topic, text, '<b>event</b>'.includes(text) ? undefined : 'tick');
    await untilThere(at, ([where, wanted]) => document.querySelector(where).textContent === wanted, [first, text]);
  }
  assert.equal(await at.$$eval('main script, main img, main b:not(.legend b)', (found) => found.length), 0);
  await engine.publish(topic, Uint8Array.of(0, 255, 16));
  await shows(at, first, '3 bytes, no text: 00 ff 10');
  await engine.publish(topic, 'x'.repeat(5000));
  await shows(at, first, '… (5\u202f000 characters)');
  assert.ok((await at.textContent(first)).length < 1100);
  await shows(at, '[data-id=facts]', 'Messages kept');

  // More than anybody can read are not all shown; and when it is calm again, all are.
  await engine.publishAll(Array.from({ length: 200 }, (_, n) => ({ topic, data: `flood ${n}` })));
  await shows(at, '[data-id=reading]', 'Too many to read');
  await shows(at, '[data-id=reading]', 'The last 20');
  await engine.publish(topic, 'calm');
  await shows(at, first, 'calm');
  assert.ok((await at.$$('[data-id=messages] tbody tr')).length <= 20);
});

load('a topic that nobody knows is said to be none, and shown as soon as there is one', { flags: FLAGS }, async ({ engine, profile }) => {
  const topic = newTopic('nothing');
  const mine = await profile();
  mine.expected = /40[04]/;
  const at = await mine.page(`${engine.adminUrl}/#/topic/${topic}`);
  await shows(at, '[data-id=messages]', 'Nothing has been published yet');
  await engine.publish(topic, 'something');
  await shows(at, '[data-id=messages]', 'something');
  await shows(at, '[data-id=facts]', 'Newest number');
  // A name that is no topic is refused in words, and the page goes on.
  await go(at, '#/topic/a//b');
  await shows(at, '[data-id=reading]', 'It cannot be read: ');
  await go(at, '#/topics');
  await shows(at, '[data-id=rows]', topic);
});

load('connections are found by kind and address, and one is ended when the operator says so twice', { flags: FLAGS }, async ({ engine, profile, ends }) => {
  const topic = newTopic('disconnect');
  const ws = await reader(engine, ends, topic);
  const innocent = await reader(engine, ends, topic);
  const { shard, slot } = await slotOf(engine, ws);
  const mine = await profile();
  mine.expected = /404/; // The page asks once more for the connection that it has ended.
  const at = await mine.page(`${engine.adminUrl}/#/connections`);
  await at.selectOption('[name=kind]', 'sse');
  await shows(at, '[data-id=rows]', 'No connection is like that.');
  await at.selectOption('[name=kind]', 'line');
  await at.fill('[name=peer]', `127.0.0.1:${ws._socket.localPort}`);
  await at.keyboard.press('Enter');
  await untilThere(at, () => document.querySelectorAll('[data-id=rows] tbody tr').length === 1);
  await at.click(`text="${shard}/${slot}"`);
  await shows(at, '[data-id=facts]', `127.0.0.1:${ws._socket.localPort}`);
  await shows(at, '[data-id=rows]', topic);
  await at.click('[data-id=disconnect]');
  await at.click('#ask >> text="Keep it"');
  assert.equal(ws.readyState, WebSocket.OPEN);
  await at.click('[data-id=disconnect]');
  await at.click('#ask >> text="Disconnect"');
  await shows(at, '[data-id=done]', 'It was disconnected.');
  assert.equal(await ws.closed, 1008);
  await shows(at, '[data-id=note]', 'Nobody is connected there now');
  assert.equal(innocent.readyState, WebSocket.OPEN);
});

load('figures of an engine that stands still, or is gone, are said to be old; another one is live at once, and never negative', { flags: FLAGS },
  async ({ profile, ends }) => {
    const first = await Engine.start(...FLAGS);
    const between = await Network.start({ url: first.adminUrl });
    ends.push(() => between.stop());
    const mine = await profile();
    mine.expected = /ERR_|WebSocket connection/;
    const page = await mine.page(between.url);
    await stateIs(page, 'live');
    for (let n = 0; n < 20; n += 1) await first.publish('a', 'b');
    first.standStill();
    await stateIs(page, 'stale: no figures since');
    assert.ok(await page.$('body.stale'));
    first.goOn();
    await stateIs(page, 'live');
    assert.equal(await page.$('body.stale'), null);
    between.isAway = true;
    between.cut();
    await first.stop();
    await stateIs(page, 'engine gone since');
    const second = await Engine.start(...FLAGS);
    ends.push(() => second.stop());
    between.lead({ url: second.adminUrl });
    between.isAway = false;
    await stateIs(page, 'live');
    await shows(page, '[data-id=events]', 'The engine was started again');
    await tile(page, 'Messages in', 0);
    assert.doesNotMatch(await page.textContent('#main'), /[-−]\d/);
  });

const SECRET = 'an-admin-token-of-these-tests';
const tokens = join(mkdtempSync(join(tmpdir(), 'corecast-dashboard-')), 'tokens');
writeFileSync(tokens, `${SECRET}\n`, { mode: 0o600 });

load('an engine with an admin token is shown to those who have it; the token lives as long as the tab, and is in no address',
  { flags: ['--shards', '1', '--admin-token', tokens] }, async ({ engine, profile }) => {
    const mine = await profile();
    mine.expected = /401|WebSocket connection/;
    const page = await mine.page(engine.adminUrl);
    const asked = [];
    page.on('request', (request) => asked.push(request.url()));
    const give = async (token) => {
      await page.waitForSelector('#token[open]', { timeout: DEADLINE_MS });
      await page.fill('#token input', token);
      await page.keyboard.press('Enter');
    };
    await page.waitForSelector('#token[open]', { timeout: DEADLINE_MS });
    assert.deepEqual(await findings(page), []);
    await give('bm90IG9uZSBvZiB0aGUgZmlsZQ==');
    await shows(page, '#token-wrong', 'letters, digits');
    await give('a-token-that-is-another-one');
    await shows(page, '#token-wrong', 'does not take this token');
    await give(SECRET);
    await stateIs(page, 'live');
    await tile(page, 'Connections', 0);
    await page.reload();
    await stateIs(page, 'live');
    await engine.publish('secret/topic', 'hello');
    await go(page, '#/topic/secret/topic');
    await shows(page, '[data-id=messages]', 'hello');
    await shows(page, '[data-id=facts]', 'Messages kept');
    assert.ok(asked.length && !asked.some((url) => url.includes(SECRET)));
    assert.equal(await page.evaluate(() => JSON.stringify({ ...localStorage }).includes('token')), false);
  });

load('the WebSocket of the admin listener is for reading, and for no page of another origin', { flags: FLAGS }, async ({ engine, profile, site, ends }) => {
  const url = new URL('/ws', engine.adminUrl.replace('http', 'ws')).href;
  const ws = new WebSocket(url, 'corecast.v1');
  ends.push(() => ws.terminate());
  const heard = [];
  ws.on('message', (data) => heard.push(`${data}`));
  await new Promise((resolve) => ws.once('open', resolve));
  ws.send('PUB news id=1\nhello');
  ws.send('SUB $sys/stats since=-1 id=2');
  await until(() => heard.some((line) => line.startsWith('MSG $sys/stats')), 'figures');
  assert.match(heard.find((line) => line.startsWith('ERR')) ?? '', /^ERR 1 forbidden/);
  const foreign = await site();
  const mine = await profile();
  mine.expected = /WebSocket connection/;
  const at = await mine.page(foreign.origin('pages.example'));
  const ended = at.evaluate((to) => new Promise((resolve) => {
    const socket = new WebSocket(to, 'corecast.v1');
    socket.onmessage = ({ data }) => resolve(`it is told: ${data}`);
    socket.onclose = () => resolve('refused');
  }), url);
  assert.equal(await ended, 'refused');
});
