// The demo page: the first thing that a newcomer sees.
import assert from 'node:assert/strict';
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
