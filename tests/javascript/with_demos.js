// The pages of /demo/: each feeds itself, shows what it says, on a phone and in the dark, and says what is missing.
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { findings } from './axe.js';
import { DEADLINE_MS } from './engine.js';
import { scene } from './scene.js';

const RULES = ['--shards', '1', '--config', fileURLToPath(new URL('../../docs/examples/demos.toml', import.meta.url))];
const PAGES = ['', 'stocks', 'depth', 'chat', 'telemetry'];

/** Waits until `is` holds in the page. */
const holds = (page, is, words) => page.waitForFunction(is, words, { polling: 50, timeout: 2 * DEADLINE_MS });
const figure = (page, id) => page.$eval(`#${id}`, ({ textContent }) => Number(textContent.replace(/[^\d.]/g, '')));
const exceeds = (page, id, least) => holds(page, ([where, than]) => Number(document.getElementById(where).textContent.replace(/[^\d.]/g, '')) > than, [id, least]);
const isBelow = (page, id, most) => holds(page, ([where, than]) => Number(document.getElementById(where).textContent.replace(/[^\d.]/g, '')) < than, [id, most]);

/** Moves a slider to a place, as a hand does. */
const slide = (page, id, place) => page.$eval(`#${id}`, (input, value) => {
  input.value = value === 'last' ? input.max : value;
  input.dispatchEvent(new Event('input', { bubbles: true }));
}, place);

/** Starts the feed of a page, if it has one, and waits until it shows something. */
async function fed(page, name) {
  if (name === '') return;
  await holds(page, () => document.getElementById('state').className === 'open');
  if (name === 'chat') {
    await page.fill('#say input', 'hello');
    await page.press('#say input', 'Enter');
    await holds(page, () => document.getElementById('said').textContent.includes('hello') && document.querySelectorAll('#people li').length > 0);
    return;
  }
  await page.click('#feed');
  const rows = { stocks: '#rows tr', depth: '#bids tr', telemetry: '#devices li' }[name];
  await holds(page, (where) => document.querySelectorAll(where).length > 4, rows);
}

for (const [colorScheme, width, height] of [['light', 1280, 800], ['dark', 360, 780]]) {
  for (const name of PAGES) {
    scene(`demo/${name}, ${colorScheme} and ${width} wide, shows what it is about, and axe finds nothing`, { flags: RULES }, async ({ engine, profile }) => {
      const mine = await profile({ viewport: { width, height }, colorScheme });
      const page = await mine.page(`${engine.url}/demo/${name}`);
      await fed(page, name);
      assert.equal(await page.$$eval('#problem:not([hidden])', ({ length }) => length), 0);
      assert.deepEqual(await findings(page), []);
      const [wanted, there] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
      assert.ok(wanted <= there, `${wanted} pixels in ${there}`);
      // What is touched is large enough for a finger.
      const small = await page.$$eval('button, input[type=range], .check, nav a', (all) => all.map((each) => each.getBoundingClientRect()).filter((box) => box.height < 32 || box.width < 24).length);
      assert.equal(small, 0);
    });
  }
}

scene('demo/stocks: conflation leaves most out, delta and fields save bytes, and a bandwidth is kept while prices stay young', { flags: RULES }, async ({ engine, profile }) => {
  const page = await (await profile()).page(`${engine.url}/demo/stocks`);
  await slide(page, 'rate', 5); // 1,000 a second
  await slide(page, 'every', 'last'); // at most every 2 s
  await fed(page, 'stocks');
  await exceeds(page, 'published', 300);
  await exceeds(page, 'saved', 80);
  assert.ok((await figure(page, 'got')) < 100, 'thirty rows, every two seconds');
  // Bytes of one message: how many come is the feed's business, and the host's.
  await slide(page, 'every', 2);
  const bytesOf = async (change) => {
    await change();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const soFar = () => page.evaluate(async () => ({ ...(await import('./demo.js')).received }));
    const before = await soFar();
    await new Promise((resolve) => setTimeout(resolve, 3000));
    const after = await soFar();
    return (after.bytes - before.bytes) / (after.messages - before.messages);
  };
  const whole = await bytesOf(() => page.uncheck('#delta'));
  const few = await bytesOf(() => page.check('#fields'));
  const changes = await bytesOf(() => page.check('#delta'));
  assert.ok(few < 0.8 * whole && changes < 0.95 * few, `${changes} of ${few} of ${whole}`);
  // As they come, but no more than the link: the newest of each, not the oldest.
  await page.uncheck('#fields');
  await slide(page, 'every', 0);
  await slide(page, 'bandwidth', 4); // 8,000 bytes a second
  await new Promise((resolve) => setTimeout(resolve, 5000));
  const bytes = await page.$eval('#bytes', ({ textContent }) => Number(textContent.replace(/[^\d.]/g, '')) * (textContent.includes('kB') ? 1000 : 1));
  assert.ok(bytes < 12_000, `${bytes} bytes a second`);
  assert.ok((await figure(page, 'published')) > 300);
  assert.ok((await figure(page, 'behind')) < 2500, `${await figure(page, 'behind')} ms behind`);
});

