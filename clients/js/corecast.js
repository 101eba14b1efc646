// The corecast client: topics of a corecast engine, in browsers and in Node 20 or later. `corecast.d.ts` documents its use.
//
// Owns: what is subscribed to and how far each topic was read (its cursor). Every connection is disposable: whatever ends
// it, the next one, over the same transport or another, goes on after the cursor. What arrives twice is dropped by its
// cursor; what is lost is told as a gap. Never: anything but the engine's documented wire protocol.
//
// From top to bottom: what is read and published; links, each a connection over one transport until it fails; the tabs of
// a browser; `connect`, which opens one link after another.

const ORDER = ['websocket', 'sse', 'stream', 'long-poll', 'poll'];
const TOPICS_MAX = 64; // of one HTTP request
const QUERY_CHARS_MAX = 6000; // of its topics and cursors: proxies take 8 KB of a request line
const QUEUE_MAX = 4096; // messages that wait for a slow loop, publications without an answer
const BATCH_CHARS_MAX = 256 * 1024;
const GATHER_MS = 10; // topics subscribed to within this time travel in one request
const DAY_MS = 86_400_000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const spread = (ms) => ms * (1 + Math.random() / 4); // not all clients at once
const toBase64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
const fromBase64 = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
const isCursor = (text) => /^[0-9a-f]{8}-\d+$/.test(text);
const isLive = (since) => since === 'live' || since === '-0';
// Before the first message of a topic, an epoch means nothing yet: whoever stands there has missed nothing.
const isNowhere = (cursor) => cursor?.endsWith('-0');
const startOf = ({ cursor, since }) => (isNowhere(cursor) ? '00000000-0' : cursor ?? since);
const isFull = ({ status }) => status === 503 || status === 429;

/** Says whether cursor `a` is behind `b` in time; another epoch is always news. */
function isNewer(a, b) {
  const [[epoch, seq], [epochThen, seqThen]] = [a.split('-'), (b ?? '').split('-')];
  return epoch !== epochThen || Number(seq) > Number(seqThen);
}

export class CorecastError extends Error {
  constructor(message, facts) {
    super(message);
    Object.assign(this, { name: 'CorecastError', ...facts });
  }
}

/** Makes an error of an HTTP answer that is not what was asked for. */
async function refusal(answer) {
  const text = await answer.text().catch(() => '');
  const { error, published } = (await Promise.resolve(text).then(JSON.parse).catch(() => {})) ?? {}; // A proxy's is no JSON.
  const after = answer.headers.get('Retry-After');
  const retryMs = /^\d+$/.test(after) ? after * 1000 : Date.parse(after) - Date.now();
  return new CorecastError(error ?? (text.slice(0, 200) || `HTTP status ${answer.status}`), {
    status: answer.status, published, retryMs: isFull(answer) ? Math.max(retryMs || 0, 1000) : undefined,
  });
}

/** Makes a message, or `{ topic, cursor, gap }`, of an object of the engine's; an event stream tells a gap without its wrapping. */
function decode({ gap, ...item }) {
  const { topic, cursor, event, data, encoding } = item;
  if (gap || data === undefined) return { topic: (gap ?? item).topic, cursor: (gap ?? item).to, gap: gap ?? item };
  return { topic, cursor, event, data: encoding ? fromBase64(data) : data };
}

