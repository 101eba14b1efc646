// The demo page: the first thing that a newcomer sees.
import assert from 'node:assert/strict';
import { findings } from './axe.js';
import { texts } from './corpus.js';
import { DEADLINE_MS, newTopic } from './engine.js';
import { scene } from './scene.js';

const LABELS = { auto: 'WebSocket', websocket: 'WebSocket', sse: 'SSE', stream: 'Stream', 'long-poll': 'Long poll', poll: 'Poll' };

/** Waits until an element's text holds `text`. */
const shows = (page, selector, text) => page.waitForFunction(
  ([where, what]) => document.querySelector(where).textContent.includes(what), [selector, text], { polling: 20, timeout: DEADLINE_MS },
);

for (const [width, height] of [[1280, 800], [390, 844]]) {
  scene(`the demo page, ${width} wide, publishes and watches over every transport, each message once`, { flags: ['--shards', '1'] },
    async ({ engine, profile }) => {
      const mine = await profile({ viewport: { width, height } });
      const page = await mine.page(`${engine.url}/`);
      const topic = newTopic('demo');
      await page.fill('#choose input', topic);
      await page.press('#choose input', 'Enter');
      await shows(page, '#watched', topic);
      const said = [];
      for (const [name, label] of Object.entries(LABELS)) {
        await page.check(`input[value="${name}"]`, { force: true });
        await shows(page, '#state', `live over ${label}`);
        said.push(`over ${name} at ${width}`);
        for (const form of ['#say', '#publish']) {
          await page.fill(`${form} input`, said.at(-1));
          await page.press(`${form} input`, 'Enter');
        }
        await shows(page, '#chat', said.at(-1));
        await shows(page, '#watch', said.at(-1));
        await page.waitForFunction(() => Number(document.querySelector('#last').textContent) > 0, undefined, { polling: 20, timeout: DEADLINE_MS });
      }
      const lines = (list) => page.$$eval(`${list} li span`, (spans) => spans.map((span) => span.textContent));
      const ofMe = (await lines('#chat')).filter((line) => line.endsWith(`at ${width}`));
      assert.deepEqual([ofMe, await lines('#watch')], [said, said]);
      const [wanted, there] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
      assert.ok(wanted <= there, `${wanted} pixels in ${there}`);
      await page.click('#tick');
      await page.waitForFunction(() => Number(document.querySelector('#price').textContent) > 0, undefined, { polling: 20, timeout: DEADLINE_MS });
    });
}

// An engine of its own: all demo pages of an engine read one chat, and who polls it would be told of a gap by what is said there at once.
scene('the demo page shows what others publish as text, whatever it is, and opens with the transport of its address',
  { flags: ['--shards', '1', '--history-messages', '1000'] },
  async ({ engine, page }) => {
    const topic = newTopic('demo');
    const nasty = texts.filter((text) => text.length < 500);
    await engine.publishAll(nasty.flatMap((data) => [{ topic: 'demo/chat', data: JSON.stringify({ from: data, text: data }) }, { topic: 'demo/chat', data }]));
    const at = await page(`${engine.url}/#stream`);
    await shows(at, '#state', 'live over Stream');
    await at.fill('#choose input', topic);
    await at.press('#choose input', 'Enter');
    await engine.publish(topic, '<img src=x onerror=pwned()>', '<b>tick</b>');
    await shows(at, '#watch', '<b>tick</b> <img src=x onerror=pwned()>');
    await engine.publish('demo/chat', 'last');
    await shows(at, '#chat', 'last');
    assert.equal(await at.$$eval('.log img, .log script, .log iframe, .log svg', (found) => found.length), 0);
    // A name that is no topic is refused in words, and the page goes on.
    await at.fill('#choose input', 'a//b');
    await at.press('#choose input', 'Enter');
    await shows(at, '#events', 'not a topic');
    await engine.publish(topic, 'still here');
    await shows(at, '#watch', 'still here');
  });

