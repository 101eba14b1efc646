// Every transport that a browser can read without a client of ours, in Chromium.
import assert from 'node:assert/strict';
import { binaries, callbacks, events, texts, topics } from './corpus.js';
import { DEADLINE_MS, newTopic, until } from './engine.js';
import { prepare, readers, stopReading } from './readers.js';
import { scene } from './scene.js';

/** The query of a reader; a WebSocket needs none. */
const TRANSPORT = { eventsource: 'sse', 'forever-frame': 'forever-frame', jsonp: 'jsonp', stream: 'stream' };

/** Begins to read a topic, or a list of topics, in a page. */
async function read(page, engine, reader, topic, { since = 'earliest', ...rest } = {}) {
  await page.evaluate(prepare);
  const query = TRANSPORT[reader] ? { transport: TRANSPORT[reader], since, ...rest.query } : { since };
  await page.evaluate(readers[reader], { url: engine.at(topic, query), topics: [topic].flat(), since, ...rest });
}

/** Waits until a page has got that many messages and gaps, and returns all. */
async function got(page, count) {
  await page.waitForFunction((n) => window.got.length >= n, count, { polling: 10, timeout: DEADLINE_MS });
  return page.evaluate(() => window.got);
}

for (const reader of Object.keys(readers)) {
  scene(`${reader}: what was there, then what comes, text and bytes, with names and cursors`, {}, async ({ engine, page }) => {
    const topic = newTopic(reader);
    const cursors = [await engine.publish(topic, 'one'), await engine.publish(topic, 'two', 'tick')];
    const at = await page();
    await read(at, engine, reader, topic, { names: ['tick'] });
    await got(at, 2);
    cursors.push(await engine.publish(topic, 'gr\u00fcn\nzwei'), await engine.publish(topic, Uint8Array.of(255, 0, 10)));
    // A JSONP answer is one poll; the next one goes on.
    if (reader === 'jsonp') await at.evaluate(readers.jsonp, { url: engine.at(topic, { transport: 'jsonp', wait: 5, since: cursors[1] }) });
    const all = await got(at, 4);
    assert.deepEqual(all.map(({ data }) => data), ['one', 'two', 'gr\u00fcn\nzwei', [255, 0, 10]]);
    if (reader === 'raw') return;
    assert.deepEqual(all.map(({ cursor }) => cursor), cursors);
    assert.deepEqual(all.map(({ event }) => event), [undefined, 'tick', undefined, undefined]);
  });

  scene(`${reader}: nothing of the corpus runs, and all of it arrives as it was`, {}, async ({ engine, page }) => {
    const [plain, named] = [newTopic(reader), newTopic(reader)];
    const strange = topics.map((each) => `${newTopic(reader)}/${each}`);
    const payloads = [...texts, ...binaries];
    await engine.publishAll(payloads.map((data) => ({ topic: plain, data })));
    await engine.publishAll(events.map((event) => ({ topic: named, data: event, event })));
    await engine.publishAll(strange.map((topic, i) => ({ topic, data: topics[i] })));
    const at = await page();
    await read(at, engine, reader, plain);
    let all = [];
    // The answer of one poll holds 64 KiB or so.
    for (let n = 0; reader === 'jsonp' && all.length < payloads.length; n += 1) {
      if (n) await at.evaluate(readers.jsonp, { url: engine.at(plain, { transport: 'jsonp', since: all.at(-1).cursor }) });
      all = await got(at, all.length + 1);
    }
    all = await got(at, payloads.length);
    // An event stream has one kind of line end (WHATWG HTML, "Parsing an event stream").
    const same = (data) => (typeof data !== 'string' ? [...data] : reader === 'eventsource' ? data.replace(/\r\n?/g, '\n') : data);
    payloads.forEach((payload, i) => assert.deepEqual(all[i].data, same(payload), JSON.stringify(payload)));
    assert.equal(all.length, payloads.length);
    await at.evaluate(stopReading);

    await read(at, engine, reader, named, { names: events.filter((name) => name !== 'message') });
    all = await got(at, events.length);
    assert.deepEqual(all.map(({ data }) => data), events);
    const seen = (name) => (reader === 'raw' || (reader === 'eventsource' && name === 'message') ? undefined : name);
    assert.deepEqual(all.map(({ event }) => event), events.map(seen));
    await at.evaluate(stopReading);

    // Raw WebSockets and EventSources do not hear of topics.
    if (reader !== 'raw' && reader !== 'eventsource') {
      await read(at, engine, reader, strange);
      const byTopic = new Map((await got(at, strange.length)).map(({ topic, data }) => [topic, data]));
      strange.forEach((topic, i) => assert.equal(byTopic.get(topic), topics[i]));
    }
    assert.equal(await at.evaluate(() => ({}).polluted), undefined);
  });

  if (reader === 'raw') continue; // It has no gaps: it is closed instead.
  scene(`${reader}: a gap is told, with what was lost, and what is left follows`, { flags: ['--history-messages', '4'] }, async ({ engine, page }) => {
    const topic = newTopic(reader);
    const cursors = [];
    for (let n = 0; n < 9; n += 1) cursors.push(await engine.publish(topic, `${n}`));
    const at = await page();
    await read(at, engine, reader, topic, { since: cursors[1] });
    const all = await got(at, reader === 'line' ? 4 : 5);
    const gap = { topic, from: cursors[1], to: cursors[4], count: 3, reason: 'expired' };
    if (reader === 'line') {
      assert.deepEqual((await at.evaluate(() => window.lines)).slice(1), [`OK 1 ${cursors[8]}`, `GAP ${Object.values(gap).join(' ')}`]);
    } else {
      assert.deepEqual(all.shift().gap, gap);
    }
    assert.deepEqual(all.map(({ data }) => data), ['5', '6', '7', '8']);
  });
}

