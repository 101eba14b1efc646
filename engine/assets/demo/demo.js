// What the pages of /demo/ share: a connection that counts what it is sent, a feed that publishes from the page, sliders, figures.
//
// Owns: the pill with the state, and the box that says what is wrong. Text from topics reaches a page as `textContent` only, whoever
// published it. URLs are relative: the pages may stand under a path of a proxy.

export const $ = (id) => document.getElementById(id);
const root = new URL('..', location.href).href;

/** Says what is wrong, and what to do about it; says nothing twice. */
export function problem(text) {
  $('problem').hidden = !text;
  if ($('problem').textContent !== text) $('problem').textContent = text;
}

const { connect } = await import(`${root}corecast.js`).catch((error) => {
  problem(`The client, ${root}corecast.js, cannot be loaded: perhaps the engine's setting client-library is off. (${error.message})`);
  throw error;
});

/** What the engine has sent to this page over WebSockets: messages, and their bytes. */
export const received = { bytes: 0, messages: 0 };
class Counted extends WebSocket {
  constructor(...words) {
    super(...words);
    this.addEventListener('message', ({ data }) => {
      received.messages += 1;
      received.bytes += typeof data === 'string' ? data.length : data.byteLength;
    });
  }
}

/** Connects a reader, whose state the page shows. */
export function reader(options) {
  const client = connect(root, { ...options, WebSocket: Counted });
  client.on('state', ({ state, transport }) => {
    $('state').className = state;
    $('state').textContent = state === 'open' ? `live over ${transport}` : state;
  });
  client.on('error', (error) => explain(error));
  return client;
}

/** Says what a refusal means for a demo. */
export function explain({ code, message }) {
  const isRule = code === 'bad-record' || /keys|record/.test(message);
  problem(isRule
    ? `The engine has no rule for the topics of this page (${message}). Start it with the rules below: corecast serve --config docs/examples/demos.toml`
    : message);
}

/**
 * A feed: publishes from this page, as often a second as `rate()` says, what `next(number)` makes: `[topic, data, options]`, or nothing yet. It
 * has a connection of its own, so that the reader's is for reading; `begun` is given that.
 */
export function newFeed(button, rate, next, begun = () => {}) {
  const feed = { isOn: false };
  let count = 0;
  let client;
  let timer;
  let owed = 0;
  let before;
  let unanswered = 0;
  const tick = () => {
    const now = performance.now();
    owed = Math.min(owed + ((now - before) * rate()) / 1000, rate() / 2); // A page in the background is not woken so often.
    before = now;
    for (; owed >= 1 && unanswered < 1000; owed -= 1) {
      const words = next(count + 1);
      if (!words) return;
      count += 1;
      unanswered += 1;
      client.publish(...words).catch((error) => {
        if (!feed.isOn) return;
        feed.stop();
        explain(error);
      }).finally(() => {
        unanswered -= 1;
      });
    }
  };
  const { textContent: label } = button;
  feed.stop = () => {
    clearInterval(timer);
    feed.isOn = false;
    client?.close();
    [client, unanswered] = [undefined, 0];
    button.setAttribute('aria-pressed', 'false');
    button.textContent = label;
  };
  feed.start = () => {
    problem('');
    client = connect(root);
    client.on('error', explain);
    begun(client);
    feed.isOn = true;
    [before, owed] = [performance.now(), 1];
    timer = setInterval(tick, 20);
    button.setAttribute('aria-pressed', 'true');
    button.textContent = 'Stop the feed';
  };
  button.setAttribute('aria-pressed', 'false');
  button.onclick = () => (feed.isOn ? feed.stop() : feed.start());
  addEventListener('pagehide', () => feed.isOn && feed.stop());
  return feed;
}

/** A slider over a list of `[value, words]`; `changed(value)` hears of another one when the hand rests. */
export function slider(id, steps, first, changed = () => {}) {
  const input = $(id);
  Object.assign(input, { min: 0, max: steps.length - 1, step: 1, value: steps.findIndex(([value]) => value === first) });
  const self = { value: first };
  let timer;
  const show = () => {
    const [value, words] = steps[input.value];
    self.value = value;
    input.setAttribute('aria-valuetext', words);
    input.parentElement.querySelector('output').textContent = words;
  };
  input.oninput = () => {
    show();
    clearTimeout(timer);
    timer = setTimeout(() => changed(self.value), 200);
  };
  show();
  return self;
}

/** Calls `then` once a second, with how much each of the numbers grew in a second, on average of the last ten. Returns what begins anew. */
export function everySecond(numbers, then) {
  const seen = [];
  setInterval(() => {
    seen.push([performance.now(), ...numbers()]);
    if (seen.length > 11) seen.shift();
    const [[from, ...old], [to, ...now]] = [seen[0], seen.at(-1)];
    if (to > from) then(...now.map((value, i) => ((value - old[i]) * 1000) / (to - from)));
  }, 1000);
  return () => {
    seen.length = 0;
  };
}

/** Calls `draw` with all that was marked since, once before the next picture. */
export function onFrame(draw) {
  const marked = new Set();
  return (key) => {
    if (!marked.size) {
      requestAnimationFrame(() => {
        const keys = [...marked];
        marked.clear();
        draw(keys);
      });
    }
    marked.add(key);
  };
}

export const whole = (value) => Math.round(value).toLocaleString('en');
export const ofBytes = (value) => (value < 10_000 ? `${whole(value)} B` : `${(value / 1000).toFixed(value < 100_000 ? 1 : 0)} kB`);
export const add = (parent, tag, text = '', className = '') => parent.appendChild(Object.assign(document.createElement(tag), { textContent: text, className }));