for (const colorScheme of ['light', 'dark']) {
  for (const [width, height] of [[1280, 800], [390, 844]]) {
    scene(`the demo page can be read and used by everybody, ${colorScheme} and ${width} wide: axe finds nothing, with an engine and without`,
      { flags: ['--shards', '1', '--history-messages', '300'] }, async ({ engine, profile, network }) => {
        const mine = await profile({ viewport: { width, height }, colorScheme });
        mine.expected = /ERR_|WebSocket connection/;
        const between = await network();
        const page = await mine.page(`${between.url}/`);
        const topic = newTopic('demo');
        await page.fill('#choose input', topic);
        await page.press('#choose input', 'Enter');
        await shows(page, '#watched', topic);
        for (let n = 0; n < 30; n += 1) await engine.publish(topic, `${n}`, 'tick');
        await shows(page, '#watch', 'tick 29');
        await page.fill('#say input', 'hello');
        await page.press('#say input', 'Enter');
        await shows(page, '#chat', 'hello');
        await shows(page, '#state', 'live over');
        assert.deepEqual(await findings(page), []);
        // A list that is longer than its box is scrolled with the keyboard, too.
        const scrolled = () => page.$eval('#watch', (list) => list.parentElement.scrollTop);
        await page.focus('[role=log]:has(#watch)');
        const before = await scrolled();
        await page.keyboard.press('Home');
        await page.waitForFunction((from) => document.querySelector('#watch').parentElement.scrollTop < from, before, { polling: 20, timeout: DEADLINE_MS });
        between.isAway = true;
        between.cut();
        await shows(page, '#quantiles', 'not connected');
        assert.deepEqual(await findings(page), []);
      });
  }
}

scene('the demo page shows no figures of a connection that it has lost, and new ones when it is back', { flags: ['--shards', '1'] },
  async ({ profile, network }) => {
    const mine = await profile();
    mine.expected = /ERR_|WebSocket connection/;
    const between = await network();
    const page = await mine.page(`${between.url}/`);
    const hasFigures = () => page.waitForFunction(() => Number(document.querySelector('#last').textContent) > 0, undefined, { polling: 20, timeout: 2 * DEADLINE_MS });
    await page.click('#tick');
    await hasFigures();
    await page.waitForFunction(() => Number(document.querySelector('#price').textContent) > 0, undefined, { polling: 20, timeout: DEADLINE_MS });
    between.isAway = true;
    between.cut();
    await shows(page, '#quantiles', 'not connected');
    const texts = () => page.$$eval('#last, #rate', (found) => found.map(({ textContent }) => textContent));
    assert.deepEqual(await texts(), ['not connected; this was the last one', '–']);
    await page.waitForFunction(() => document.querySelectorAll('#events li').length > 5, undefined, { polling: 20, timeout: DEADLINE_MS });
    assert.deepEqual(await texts(), ['not connected; this was the last one', '–'], 'nor does it count on');
    between.isAway = false;
    await hasFigures();
    await shows(page, '#rate', 'messages a second');
  });

scene('the demo page works under a path of a proxy that takes it off, and asks for nothing beside it', { flags: ['--shards', '1'] },
  async ({ profile, network }) => {
    const between = await network();
    between.prefix = '/some/rt';
    const page = await (await profile()).page(`${between.url}/some/rt/`);
    for (const [name, label] of Object.entries(LABELS)) {
      await page.check(`input[value="${name}"]`, { force: true });
      await shows(page, '#state', `live over ${label}`);
      await page.fill('#publish input', `over ${name}`);
      await page.press('#publish input', 'Enter');
      await shows(page, '#watch', `over ${name}`);
    }
    assert.match(await page.textContent('#shell'), new RegExp(`'${between.url}/some/rt/topics/news'`));
  });

scene('a demo page without its client says what is wrong', { flags: ['--shards', '1', '--client-library=false'] }, async ({ engine, profile }) => {
  const mine = await profile();
  mine.expected = /404/;
  const page = await mine.page(`${engine.url}/`);
  await shows(page, '#state', 'not running');
  await shows(page, '#lead', 'client-library');
});
