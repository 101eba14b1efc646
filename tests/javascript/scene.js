// What a test is here: a name that says what it shows, and what it gets to show it with.
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { closeBrowser, Profile } from './browser.js';
import { Engine } from './engine.js';
import { Network } from './network.js';
import { Site } from './site.js';

/** Longest time of one test; each has its own, shorter deadlines. On a machine with ten times as much to do as cores, 60 s were not enough. */
const SCENE_MS = 120_000;
/** Tests wait for engines and timers most of the time, so some run at once; each has its own topics and pages. */
const AT_ONCE = 4;

const scenes = [];
const idle = []; // profiles that were used, and are as new
const shared = new Map(); // flags -> the engine of all tests that need these

/** The flags of a test that names none: a history that holds everything. */
const FLAGS = ['--shards', '2', '--echo', '--history-messages', '1000', '--history-bytes', '4M'];

/**
 * Adds a test. `body` is given `engine`, and functions that start what is stopped behind it: `profile`, `page` (a fresh
 * one, by default on the engine's own origin), `network` and `site`. Tests with the same `flags` share an engine; where
 * they are a function of a site, the engine is of one test alone.
 */
export function scene(name, { flags = FLAGS }, body) {
  scenes.push({ name, body, flags });
}

/** Gives up after so long, so that what the test started is stopped all the same. */
function within(ms, promise) {
  let timer;
  const over = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done in ${ms / 1000} s`)), ms);
  });
  return Promise.race([promise, over]).finally(() => clearTimeout(timer));
}

async function play({ body, flags }) {
  const ends = [];
  const profiles = [];
  try {
    const site = async () => {
      const started = await Site.start();
      ends.push(() => started.stop());
      return started;
    };
    const at = typeof flags === 'function' ? await site() : undefined;
    const start = (words) => Engine.start(...words);
    if (!at && !shared.has(`${flags}`)) shared.set(`${flags}`, start(flags));
    const engine = await (at ? start(flags(at)) : shared.get(`${flags}`));
    if (at) ends.push(() => engine.stop());
    const profile = async (options) => {
      const opened = await Profile.open(options);
      ends.push(() => opened.close());
      profiles.push(opened);
      return opened;
    };
    const network = async () => {
      const started = await Network.start(engine);
      ends.push(() => started.stop());
      return started;
    };
    // Any resource of an origin makes a page of that origin.
    const page = async (url = `${engine.url}/corecast.js`) => {
      const lent = idle.pop() ?? (await Profile.open());
      ends.push(async () => {
        await lent.clear();
        idle.push(lent);
      });
      profiles.push(lent);
      return lent.page(url);
    };
    await within(SCENE_MS, body({ engine, profile, page, network, site: at ?? site }));
    for (const each of profiles) assert.deepEqual(each.unexpected(), []);
  } finally {
    // All of them, whatever one of them says: what is left open keeps Node from ending.
    const failures = [];
    for (const end of ends.reverse()) {
      try {
        await end();
      } catch (failure) {
        failures.push(failure);
      }
    }
    if (failures.length) throw failures[0];
  }
}

/** Runs all tests that were added. */
export function run(name) {
  describe(name, { concurrency: AT_ONCE }, () => {
    for (const each of scenes) it(each.name, () => play(each));
    after(async () => {
      await closeBrowser();
      // All of them, also if one did not start: what runs on keeps Node from ending.
      const stopped = await Promise.allSettled([...shared.values()].map(async (engine) => (await engine).stop()));
      const failure = stopped.find(({ status }) => status === 'rejected');
      if (failure) throw failure.reason;
    });
  });
}