scene('demo/depth: rows come, change and go; of a condition only those it is true of, in a second window, too', { flags: RULES }, async ({ engine, profile }) => {
  const mine = await profile();
  const page = await mine.page(`${engine.url}/demo/depth`);
  await slide(page, 'rate', 3);
  await fed(page, 'depth');
  for (const id of ['added', 'changed', 'deleted']) await exceeds(page, id, 0);
  const second = await mine.page(`${engine.url}/demo/depth`);
  await slide(second, 'least', 2); // at least 100
  await holds(second, () => document.getElementById('where').textContent === 'where: size >= 100');
  const sizes = () => second.$$eval('.ladder tbody td', (cells) => cells.map(({ textContent }) => Number(textContent.replaceAll(',', ''))));
  await holds(second, () => document.querySelectorAll('.ladder tbody td').length > 2);
  await exceeds(second, 'deleted', 0);
  for (let n = 0; n < 10; n += 1) {
    const shown = await sizes();
    assert.ok(shown.every((size) => size >= 100), `${shown}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  // Both have the same book when the feed has stopped.
  await page.click('#feed');
  await slide(second, 'least', 0);
  await holds(second, () => document.getElementById('where').textContent === 'the whole book');
  const book = (of) => of.$eval('.ladder', ({ textContent }) => textContent);
  const end = Date.now() + DEADLINE_MS;
  while ((await book(page)) !== (await book(second)) && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(await book(second), await book(page));
});

// An engine of its own: all pages of an engine are in one room.
scene('demo/chat: who comes is seen by who is there, and who goes is seen to go; names are text', { flags: [...RULES, '--history-messages', '63'] }, async ({ engine, profile }) => {
  const [one, two] = [await (await profile()).page(`${engine.url}/demo/chat`), await (await profile()).page(`${engine.url}/demo/chat`)];
  await holds(one, () => document.querySelectorAll('#people li').length === 2);
  const name = '<img src=x onerror=pwned()>';
  await two.fill('#named input', name);
  await two.press('#named input', 'Enter');
  await holds(one, (what) => document.getElementById('people').textContent.includes(what), name);
  await two.fill('#say input', '<b>hello</b>');
  await two.press('#say input', 'Enter');
  await holds(one, () => document.getElementById('said').textContent.includes('<b>hello</b>'));
  assert.equal(await one.$$eval('main img, .log b b', ({ length }) => length), 0);
  await holds(one, () => /^2 connections$/.test(document.getElementById('readers').textContent));
  await two.goto('about:blank');
  await holds(one, () => document.querySelectorAll('#people li').length === 1);
  await holds(one, () => document.getElementById('readers').textContent === '1 connection'); // The engine has seen it go.
});

scene('a demo without its rules says which it needs, and how to start an engine that has them', { flags: ['--shards', '1'] }, async ({ engine, profile }) => {
  const page = await (await profile()).page(`${engine.url}/demo/stocks`);
  await holds(page, () => document.getElementById('state').className === 'open');
  await page.click('#feed');
  await holds(page, () => /corecast serve --config docs\/examples\/demos\.toml/.test(document.getElementById('problem').textContent));
  assert.deepEqual(await findings(page), []);
});

scene('the demos are not there where the demo page is switched off', { flags: ['--shards', '1', '--demo=false'] }, async ({ engine }) => {
  for (const name of [...PAGES, 'demo.js', 'demo.css']) assert.equal((await fetch(`${engine.url}/demo/${name}`)).status, 404);
});

scene('the demos work under a path of a proxy that takes it off', { flags: RULES }, async ({ profile, network }) => {
  const between = await network();
  between.prefix = '/some/rt';
  const page = await (await profile()).page(`${between.url}/some/rt/demo/depth`);
  await fed(page, 'depth');
});