scene('EventSource comes back by itself behind the last event it had, with neither hole nor duplicate', { flags: ['--stream-seconds', '1'] },
  async ({ engine, page }) => {
    const topic = newTopic('reconnect');
    const at = await page();
    await read(at, engine, 'eventsource', topic);
    let n = 0;
    await until(async () => {
      await engine.publish(topic, String(n++));
      await new Promise((resolve) => setTimeout(resolve, 90)); // The history holds what comes while it is away.
      return (await at.evaluate(() => window.opened)) >= 2;
    }, 'the second connection');
    await engine.publish(topic, String(n++));
    assert.deepEqual((await got(at, n)).map(({ data }) => Number(data)), Array.from({ length: n }, (_, i) => i));
  });

scene('a raw WebSocket publishes, and is closed with 1013 when messages were lost', { flags: ['--history-messages', '4'] }, async ({ engine, page }) => {
  const topic = newTopic('raw');
  const at = await page();
  await read(at, engine, 'raw', topic);
  await at.waitForFunction(() => window.ws.readyState === 1);
  await at.evaluate(() => {
    window.ws.send('text');
    window.ws.send(Uint8Array.of(254, 255));
  });
  assert.deepEqual((await got(at, 2)).map(({ data }) => data), ['text', [254, 255]]);
  const cursor = await engine.publish(topic, '0');
  for (let n = 1; n < 9; n += 1) await engine.publish(topic, `${n}`);
  const closed = await at.evaluate(async (url) => {
    const ws = new WebSocket(url);
    return new Promise((resolve) => {
      ws.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
    });
  }, engine.at(topic, { since: cursor }).replace('http', 'ws'));
  assert.match(closed.reason, /^messages were lost; subscribe again; try again in \d+s$/);
  assert.deepEqual([closed.code, closed.wasClean], [1013, true]);
});

scene('a forever frame does not grow: each script takes itself away', {}, async ({ engine, page }) => {
  const topic = newTopic('frame');
  const at = await page();
  await read(at, engine, 'forever-frame', topic);
  for (let n = 0; n < 50; n += 1) await engine.publish(topic, `${n}`);
  await got(at, 50);
  const scripts = await at.evaluate(() => document.querySelector('iframe').contentDocument.scripts.length);
  assert.ok(scripts <= 1, `${scripts} scripts`);
});

scene('callbacks that are no names are refused, and nothing of them runs', {}, async ({ engine, page }) => {
  const topic = newTopic('callback');
  await engine.publish(topic, 'x');
  const at = await page();
  await at.evaluate(prepare);
  for (const transport of ['jsonp', 'forever-frame']) {
    for (const callback of callbacks) {
      assert.equal((await fetch(engine.at(topic, { transport, callback }))).status, 400, `${transport} ${callback}`);
    }
  }
  // A page of names inside names finds its function; nothing else of the page is called.
  await at.evaluate(async (src) => {
    window.deep = { $er: { take: (items) => items.forEach(window.take) } };
    document.documentElement.append(Object.assign(document.createElement('script'), { src }));
  }, engine.at(topic, { transport: 'jsonp', callback: 'deep.$er.take' }));
  assert.equal((await got(at, 1))[0].data, 'x');
});

scene('pictures published to a topic replace each other in an <img>', {}, async ({ engine, page }) => {
  // GIFs of one colour, one pixel high: they are not UTF-8, and so travel as bytes.
  const picture = (width) => Uint8Array.from([
    ...Buffer.from('GIF89a'), width, 0, 1, 0, 0x80, 0, 0, 0, 0, 0, 255, 255, 255, 0x2c, 0, 0, 0, 0, width, 0, 1, 0, 0, 2, 2, 0x44, 1, 0, 0x3b,
  ]);
  const topic = newTopic('picture');
  const at = await page();
  await at.evaluate((src) => {
    document.documentElement.append(Object.assign(new Image(), { src, id: 'picture' }));
  }, engine.at(topic, { transport: 'multipart', since: 'earliest' }));
  for (const width of [1, 2, 3, 4]) {
    await engine.publish(topic, picture(width));
    // Chromium shows a picture when the next one begins.
    const shown = (n) => document.getElementById('picture').naturalWidth >= n;
    await at.waitForFunction(shown, width - 1, { polling: 10, timeout: DEADLINE_MS });
  }
});
