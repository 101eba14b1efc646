// The client of this project in a browser, in a network that blocks one transport after another, and in several tabs.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { DEADLINE_MS, newTopic, until } from './engine.js';
import { scene } from './scene.js';

const ORDER = ['websocket', 'sse', 'stream', 'long-poll', 'poll'];

/** Connects inside a page, and keeps in `got` what comes of each topic. */
async function connect(page, { url, options, topics, since = 'earliest' }) {
  await page.evaluate(async (words) => {
    const { connect: open } = await import('/corecast.js');
    window.client = open(words.url, words.options);
    window.got = {};
    window.told = { gap: [], error: [], state: [] };
    for (const type of Object.keys(window.told)) window.client.on(type, (event) => window.told[type].push(event));
    for (const topic of words.topics) {
      window.got[topic] = [];
      window.client.subscribe(topic, { since: words.since }, ({ data }) => window.got[topic].push(Number(data)));
    }
  }, { url, options, topics, since });
}

const isOver = (page, transport) => page.waitForFunction(
  (name) => window.client.state === 'open' && window.client.transport === name, transport, { polling: 10, timeout: 2 * DEADLINE_MS },
);

/** Publishes numbers to a topic, one after another over one connection, until it is stopped; `count` says how many. */
async function counter(engine, topic) {
  const ws = new WebSocket(`${engine.url.replace('http', 'ws')}/ws`, 'corecast.v1');
  await once(ws, 'message'); // HI
  const publisher = { count: 0, isRunning: true };
  const done = (async () => {
    while (publisher.isRunning && ws.readyState === WebSocket.OPEN) {
      ws.send(`PUB ${topic} id=${publisher.count}\n${publisher.count}`);
      await once(ws, 'message'); // OK
      publisher.count += 1;
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
  })().catch(() => {}); // A test that failed has stopped its engine.
  publisher.stop = async () => {
    publisher.isRunning = false;
    await done;
    ws.close();
  };
  return publisher;
}

const upTo = (count, from = 0) => Array.from({ length: count - from }, (_, i) => from + i);

/** Waits for the last number, and checks that there is neither hole nor duplicate. */
async function hasAll(page, topic, count, from) {
  await page.waitForFunction(([name, last]) => window.got[name].includes(last), [topic, count - 1], { polling: 10, timeout: DEADLINE_MS });
  const got = await page.evaluate((name) => window.got[name], topic);
  assert.deepEqual(got, upTo(count, from ?? got[0]));
}

scene('as one transport after another is blocked in mid-stream, the client falls to the next, and loses and repeats nothing', {},
  async ({ engine, profile, network }) => {
    const between = await network();
    const topics = [newTopic('fallback'), newTopic('fallback')];
    const mine = await profile();
    mine.expected = /Failed to load|WebSocket|ERR_/;
    const page = await mine.page(`${between.url}/corecast.js`);
    const publishers = await Promise.all(topics.map((topic) => counter(engine, topic)));
    await connect(page, { options: { backoffMs: [20, 200], pollMs: 50 }, topics });
    const seen = [];
    for (const transport of ORDER) {
      await isOver(page, transport);
      seen.push(transport);
      const { count } = publishers[0];
      await page.waitForFunction(([name, n]) => window.got[name].includes(n), [topics[0], count], { polling: 10, timeout: DEADLINE_MS });
      if (transport === 'poll') break;
      between.blocked.add(transport);
      between.cut(transport);
    }
    assert.deepEqual(seen, ORDER);
    await Promise.all(publishers.map((publisher) => publisher.stop()));
    for (const [i, topic] of topics.entries()) await hasAll(page, topic, publishers[i].count, 0);
    assert.deepEqual(await page.evaluate(() => [window.told.gap, window.told.error]), [[], []]);

    // The next page begins with what worked.
    await page.evaluate(() => window.client.close());
    between.asked.length = 0;
    const next = await mine.page(`${between.url}/corecast.js`);
    await connect(next, { topics });
    await isOver(next, 'poll');
    assert.deepEqual([...new Set(between.asked)].filter((name) => ORDER.includes(name)), ['poll']);
  });

scene('a stream whose head comes, and nothing for two seconds behind it, is left for the next transport', {}, async ({ engine, page, network }) => {
  const between = await network();
  between.held = new Set(['websocket', 'sse', 'stream']);
  const topic = newTopic('held');
  const at = await page(`${between.url}/corecast.js`);
  await engine.publish(topic, '0');
  await connect(at, { options: { backoffMs: [20, 200] }, topics: [topic] });
  await isOver(at, 'long-poll');
  await engine.publish(topic, '1');
  await hasAll(at, topic, 2, 0);
  const reasons = await at.evaluate(() => window.told.state.filter(({ state }) => state === 'connecting').map(({ transport }) => transport));
  assert.deepEqual(reasons, ORDER.slice(0, 4));
});

for (const transport of ORDER) {
  scene(`${transport}: a page publishes text, bytes and objects, reads them with a loop, and a hundred topics at once`, {}, async ({ page }) => {
    const at = await page();
    const topics = Array.from({ length: 100 }, (_, i) => newTopic(`many ${i} ü`));
    const found = await at.evaluate(async ({ name, list }) => {
      const { connect: open } = await import('/corecast.js');
      const client = open(undefined, { transport: name, pollMs: 50 });
      const [topic] = list;
      const before = client.messages(topic, { since: 'live' });
      const cursor = await client.publish(topic, 'text', { event: 'tick' });
      await Promise.all([client.publish(topic, Uint8Array.of(255, 0, 10)), client.publish(topic, { n: 1 }), client.publish(topic, '')]);
      const loop = client.messages(topic, { since: 'earliest' });
      const items = [];
      for await (const { data, event } of loop) if (items.push([typeof data === 'string' ? data : [...data], event]) === 4) break;
      const last = (await client.messages(topic, { since: cursor }).next()).value.data;
      const heard = new Map();
      await new Promise((resolve) => {
        for (const each of list.slice(1)) {
          client.subscribe(each, { since: 'earliest' }, (message) => {
            heard.set(message.topic, message.data);
            if (heard.size === list.length - 1) resolve();
          });
          client.publish(each, each);
        }
      });
      const first = (await before.next()).value.data;
      const result = { transport: client.transport, items, first, last: [...last], heard: [...heard].filter(([key, value]) => value === key).length };
      client.close();
      return result;
    }, { name: transport, list: topics });
    assert.deepEqual(found.items, [['text', 'tick'], [[255, 0, 10], undefined], ['{"n":1}', undefined], ['', undefined]]);
    assert.deepEqual({ ...found, items: 0 }, { transport, items: 0, first: 'text', last: [255, 0, 10], heard: 99 });
  });
}

// A browser may open spare connections, and an engine keeps them for a while: here shorter than a test waits.
const BRIEFLY = ['--history-messages', '1000', '--history-bytes', '4M', '--request-timeout', '1s', '--header-timeout', '1s'];

scene('tabs share one connection; whichever tab dies, the others go on with neither hole nor duplicate', { flags: BRIEFLY },
  async ({ engine, profile, site }) => {
    const [topic, quiet] = [newTopic('tabs'), newTopic('quiet')];
    const mine = await profile();
    const host = (await site()).origin('127.0.0.1');
    const publisher = await counter(engine, topic);
    const tabs = [];
    let said = 0;
    const open = async () => {
      const page = await mine.page(host);
      await connect(page, { url: engine.url, options: { shared: true }, topics: [topic, quiet], since: 'live' });
      // What is published after this answer comes to this tab: its subscriptions were asked for before.
      await page.evaluate((name) => window.client.publish(name, 'x'), newTopic('tabs'));
      page.since = said;
      tabs.push(page);
    };
    const transports = () => Promise.all(tabs.map((page) => page.evaluate(() => window.client.transport)));
    const settles = async () => {
      let last;
      await until(async () => {
        const { connections, subscriptions } = await engine.stats();
        last = [connections, subscriptions, ...(await transports()).sort()];
        return String(last) === String([2, 2, ...tabs.slice(1).map(() => 'tab'), 'websocket']); // A connection is the publisher's.
      }, 'one connection, two subscriptions').catch((error) => assert.fail(`${error.message}: ${last}`));
    };
    // Speaks on the quiet topic at a moment when nobody may be listening.
    const speak = async () => engine.publish(quiet, String((said += 1)));
    const leader = async () => (await transports()).indexOf('websocket');

    await Promise.all([open(), open(), open(), open()]); // All at once.
    await settles();
    await tabs.splice(await leader(), 1)[0].close();
    await speak();
    await settles();
    // One is born while the one that leads dies.
    await Promise.all([tabs.splice(await leader(), 1)[0].close(), open(), speak()]);
    await settles();
    // Two die at once, and one is reloaded meanwhile.
    const at = await leader();
    const others = tabs.filter((_, i) => i !== at);
    const dead = [tabs[at], others.pop()];
    for (const page of dead) tabs.splice(tabs.indexOf(page), 1);
    await Promise.all([...dead.map((page) => page.close()), open(), open(), speak()]);
    await settles();
    // A client that is closed in order leaves the others as well.
    const [closed] = tabs.splice(await leader(), 1);
    await Promise.all([closed.evaluate(() => window.client.close()), speak()]);
    await settles();

    await publisher.stop();
    await speak();
    for (const page of tabs) {
      await hasAll(page, topic, publisher.count);
      await page.waitForFunction(([name, n]) => window.got[name].at(-1) === n, [quiet, said], { polling: 10, timeout: DEADLINE_MS });
      const heard = await page.evaluate((name) => window.got[name], quiet);
      assert.ok(heard[0] <= page.since + 1, `${heard[0]} after ${page.since}`);
      assert.deepEqual(heard, upTo(said + 1, heard[0]));
      assert.deepEqual(await page.evaluate(() => [window.told.gap, window.told.error]), [[], []]);
    }
  });