function checkTopic(topic) {
  const bytes = typeof topic === 'string' ? new TextEncoder().encode(topic).length : 0;
  if (!bytes || bytes > 255 || /[\u0000-\u001f\u007f-\u009f+#*]/.test(topic) || topic.split('/').includes('')) {
    throw new TypeError(`not a topic: ${JSON.stringify(topic)}`);
  }
}

// ---- Reading: topics, each with its cursor and its subscriptions.

function newReading(core) {
  const channels = new Map(); // topic -> { topic, since, conflate, every, cursor, subs }

  /** Moves a channel to where it starts, or to where an empty answer ended. */
  function moveTo(channel, cursor) {
    if (!isCursor(cursor) || !isNewer(cursor, channel.cursor)) return;
    channel.cursor = cursor;
    for (const sub of channel.subs) sub.onStart?.(cursor);
  }

  /** Hands out a message or a gap, if it is news. */
  function take(item) {
    const { topic, cursor, gap } = item;
    const channel = channels.get(topic);
    if (!channel || !isNewer(cursor, channel.cursor)) return;
    channel.cursor = cursor;
    if (gap?.count === 0 && isNowhere(gap.from)) return; // Nothing was read, and nothing is lost.
    for (const sub of [...channel.subs]) sub.take(item);
    if (gap) core.emit('gap', gap);
  }

  /** Gives a subscription to a topic that is read already the past it wants. What comes meanwhile waits. */
  async function catchUp(channel, sub, start) {
    const held = [];
    const goal = channel.cursor; // What comes behind it is held.
    const meets = (cursor) => [goal, held[0]?.cursor].some((known) => known && !isNewer(known, cursor));
    const { take: takeNow } = sub;
    sub.take = (item) => held.push(item);
    for (let since = start; since && channel.subs.has(sub) && !core.isClosed;) {
      try {
        const { items, cursors } = await core.poll([{ topic: sub.topic, since }]);
        items.forEach(takeNow);
        // An answer may be a part. The last meets what is held, or is empty, which on a busy topic none ever is.
        since = items.length && start !== 'latest' && !meets(cursors[0]) ? cursors[0] : undefined;
      } catch (error) {
        if (error.status && !isFull(error)) {
          core.fault(error);
          break;
        }
        await sleep(spread(error.retryMs ?? core.options.backoffMs[0]));
      }
    }
    sub.take = takeNow;
    held.forEach(takeNow);
  }

  function subscribe(topic, options, onMessage) {
    if (typeof options === 'function') return subscribe(topic, {}, options);
    checkTopic(topic);
    if (core.isClosed) throw new CorecastError('the client is closed');
    const { conflate = false, every = 0, onGap, onStart } = options ?? {};
    const since = String(options?.since ?? 'latest');
    if (!isCursor(since) && !/^(latest|live|earliest|-\d+)$/.test(since)) throw new TypeError(`not a start: ${since}`);
    const known = channels.get(topic);
    const sub = {
      topic,
      cursor: isCursor(since) ? since : undefined,
      onStart,
      take(item) {
        if (core.isClosed || !channel.subs.has(sub) || !isNewer(item.cursor, sub.cursor)) return;
        sub.cursor = item.cursor;
        try {
          if (item.gap) onGap?.(item.gap);
          else onMessage(item, sub);
        } catch (error) {
          core.fault(error);
        }
      },
      unsubscribe() {
        if (!channel.subs.delete(sub) || channel.subs.size) return;
        channels.delete(topic);
        core.link?.change(channel);
      },
    };
    const channel = known ?? { topic, since, cursor: sub.cursor, subs: new Set() };
    channel.subs.add(sub);
    channels.set(topic, channel);
    if (!known || channel.conflate !== conflate || channel.every !== every) {
      Object.assign(channel, { conflate, every });
      core.link?.change(channel);
    }
    if (known && isLive(since)) {
      sub.cursor = channel.cursor;
      if (sub.cursor) onStart?.(sub.cursor);
    } else if (known && since !== channel.cursor) {
      catchUp(channel, sub, since);
    }
    return sub;
  }

  /** The messages of a topic as an async iterator. A full queue unsubscribes, and goes on from its end when it is half empty. */
  function messages(topic, options) {
    let since = options?.since;
    let sub;
    let queue;
    const read = () => {
      sub = subscribe(topic, { ...options, since }, (message) => {
        since = message.cursor;
        queue.enqueue(message);
        if (queue.desiredSize <= 0) sub = sub.unsubscribe();
      });
    };
    const loop = new ReadableStream({
      start(controller) {
        queue = controller;
        read();
        core.loops.add(queue);
      },
      pull: () => sub || queue.desiredSize < QUEUE_MAX / 2 || read(),
      cancel() {
        sub?.unsubscribe();
        core.loops.delete(queue);
      },
    }, { highWaterMark: QUEUE_MAX }).getReader();
    return {
      next: () => loop.read(),
      return: () => loop.cancel().then(() => ({ done: true, value: undefined })),
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  return { channels, moveTo, take, subscribe, messages };
}

// ---- Publishing: what waits for a connection, in its order.

function newOutbox(core) {
  const waiting = []; // { topic, data, event, resolve, reject }
  let unanswered = 0;
  let isPosting = false;

  function publish(topic, data, { event } = {}) {
    checkTopic(topic);
    if (event !== undefined && !/^[\x21-\x7e]{1,64}$/.test(event)) throw new TypeError(`not an event name: ${event}`);
    let payload = data;
    if (data instanceof ArrayBuffer) payload = new Uint8Array(data);
    else if (ArrayBuffer.isView(data)) payload = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    else if (typeof data !== 'string') payload = JSON.stringify(data);
    if (payload === undefined) throw new TypeError('nothing to publish');
    if (core.isClosed) return Promise.reject(new CorecastError('the client is closed'));
    if (unanswered >= QUEUE_MAX) return Promise.reject(new CorecastError('too many publications wait'));
    unanswered += 1;
    return new Promise((resolve, reject) => {
      waiting.push({ topic, data: payload, event, resolve, reject });
      flush();
    }).finally(() => {
      unanswered -= 1;
    });
  }

  /** Hands what waits to the link: one by one where a connection keeps their order, else as batches. */
  function flush() {
    if (!waiting.length || !core.link?.isUp || core.link.isStarting || isPosting) return;
    if (core.link.publish) waiting.splice(0).forEach(core.link.publish);
    else post();
  }

  /** Publishes over HTTP, one request at a time to keep the order; what gathers meanwhile is the next batch. */
  async function post() {
    isPosting = true;
    await undefined; // What is published in the same breath goes together.
    if (core.isClosed) return; // All were refused.
    const batch = [];
    const lines = [];
    for (let chars = 0; waiting.length; batch.push(waiting.shift())) {
      const { topic, data, event } = waiting[0];
      const isText = typeof data === 'string';
      const line = JSON.stringify({ topic, data: isText ? data : toBase64(data), event, encoding: isText ? undefined : 'base64' });
      chars += line.length;
      if (batch.length && chars > BATCH_CHARS_MAX) break;
      lines.push(line);
    }
    const [{ topic, data, event }, second] = batch;
    try {
      // Of one alone, the engine tells the cursor.
      const answer = await (second
        ? core.ask('topics', { method: 'POST', body: lines.join('\n'), headers: { 'Content-Type': 'application/x-ndjson' } })
        : core.ask(`topics/${encodeURIComponent(topic)}`, { method: 'POST', body: data, headers: event && { 'Corecast-Event': event } }));
      const { cursor = null } = await answer.json();
      for (const { resolve } of batch) resolve(cursor);
    } catch (error) {
      const wrong = error.status === 400 && second && /^line (\d+):/.exec(error.message)?.[1];
      if (wrong) batch.splice(wrong - 1, 1)[0].reject(error); // Nothing was published; the others go again.
      if (wrong || (error.retryMs && !error.published && !core.isClosed)) {
        waiting.unshift(...batch);
        if (!wrong) await sleep(spread(error.retryMs));
      } else {
        if (!error.status || error.published) error.isSent = true;
        for (const { reject } of batch) reject(error);
      }
    }
    isPosting = false;
    flush();
  }

  const refuse = (error) => waiting.splice(0).forEach(({ reject }) => reject(error));
  return { publish, flush, refuse };
}

// ---- Links. A link carries the topics over one transport until `done` says why it ended.

function newLink(core, name) {
  const stop = new AbortController();
  const link = { name, isUp: false, signal: stop.signal };
  link.done = new Promise((resolve) => {
    link.fail = (why, facts) => {
      stop.abort();
      resolve(typeof why === 'string' ? new CorecastError(why, facts) : why);
    };
  });
  link.up = () => {
    if (link.isUp || link.signal.aborted) return;
    link.isUp = true;
    queueMicrotask(() => core.up(link)); // A link can come up before it is known.
  };
  return link;
}

/** Makes a timer that replaces what it was set to before, and ends with `signal`; a text is why the link fails then. */
function newTimer(link, signal = link.signal) {
  let timer;
  signal.addEventListener('abort', () => clearTimeout(timer));
  return (ms, then) => {
    clearTimeout(timer);
    if (ms && !signal.aborted) timer = setTimeout(typeof then === 'string' ? () => link.fail(then) : then, ms);
  };
}

/**
 * The line protocol over a wire: a WebSocket, or another tab. `open` is given a function that hears what the peer says,
 * `hear(verb, ...words)`, and returns `{ send(verb, topic, options, payload), close() }`.
 */
function lineLink(core, name, open) {
  const link = newLink(core, name);
  const { channels, take, moveTo } = core.reading;
  const { pingMs, openMs } = core.options;
  const within = newTimer(link);
  const asked = new Map(); // token -> [resolve, reject]
  let tokens = 0;

  const ask = (verb, topic, options, payload) => new Promise((...ends) => {
    const id = String((tokens += 1));
    asked.set(id, ends);
    wire.send(verb, topic, { ...options, id }, payload);
  });
  const answered = (id, end, value) => {
    asked.get(id)?.[end](value);
    return asked.delete(id);
  };
  link.change = async (channel) => {
    if (!link.isUp || link.signal.aborted) return; // All are subscribed when it is up.
    const { topic, conflate, every } = channel;
    const isWanted = channels.get(topic) === channel;
    const since = startOf(channel);
    try {
      const head = await (isWanted ? ask('SUB', topic, { since, conflate, every }) : ask('UNSUB', topic));
      // The head is where a subscription stands that wants nothing older, or finds nothing older.
      if (!channel.cursor && (isLive(since) || isNowhere(head))) moveTo(channel, head);
    } catch (error) {
      if (!error.isSent) core.fault(error);
      if (error.code === 'full') setTimeout(link.change, spread(1000), channel);
    }
  };
  link.publish = ({ topic, data, event, resolve, reject }) => ask('PUB', topic, { event }, data).then(resolve, reject);
  const read = {
    HI() {
      link.up();
      channels.forEach(link.change);
    },
    MSG: take,
    GAP: (gap) => take(decode({ gap })),
    OK: (id, cursor) => answered(id, 0, cursor),
    ERR(id, code, ...text) {
      const error = new CorecastError(text.join(' '), { code });
      if (!answered(id, 1, error)) core.fault(error);
    },
  };
  const hear = (verb, ...words) => {
    if (link.signal.aborted) return;
    // A browser does not show pings: ask after some silence, and give up if nothing at all comes back.
    within(pingMs, () => {
      wire.send('PING');
      within(openMs, 'the connection is dead');
    });
    read[verb]?.(...words);
  };
  within(openMs, 'the connection does not open');
  const wire = open(link, hear, within);
  link.signal.addEventListener('abort', () => {
    wire.close();
    const error = new CorecastError('the connection ended before the answer', { isSent: true });
    for (const [, reject] of asked.values()) reject(error);
  });
  return link;
}

/** A WebSocket: a message is a line of words and perhaps a payload. */
const webSocketWire = (core) => (link, hear, within) => {
  const url = core.url('ws');
  url.protocol = url.protocol.replace('http', 'ws');
  const ws = new core.options.WebSocket(url.href, 'corecast.v1');
  ws.binaryType = 'arraybuffer';
  ws.onopen = () => within(core.options.silenceMs, 'connected, but the engine is silent');
  ws.onmessage = ({ data }) => {
    const isText = typeof data === 'string';
    const bytes = isText ? data : new Uint8Array(data);
    const end = bytes.indexOf(isText ? '\n' : 10);
    const head = end < 0 ? bytes : bytes.slice(0, end);
    const [verb, ...words] = (isText ? head : new TextDecoder().decode(head)).split(' ');
    if (verb !== 'MSG' && verb !== 'GAP') return hear(verb, ...words);
    const [name, cursor, ...rest] = words;
    const topic = decodeURIComponent(name);
    if (verb === 'GAP') return hear(verb, { topic, from: cursor, to: rest[0], count: Number(rest[1]), reason: rest[2] });
    const event = rest.find((word) => word.startsWith('event='))?.slice(6);
    return hear(verb, { topic, cursor, event, data: bytes.slice(end + 1) });
  };
  ws.onerror = () => {}; // A close follows, and says no less.
  ws.onclose = ({ code, reason }) => {
    link.fail(reason || `the WebSocket closed with ${code}`, { code, retryMs: code === 1013 ? 1000 : undefined });
  };
  const send = (verb, topic, options, payload) => {
    const words = Object.entries(options ?? {}).map(([key, value]) => value && (value === true ? key : `${key}=${value}`));
    const head = [verb, topic?.replace(/[% ]/g, encodeURIComponent), ...words].filter(Boolean).join(' ');
    if (payload instanceof Uint8Array) ws.send(new Blob([head, '\n', payload]));
    else ws.send(payload === undefined ? head : `${head}\n${payload}`);
  };
  return { send, close: () => ws.close() };
};

/** Yields the lines of a body as they come; `onBytes` hears of every piece, also of heartbeats. */
async function* lines(body, onBytes) {
  const text = new TextDecoder();
  const reader = body.getReader();
  for (let rest = ''; ;) {
    const { done, value } = await reader.read();
    if (done) return;
    onBytes();
    const parts = (rest + text.decode(value, { stream: true })).split('\n');
    rest = parts.pop();
    yield* parts;
  }
}

/** Puts channels with the same options together, as many as one request takes. */
function groups(channels) {
  const all = [];
  for (const channel of channels) {
    const { topic, conflate, every } = channel;
    const chars = encodeURIComponent(topic).length + 40; // with its cursor
    let group = all.find((each) => each[0].conflate === conflate && each[0].every === every
      && each.length < TOPICS_MAX && each.chars + chars < QUERY_CHARS_MAX);
    if (!group) all.push(group = Object.assign([], { chars: 0 }));
    group.push(channel);
    group.chars += chars;
  }
  return all;
}

/** One GET per group of topics, for as long as it lasts; begun anew, from the cursors, whenever the topics change. */
function httpLink(core, name) {
  const link = newLink(core, name);
  const { options } = core;
  const { channels, take, moveTo } = core.reading;
  const later = newTimer(link);
  let round = new AbortController(); // of the requests under way

  async function stream(group, signal, within) {
    within(options.openMs, 'the stream does not open');
    const answer = await core.ask(core.query(name, group), { signal });
    const started = Date.now();
    within(options.silenceMs, 'headers came, but nothing behind them');
    const onBytes = () => {
      within(options.idleMs, 'the stream is silent');
      link.up();
    };
    for await (const line of lines(answer.body, onBytes)) {
      const object = name === 'sse' ? /^data: (.*)/.exec(line)?.[1] : line; // The data of an event says everything.
      if (object) take(decode(JSON.parse(object)));
    }
    within(0);
    // Streams end now and then, on purpose. One that ends at once is a fault.
    if (Date.now() - started < 500) throw new CorecastError('the stream ended at once');
    await sleep(Math.random() * options.backoffMs[0]);
  }

  /** Asks once for what is new; says how many items came. */
  async function poll(group, signal, transport, wait) {
    const { items, cursors } = await core.poll(group, { transport, wait, signal });
    items.forEach(take);
    group.forEach((channel, i) => moveTo(channel, cursors[i]));
    return items.length;
  }

  async function polls(group, signal, within) {
    const waitS = name === 'long-poll' && link.isUp ? options.waitS : 0; // The first shows that it works.
    const started = Date.now();
    within(options.openMs + waitS * 1000, 'the poll is not answered');
    const count = await poll(group, signal, name, `${waitS}`);
    within(0);
    link.up();
    // A long poll that comes back empty-handed at once was cut short by somebody between us.
    const isIdle = !count && (name === 'poll' || (waitS && Date.now() - started < 1000));
    if (isIdle) await sleep(options.pollMs * (0.75 + Math.random() / 2));
  }

  async function go() {
    round.abort();
    round = new AbortController();
    const { signal } = round;
    const all = [...channels.values()];
    const read = name === 'stream' || name === 'sse' ? stream : polls;
    if (!all.length) link.up(); // Nothing to read; publishing works.
    try {
      // First a poll of what is new: from then on each topic has a cursor, and no interruption makes a hole.
      await Promise.all(groups(all.filter(({ cursor }) => !cursor)).map((group) => poll(group, signal)));
      link.isStarting = false;
      core.outbox.flush();
      await Promise.all(groups(all).map(async (group) => {
        const within = newTimer(link, signal);
        while (!signal.aborted) await read(group, signal, within);
      }));
    } catch (error) {
      if (!signal.aborted) link.fail(error);
    }
  }

  link.change = () => {
    link.isStarting = true; // What is published from now on, the new topic hears.
    later(GATHER_MS, go);
  };
  link.signal.addEventListener('abort', () => round.abort());
  go();
  return link;
}

// ---- Tabs of one browser. The one that holds a lock leads: it has the connection, and is the engine to the others, which
// speak the line protocol to it over a BroadcastChannel. The lock goes to the next when its tab is gone, however it went.

function newTab(core) {
  const { locks } = core.options;
  const air = new BroadcastChannel(core.key);
  const id = Math.random().toString(36).slice(2);
  const served = new Map(); // by the leader: tab -> topic -> subscription
  const tab = { isLeader: false, isAlone: false, close: undefined };
  const say = (words) => core.isClosed || air.postMessage(words);
  const closed = new Promise((resolve) => {
    tab.close = () => resolve(air.close());
  });
  let follow = () => {}; // hears the leader

  /** Says something to all tabs that follow. */
  tab.tell = (verb) => tab.isLeader && say({ verb, words: [] });

  function serve({ from, verb, topic, options, payload }) {
    const reply = (answer, ...words) => say({ to: from, verb: answer, words });
    const leave = (subs) => subs.forEach((sub, key) => subs.delete(key, sub.unsubscribe()));
    if (!served.has(from)) {
      served.set(from, new Map());
      locks.request(`${core.key} ${from}`, () => served.delete(from, leave(served.get(from)))); // That tab is gone.
    }
    const subs = served.get(from);
    const does = {
      HELLO() {
        leave(subs);
        reply(core.link?.isUp ? 'HI' : 'PONG'); // Somebody is here; HI follows when there is a connection.
      },
      PING: () => reply('PONG'),
      SUB() {
        does.UNSUB();
        const onStart = (cursor) => reply('OK', options.id, cursor);
        const hears = { ...options, onStart, onGap: (gap) => reply('GAP', gap) };
        subs.set(topic, core.reading.subscribe(topic, hears, (message) => reply('MSG', message)));
      },
      UNSUB() {
        subs.get(topic)?.unsubscribe();
        subs.delete(topic);
      },
      PUB: () => core.outbox.publish(topic, payload, options).then(
        (cursor) => reply('OK', options.id, cursor),
        ({ code, message }) => reply('ERR', options.id, code, message),
      ),
    };
    does[verb]();
  }

  air.onmessage = ({ data }) => {
    if (data.from && tab.isLeader) serve(data);
    else if (!data.from && !tab.isLeader && (data.to ?? id) === id) follow(data.verb, ...data.words);
  };

  /** The wire to the tab that leads. */
  tab.wire = (link, hear, within) => {
    const send = (verb, topic, options, payload) => say({ from: id, verb, topic, options, payload });
    follow = (verb, ...words) => {
      if (verb === 'HI' && link.isUp) return; // It was for all.
      if (verb !== 'BYE') hear(verb, ...words);
      else if (link.isUp) link.fail('the tab with the connection has lost it');
      else send('HELLO'); // A new leader does not know who waits.
    };
    within(core.options.silenceMs, 'no tab answers');
    send('HELLO');
    return { send, close: () => {} };
  };

  // The tab's own lock says that it lives: the leader waits for it.
  locks.request(`${core.key} ${id}`, () => closed);
  tab.elected = new Promise((resolve) => {
    locks.request(core.key, () => {
      if (core.isClosed) return undefined;
      tab.isLeader = true;
      tab.tell('BYE'); // They say HELLO, and are known.
      if (core.link?.name === 'tab') core.link.fail('this tab takes over');
      core.wake();
      resolve();
      return closed;
    });
  });
  return tab;
}

// ---- The client.

/** Connects to the engine at `url`, in a browser by default to the one the page came from. */
export function connect(url, given = {}) {
  const options = {
    backoffMs: [500, 30_000], openMs: 5000, silenceMs: 2000, idleMs: 90_000, pingMs: 40_000, pollMs: 2000, waitS: 25,
    transport: 'auto', WebSocket: globalThis.WebSocket, fetch: globalThis.fetch, locks: globalThis.navigator?.locks,
  };
  for (const key in given) if (given[key] !== undefined) options[key] = given[key];
  const base = new URL(url ?? '/', globalThis.location?.href);
  base.protocol = base.protocol.replace('ws', 'http');
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  const names = [options.transport === 'auto' ? ORDER : options.transport].flat()
    .filter((name) => name !== 'websocket' || options.WebSocket);
  const unknown = names.find((name) => !ORDER.includes(name));
  if (unknown) throw new TypeError(`not a transport: ${unknown}`);
  if (!names.length) throw new TypeError('there is no WebSocket here: pass one as options.WebSocket');

  const listeners = { gap: new Set(), state: new Set(), error: new Set() };
  const core = { options, key: `corecast ${base}`, isClosed: false, link: undefined, loops: new Set(), wake: () => {} };
  const get = (target, init) => options.fetch.call(globalThis, target, { cache: 'no-store', ...init });
  const online = () => core.wake();
  let at = 0; // the transport that is tried
  let good; // the one that worked last
  let tab;

  core.url = (path) => new URL(path, base);
  core.ask = async (path, init) => {
    const answer = await get(core.url(path), init);
    if (!answer.ok) throw await refusal(answer);
    return answer;
  };
  core.query = (transport, channels, wait) => {
    const [{ conflate, every }] = channels;
    const query = new URLSearchParams(channels.map(({ topic }) => ['topic', topic]));
    const words = { transport, since: channels.map(startOf).join(), wait, conflate: conflate && '1', every, enveloped: transport === 'sse' && '1' };
    for (const key in words) if (words[key]) query.set(key, words[key]);
    return `topics?${query}`;
  };
  core.poll = async (channels, { transport = 'poll', wait, signal } = {}) => {
    const answer = await core.ask(core.query(transport, channels, wait), { signal });
    const items = answer.status === 200 ? await answer.json() : [];
    return { items: items.map(decode), cursors: answer.headers.get('Corecast-Cursor')?.split(',') ?? [] };
  };
  core.emit = (type, detail) => {
    for (const listener of [...listeners[type]]) {
      try {
        listener(detail);
      } catch (error) {
        console.error(error);
      }
    }
  };
  core.fault = (error) => (listeners.error.size ? core.emit('error', error) : console.error(error));
  core.reading = newReading(core);
  core.outbox = newOutbox(core);
  core.up = (link) => {
    if (core.link !== link || link.signal.aborted) return;
    good = link.name;
    if (good !== 'tab' && core.reading.channels.size) remember(good);
    say('open', { transport: good });
    tab?.tell('HI');
    core.outbox.flush();
  };

  function say(state, facts = {}) {
    client.state = state;
    client.transport = state === 'open' ? facts.transport : undefined;
    core.emit('state', { state, ...facts });
  }

  /** Uses the storage; it may be missing, forbidden or full, and then what it holds is found out anew. */
  const stored = (use) => {
    try {
      return use(options.storage ?? globalThis.localStorage);
    } catch {
      return undefined;
    }
  };
  const remembered = () => stored((storage) => {
    const [name, then] = storage.getItem(core.key).split(' ');
    return Date.now() - then < DAY_MS && name; // The network may be a better one tomorrow.
  });
  const remember = (name) => stored((storage) => remembered() === name || storage.setItem(core.key, `${name} ${Date.now()}`));

  /** Asks whether the engine is there at all, and whether it is full. Without CORS, that there is an answer can be seen. */
  const probe = () => get(base, { method: 'HEAD', mode: 'no-cors', signal: AbortSignal.timeout(options.openMs) }).then(
    (answer) => (isFull(answer) ? refusal(answer) : { isThere: true }),
    () => ({}),
  );

  function open(name) {
    if (name === 'tab') return lineLink(core, name, tab.wire);
    return name === 'websocket' ? lineLink(core, name, webSocketWire(core)) : httpLink(core, name);
  }

  async function run() {
    const [firstMs, mostMs] = options.backoffMs;
    let failures = 0; // in a row
    let strikes = 0; // against the transport; three, and it is taken for blocked
    let tried = 0; // transports, since one came up
    at = Math.max(0, names.indexOf(remembered()));
    while (!core.isClosed) {
      const name = tab && !tab.isLeader && !tab.isAlone ? 'tab' : names[at];
      say('connecting', { transport: name });
      const started = Date.now();
      const link = core.link = open(name);
      const error = await link.done;
      core.link = undefined;
      if (core.isClosed) return;
      tab?.tell('BYE');
      // A link that held for a while is a success, whatever ended it.
      const hasHeld = link.isUp && Date.now() - started > Math.min(5000, 10 * firstMs);
      failures = hasHeld ? 0 : failures + 1;
      if (link.isUp) tried = 0;
      let waitMs = failures ? Math.min(mostMs, firstMs * 2 ** (failures - 1)) * (0.5 + Math.random() / 2) : Math.random() * firstMs;
      let { retryMs } = error;
      if (name === 'tab') {
        if (link.isUp || tab.isLeader) waitMs = 0;
        else tab.isAlone = failures > 2; // The leader is frozen: do without it.
      } else if (names.length > 1 && retryMs === undefined) {
        if (hasHeld) strikes = 0;
        else strikes += link.isUp || name === good ? 1 : 3;
        const engine = strikes < 3 ? {} : await probe();
        retryMs = engine.retryMs;
        if (engine.isThere) {
          // It is the transport, then: on to the next, at once for a first round.
          at = (at + 1) % names.length;
          strikes = 0;
          if ((tried += 1) < names.length) waitMs = 0;
        }
      }
      if (retryMs !== undefined) waitMs = Math.max(waitMs, spread(retryMs));
      if (waitMs > 0) {
        say('waiting', { transport: name, error, waitMs });
        await new Promise((resolve) => {
          const timer = setTimeout(resolve, waitMs);
          core.wake = () => resolve(clearTimeout(timer));
        });
      }
    }
  }

  const client = {
    state: 'connecting',
    transport: undefined,
    subscribe: core.reading.subscribe,
    messages: core.reading.messages,
    publish: core.outbox.publish,
    on(type, listener) {
      if (!listeners[type]) throw new TypeError(`not an event: ${type}`);
      listeners[type].add(listener);
      return () => listeners[type].delete(listener);
    },
    close() {
      if (core.isClosed) return;
      core.isClosed = true;
      globalThis.removeEventListener?.('online', online);
      const error = new CorecastError('the client is closed');
      core.reading.channels.clear();
      core.outbox.refuse(error);
      for (const loop of core.loops) loop.close();
      core.link?.fail(error);
      core.wake();
      tab?.close();
      say('closed');
    },
  };

  globalThis.addEventListener?.('online', online);
  if (options.shared && options.locks && globalThis.BroadcastChannel) tab = newTab(core);
  // A lock that is free is had at once; who does not get it follows.
  Promise.race([tab?.elected, tab && sleep(50)]).then(run);
  return client;
}
