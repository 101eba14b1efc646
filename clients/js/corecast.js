// The corecast client: topics of a corecast engine, in browsers and in Node 20 or later.
//
// Owns: what is subscribed to and how far each topic was read (its cursor). Every connection is disposable: whatever
// ends it, the next one, over the same transport or another, goes on after the cursor. What arrives twice is dropped by
// its cursor; what is lost is told as a gap. Never: anything but the engine's documented wire protocol.

const ORDER = ['websocket', 'sse', 'stream', 'long-poll', 'poll'];
const TOPICS_MAX = 64; // of one HTTP request
const SSE_TOPICS_MAX = 4; // an SSE request has one topic, and browsers open six connections to a host
const QUEUE_MAX = 4096; // messages that wait for a slow `for await`, publications that wait for a connection
const BATCH_BYTES_MAX = 256 * 1024;
const DAY_MS = 86_400_000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const fromBase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const toBase64 = (bytes) => btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(''));
const isCursor = (text) => /^[0-9a-f]{8}-\d+$/.test(text ?? '');
// Before the first message of a topic, an epoch means nothing yet: whoever stands there has missed nothing.
const isNowhere = (cursor) => cursor?.endsWith('-0');
const startOf = ({ cursor, since }) => (isNowhere(cursor) ? '00000000-0' : cursor ?? since);

/** Says whether cursor `a` is behind `b` in time; another epoch is always news. */
function isNewer(a, b) {
  if (!a || !b) return true;
  const [epoch, seq] = a.split('-');
  const [epochThen, seqThen] = b.split('-');
  return epoch !== epochThen || BigInt(seq) > BigInt(seqThen);
}

/** What went wrong. `status`: of HTTP. `retryMs`: the engine said when to come back. `isSent`: it may have been published. */
export class CorecastError extends Error {
  constructor(message, facts) {
    super(message);
    this.name = 'CorecastError';
    Object.assign(this, facts);
  }
}

function checkTopic(topic) {
  const bytes = typeof topic === 'string' ? new TextEncoder().encode(topic).length : 0;
  // eslint-disable-next-line no-control-regex
  if (!bytes || bytes > 255 || /[\u0000-\u001f\u007f-\u009f+#*]/.test(topic) || topic.split('/').includes('')) {
    throw new TypeError(`not a topic: ${JSON.stringify(topic)}`);
  }
}

async function refusal(answer) {
  const text = await answer.text().catch(() => '');
  const after = answer.headers.get('Retry-After');
  const retryMs = after === null ? undefined : Math.max(0, /^\d+$/.test(after) ? after * 1000 : Date.parse(after) - Date.now());
  let reason = text.slice(0, 200);
  try {
    reason = JSON.parse(text).error ?? reason;
  } catch {
    // Not ours: a proxy answered.
  }
  const isFull = answer.status === 503 || answer.status === 429;
  return new CorecastError(reason || `HTTP status ${answer.status}`, {
    status: answer.status,
    retryMs: isFull ? retryMs || 1000 : undefined,
  });
}

/** Makes a message, or a gap, of the engine's JSON object. */
function decode(item) {
  if (item.gap) return item;
  const data = item.encoding === 'base64' ? fromBase64(item.data) : item.data;
  return { topic: item.topic, cursor: item.cursor, event: item.event, data };
}

/** Yields the lines of a body as they come. `onBytes` hears of every piece, also of heartbeats. */
async function* lines(body, ends, onBytes) {
  const text = new TextDecoder();
  const reader = body.getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onBytes();
    const parts = (rest + text.decode(value, { stream: true })).split(ends);
    rest = parts.pop();
    yield* parts;
  }
}

// ---- Links. A link carries the host's channels over one transport until `done` says why it ended.

/** Makes what links have in common: `done`, and `fail`, which ends it once and for all. */
function newLink(host, name) {
  const link = { name, isUp: false, done: undefined, fail: undefined, stop: new AbortController() };
  link.done = new Promise((resolve) => {
    link.fail = (error) => {
      link.stop.abort();
      resolve(error);
    };
  });
  link.up = () => {
    if (link.isUp || link.stop.signal.aborted) return;
    link.isUp = true;
    host.up(link);
  };
  return link;
}

/** The line protocol over one WebSocket. */
function webSocketLink(host, options) {
  const link = newLink(host, 'websocket');
  const url = host.url('ws');
  url.protocol = url.protocol.replace('http', 'ws');
  const ws = new (options.WebSocket ?? globalThis.WebSocket)(url.href, 'corecast.v1');
  ws.binaryType = 'arraybuffer';
  const asked = new Map(); // token -> what to do with OK and ERR
  let tokens = 0;
  let timer;
  const within = (ms, then) => {
    clearTimeout(timer);
    timer = setTimeout(then, ms);
  };
  const lose = (why) => () => link.fail(new CorecastError(why));
  // A browser does not show pings: ask after some silence, and give up if nothing at all comes back.
  const heard = () => within(options.pingMs, () => {
    ws.send('PING');
    within(options.openMs, lose('the engine is silent'));
  });
  const send = (verb, topic, words, ask, payload) => {
    const token = String(++tokens);
    asked.set(token, ask);
    const head = [verb, topic.replace(/[% ]/g, encodeURIComponent), ...words, `id=${token}`].join(' ');
    if (payload instanceof Uint8Array) {
      const bytes = new TextEncoder().encode(`${head}\n`);
      const frame = new Uint8Array(bytes.length + payload.length);
      frame.set(bytes);
      frame.set(payload, bytes.length);
      ws.send(frame);
    } else {
      ws.send(payload === undefined ? head : `${head}\n${payload}`);
    }
  };
  const subscribe = (channel) => {
    const since = startOf(channel);
    const words = [`since=${since}`];
    if (channel.conflate) words.push('conflate');
    if (channel.every) words.push(`every=${channel.every}`);
    send('SUB', channel.topic, words, {
      // The head is where a subscription stands that wants nothing older, or finds nothing older.
      ok: (head) => {
        if (!channel.cursor && head && (since === 'live' || since === '-0' || isNowhere(head))) channel.cursor = head;
      },
      err: (error) => {
        host.error(error);
        if (error.code === 'full') setTimeout(() => host.channels.get(channel.topic) === channel && link.change(channel), 1000);
      },
    });
  };
  link.change = (channel) => {
    if (!link.isUp) return; // All are subscribed when it is.
    if (host.channels.get(channel.topic) === channel) subscribe(channel);
    else send('UNSUB', channel.topic, [], {});
  };
  link.publish = (item) => {
    item.isSent = true;
    const words = item.event ? [`event=${item.event}`] : [];
    send('PUB', item.topic, words, { ok: item.resolve, err: item.reject, lost: item.reject }, item.data);
  };
  const read = {
    HI() {
      link.up();
      for (const channel of host.channels.values()) subscribe(channel);
    },
    MSG([topic, cursor, ...words], data) {
      const event = words.find((word) => word.startsWith('event='))?.slice(6);
      host.take({ topic: decodeURIComponent(topic), cursor, event, data });
    },
    GAP([topic, from, to, count, reason]) {
      host.take({ gap: { topic: decodeURIComponent(topic), from, to, count: Number(count), reason } });
    },
    OK([token, cursor]) {
      asked.get(token)?.ok?.(cursor);
      asked.delete(token);
    },
    ERR([token, code, ...text]) {
      const error = new CorecastError(text.join(' '), { code });
      if (asked.has(token)) asked.get(token).err?.(error);
      else host.error(error);
      asked.delete(token);
    },
  };
  ws.onopen = () => within(options.silenceMs, lose('connected, but the engine is silent'));
  ws.onmessage = ({ data }) => {
    if (link.stop.signal.aborted) return;
    heard();
    const isText = typeof data === 'string';
    const bytes = isText ? data : new Uint8Array(data);
    const end = bytes.indexOf(isText ? '\n' : 10);
    const head = end < 0 ? bytes : bytes.slice(0, end);
    const [verb, ...words] = (isText ? head : new TextDecoder().decode(head)).split(' ');
    read[verb]?.(words, end < 0 ? '' : bytes.slice(end + 1));
  };
  ws.onerror = () => {}; // A close follows, and says no less.
  ws.onclose = ({ code, reason }) => {
    const facts = { code, retryMs: code === 1013 ? 1000 : undefined };
    link.fail(new CorecastError(reason || `the WebSocket closed with ${code}`, facts));
  };
  within(options.openMs, lose('the WebSocket does not open'));
  link.stop.signal.addEventListener('abort', () => {
    clearTimeout(timer);
    const lost = new CorecastError('the connection ended before the answer', { isSent: true });
    for (const { lost: tell } of asked.values()) tell?.(lost);
    ws.close();
  });
  return link;
}

/** One GET per up to 64 topics; begun anew, from the cursors, whenever the topics change. */
function httpLink(host, name, options) {
  const link = newLink(host, name);
  let round; // aborts the requests under way
  let timer;

  const query = (channels) => {
    const [{ topic, conflate, every }] = channels;
    const url = host.url(channels.length === 1 ? `topics/${encodeURIComponent(topic)}` : 'topics');
    const set = (key, value) => url.searchParams.append(key, value);
    if (channels.length > 1) for (const channel of channels) set('topic', channel.topic);
    set('transport', name);
    set('since', channels.map(startOf).join(','));
    if (conflate) set('conflate', 1);
    if (every) set('every', every);
    if (name === 'long-poll') set('wait', link.isUp ? options.waitS : 0); // The first shows that it works.
    return url;
  };

  /** Ends the link if nothing calls `heard` in time. */
  const watch = (signal) => {
    let timer;
    signal.addEventListener('abort', () => clearTimeout(timer));
    return (ms, why) => {
      clearTimeout(timer);
      if (!signal.aborted && ms) timer = setTimeout(() => link.fail(new CorecastError(why)), ms);
    };
  };

  async function readStream(channels, signal, heard) {
    const answer = await host.request(query(channels), { signal });
    const started = Date.now();
    heard(options.silenceMs, 'headers came, but nothing behind them');
    const onBytes = () => {
      heard(options.idleMs, 'the stream is silent');
      link.up();
    };
    if (name === 'stream') {
      for await (const line of lines(answer.body, '\n', onBytes)) {
        if (line.trim()) host.take(decode(JSON.parse(line)));
      }
    } else {
      await readEvents(channels[0].topic, lines(answer.body, /\r\n|\n|\r(?!$)/, onBytes));
    }
    heard(0);
    // Streams end now and then, on purpose. One that ends at once is a fault.
    if (Date.now() - started < 1000) throw new CorecastError('the stream ended at once');
    await sleep(Math.random() * options.backoffMs[0]);
  }

  /** Reads server-sent events (WHATWG HTML, "Interpreting an event stream"). */
  async function readEvents(topic, source) {
    let fields = { data: [] };
    for await (const line of source) {
      const [, key, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
      if (line) {
        if (key === 'data') fields.data.push(value ?? '');
        else fields[key] = value ?? '';
        continue;
      }
      const data = fields.data.join('\n');
      const binary = fields.event === 'corecast-base64';
      if (fields.event === 'corecast-gap') host.take({ gap: JSON.parse(data) });
      else if (fields.data.length) {
        host.take(decode({ topic, cursor: fields.id, event: binary ? undefined : fields.event || undefined, data, encoding: binary && 'base64' }));
      }
      fields = { data: [] };
    }
  }

  async function readPoll(channels, signal, heard) {
    const started = Date.now();
    const wasUp = link.isUp;
    heard(options.openMs + (name === 'long-poll' ? options.waitS * 1000 : 0), 'the poll is not answered');
    const answer = await host.request(query(channels), { signal });
    const items = answer.status === 200 ? await answer.json() : [];
    heard(0);
    link.up();
    for (const item of items) host.take(decode(item));
    host.moveTo(channels, answer);
    // A long poll that comes back empty-handed at once was cut short by somebody between us.
    const isIdle = !items.length && (name === 'poll' || (wasUp && Date.now() - started < 1000));
    if (isIdle) await sleep(options.pollMs * (0.75 + Math.random() / 2));
  }

  const read = name === 'stream' || name === 'sse' ? readStream : readPoll;

  async function go() {
    round?.abort();
    round = new AbortController();
    const { signal } = round;
    const all = [...host.channels.values()];
    if (!all.length) return link.up(); // Nothing to read; publishing works.
    try {
      // First a poll of each new topic: from then on it has a cursor, and no interruption makes a hole.
      await Promise.all(all.filter((channel) => !channel.cursor).map(async (channel) => {
        const { answer } = await host.history(channel.topic, channel.since, (item) => host.take(item), signal);
        host.moveTo([channel], answer);
      }));
      await Promise.all(groups(all, name).map(async (channels) => {
        const heard = watch(signal);
        while (!signal.aborted) await read(channels, signal, heard);
      }));
    } catch (error) {
      if (!signal.aborted) link.fail(error);
    }
    return undefined;
  }

  link.change = () => {
    clearTimeout(timer);
    timer = setTimeout(go, options.gatherMs); // Topics asked for together travel together.
  };
  link.stop.signal.addEventListener('abort', () => {
    clearTimeout(timer);
    round?.abort();
  });
  go();
  return link;
}

/** Puts channels with the same options together, as many as one request takes; what has no cursor stands alone. */
function groups(channels, name) {
  const open = new Map();
  const all = [];
  for (const channel of channels) {
    const key = `${channel.conflate} ${channel.every}`;
    let group = name !== 'sse' && channel.cursor ? open.get(key) : undefined;
    if (!group || group.length === TOPICS_MAX) {
      all.push((group = []));
      if (channel.cursor) open.set(key, group);
    }
    group.push(channel);
  }
  return all;
}

/** Another tab of this browser holds the connection; it is spoken to over a BroadcastChannel. */
function tabLink(host, air, id, options) {
  const link = newLink(host, 'tab');
  const asked = new Map();
  let tokens = 0;
  let leader;
  const say = (words) => air.postMessage({ from: id, ...words });
  const timer = setTimeout(() => link.fail(new CorecastError('no tab answers')), options.silenceMs);
  link.change = (channel) => {
    const { topic, conflate, every } = channel;
    if (!link.isUp) return;
    if (host.channels.has(topic)) say({ sub: topic, options: { since: startOf(channel), conflate, every } });
    else say({ unsub: topic });
  };
  link.publish = (item) => {
    const { topic, data, event } = item;
    item.isSent = true;
    asked.set(++tokens, item);
    say({ pub: topic, data, event, token: tokens });
  };
  link.hear = (words) => {
    if (words.leader) {
      if (leader && leader !== words.leader) link.fail(new CorecastError('another tab took over'));
      if (leader) return;
      leader = words.leader;
      clearTimeout(timer);
      link.up();
      host.channels.forEach(link.change);
    } else if (words.to === id && words.token) {
      const item = asked.get(words.token);
      asked.delete(words.token);
      if (words.error) item?.reject(new CorecastError(words.error));
      else item?.resolve(words.cursor);
    } else if (words.to === id) {
      host.take(words.item);
    }
  };
  link.stop.signal.addEventListener('abort', () => {
    clearTimeout(timer);
    const lost = new CorecastError('the tab with the connection is gone', { isSent: true });
    for (const item of asked.values()) item.reject(lost);
  });
  say({ hello: true });
  return link;
}

// ---- The client.

/** One wish for a topic. */
class Subscription {
  #client;
  #onMessage;

  constructor(client, topic, options, onMessage) {
    this.#client = client;
    this.#onMessage = onMessage;
    this.topic = topic;
    this.onGap = options.onGap;
    this.cursor = isCursor(options.since) ? options.since : undefined;
    this.waiting = undefined; // what comes while its own history is being fetched
  }

  unsubscribe() {
    this.#client.unsubscribe(this);
  }

  take(item) {
    const cursor = item.gap ? item.gap.to : item.cursor;
    if (this.waiting) {
      this.waiting.push(item);
      return;
    }
    if (!isNewer(cursor, this.cursor)) return;
    this.cursor = cursor ?? this.cursor;
    try {
      if (item.gap) this.onGap?.(item.gap);
      else this.#onMessage(item, this);
    } catch (error) {
      this.#client.report(error);
    }
  }
}

/** A connection to an engine that outlives its connections. See `corecast.d.ts`. */
export class Client {
  #options;
  #base;
  #host;
  #link;
  #names; // transports that may work here, best first
  #at = 0; // which of them is tried
  #good; // the one that worked last
  #listeners = { gap: new Set(), state: new Set(), error: new Set() };
  #outbox = []; // publications that nobody took yet
  #isPosting = false;
  #wake = () => {}; // ends a wait before its time
  #isClosed = false;
  #tab;

  constructor(url, options = {}) {
    this.#options = {
      backoffMs: [500, 30_000], openMs: 5000, silenceMs: 2000, idleMs: 90_000, pingMs: 40_000, pollMs: 2000,
      gatherMs: 10, waitS: 25, storage: storage(), locks: globalThis.navigator?.locks, ...options,
    };
    this.#base = new URL(url ?? '/', globalThis.location?.href);
    this.#base.protocol = this.#base.protocol.replace('ws', 'http');
    if (!this.#base.pathname.endsWith('/')) this.#base.pathname += '/';
    const wanted = [this.#options.transport ?? 'auto'].flat();
    const unknown = wanted.find((name) => name !== 'auto' && !ORDER.includes(name));
    if (unknown) throw new TypeError(`not a transport: ${unknown}`);
    const hasWebSocket = this.#options.WebSocket ?? globalThis.WebSocket;
    this.#names = (wanted.includes('auto') ? ORDER : wanted).filter((name) => name !== 'websocket' || hasWebSocket);
    if (!this.#names.length) throw new TypeError('there is no WebSocket here: pass one as options.WebSocket');
    this.#at = Math.max(0, this.#names.indexOf(this.#remembered()));
    this.state = 'connecting';
    this.transport = undefined;
    this.#host = {
      channels: new Map(), // topic -> what is subscribed to, and how far it was read
      url: (path) => new URL(path, this.#base),
      request: (target, init) => this.#request(target, init),
      history: (...args) => this.#history(...args),
      take: (item) => this.#take(item),
      moveTo: (channels, answer) => moveTo(channels, answer),
      error: (error) => this.report(error),
      up: (link) => this.#up(link),
    };
    globalThis.addEventListener?.('online', this.#online);
    this.#run();
  }

  /** Calls `listener` for every `gap`, `state` or `error`; returns a function that ends this. */
  on(type, listener) {
    const listeners = this.#listeners[type];
    if (!listeners) throw new TypeError(`not an event: ${type}`);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  subscribe(topic, options, onMessage) {
    if (typeof options === 'function') [options, onMessage] = [{}, options];
    checkTopic(topic);
    if (this.#isClosed) throw new CorecastError('the client is closed');
    const { since = 'latest', conflate = false, every = 0 } = options ?? {};
    const start = String(since);
    if (!isCursor(start) && !/^(latest|live|earliest|-\d+)$/.test(start)) throw new TypeError(`not a start: ${start}`);
    const sub = new Subscription(this, topic, { ...options, since: start }, onMessage);
    const { channels } = this.#host;
    let channel = channels.get(topic);
    if (channel) {
      if (channel.conflate !== conflate || channel.every !== every) {
        Object.assign(channel, { conflate, every });
        this.#link?.change(channel);
      }
      this.#join(channel, sub, start);
    } else {
      channel = { topic, since: start, conflate, every, cursor: sub.cursor, last: undefined, subs: new Set([sub]) };
      channels.set(topic, channel);
      this.#link?.change(channel);
    }
    return sub;
  }

  unsubscribe(sub) {
    const { channels } = this.#host;
    const channel = channels.get(sub.topic);
    if (!channel?.subs.delete(sub) || channel.subs.size) return;
    channels.delete(sub.topic);
    this.#link?.change(channel);
  }

  /** The messages of a topic as an async iterator; leaving the loop unsubscribes. */
  messages(topic, options) {
    const queue = [];
    let resolveNext;
    let isOver = false;
    let lost; // what a slow loop did not get
    const stop = () => {
      isOver = true;
      sub.unsubscribe();
      resolveNext?.({ done: true, value: undefined });
      this.#wakes.delete(stop);
    };
    const sub = this.subscribe(topic, options ?? {}, (message) => {
      if (resolveNext) {
        resolveNext({ done: false, value: message });
        resolveNext = undefined;
        return;
      }
      queue.push(message);
      if (queue.length <= QUEUE_MAX) return;
      const { cursor } = queue.shift();
      lost ??= { topic, from: cursor, to: cursor, count: 0, reason: 'overflow' };
      lost.to = cursor;
      lost.count += 1;
    });
    this.#wakes.add(stop);
    return {
      next: () => {
        if (lost) {
          options?.onGap?.(lost);
          this.#emit('gap', lost);
          lost = undefined;
        }
        if (queue.length) return Promise.resolve({ done: false, value: queue.shift() });
        if (isOver) return Promise.resolve({ done: true, value: undefined });
        return new Promise((resolve) => {
          resolveNext = resolve;
        });
      },
      return: () => {
        queue.length = 0;
        stop();
        return Promise.resolve({ done: true, value: undefined });
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  #wakes = new Set(); // ends the loops over `messages` when the client closes

  /** Publishes; resolves with the cursor, or with null where the engine numbers without telling (batches over HTTP). */
  publish(topic, data, { event } = {}) {
    checkTopic(topic);
    if (event !== undefined && !/^[\x21-\x7e]{1,64}$/.test(event)) throw new TypeError(`not an event name: ${event}`);
    if (this.#isClosed) return Promise.reject(new CorecastError('the client is closed'));
    if (this.#outbox.length >= QUEUE_MAX) return Promise.reject(new CorecastError('too many publications wait'));
    let payload = data;
    if (data instanceof ArrayBuffer) payload = new Uint8Array(data);
    else if (ArrayBuffer.isView(data)) payload = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    else if (typeof data !== 'string') payload = JSON.stringify(data);
    if (payload === undefined) throw new TypeError('nothing to publish');
    return new Promise((resolve, reject) => {
      this.#outbox.push({ topic, data: payload, event, resolve, reject, isSent: false });
      this.#flush();
    });
  }

  /** Ends everything. What was not published yet is refused. */
  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    globalThis.removeEventListener?.('online', this.#online);
    for (const stop of [...this.#wakes]) stop();
    this.#host.channels.clear();
    for (const item of this.#outbox.splice(0)) item.reject(new CorecastError('the client is closed'));
    this.#link?.fail(new CorecastError('the client is closed'));
    this.#wake();
    this.#tab?.close();
    this.#say('closed');
  }

  report(error) {
    if (this.#listeners.error.size) this.#emit('error', error);
    else console.error(error);
  }

  // -- Connections

  #online = () => this.#wake();

  async #run() {
    const { shared, backoffMs: [firstMs, mostMs] } = this.#options;
    let failures = 0; // in a row
    let tried = 0; // transports, since one worked
    if (shared) await this.#share();
    while (!this.#isClosed) {
      const name = this.#pick();
      this.#say('connecting', { transport: name });
      const started = Date.now();
      const link = this.#open(name);
      this.#link = link;
      const error = await link.done;
      this.#link = undefined;
      if (this.#isClosed) return;
      // A link that held for a while, or at least as long as the last pause, is a success; others count.
      failures = link.isUp && Date.now() - started > Math.min(5000, 10 * firstMs) ? 0 : failures + 1;
      let waitMs = Math.min(mostMs, firstMs * 2 ** failures) * (0.5 + Math.random() / 2);
      if (failures === 0) waitMs = Math.random() * firstMs;
      if (name === 'tab') {
        waitMs = link.isUp || this.#tab.isLeader ? 0 : waitMs;
        if (!link.isUp && failures > 2) this.#tab.isAlone = true; // The leader is frozen: do without it.
      } else if (error.retryMs !== undefined) {
        waitMs = Math.max(waitMs, error.retryMs * (1 + Math.random() / 4));
      } else if (!link.isUp && this.#names.length > 1) {
        const engine = await this.#probe();
        if (engine.retryMs !== undefined) {
          waitMs = Math.max(waitMs, engine.retryMs * (1 + Math.random() / 4));
        } else if (engine.isThere && (name !== this.#good || failures > 2)) {
          // The engine can be reached, so it is the transport that is blocked: on to the next, at once for a first round.
          this.#at = (this.#at + 1) % this.#names.length;
          if (++tried < this.#names.length) waitMs = 0;
        }
      }
      if (link.isUp) tried = 0;
      if (waitMs > 0) {
        this.#say('waiting', { transport: name, error, waitMs });
        await new Promise((resolve) => {
          const timer = setTimeout(resolve, waitMs);
          this.#wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    }
  }

  #pick() {
    if (this.#tab && !this.#tab.isLeader && !this.#tab.isAlone) return 'tab';
    const name = this.#names[this.#at];
    const isCrowded = name === 'sse' && this.#names.length > 1 && this.#host.channels.size > SSE_TOPICS_MAX;
    return isCrowded ? this.#names[(this.#at + 1) % this.#names.length] : name;
  }

  #open(name) {
    if (name === 'tab') return tabLink(this.#host, this.#tab.air, this.#tab.id, this.#options);
    if (name === 'websocket') return webSocketLink(this.#host, this.#options);
    return httpLink(this.#host, name, this.#options);
  }

  #up(link) {
    if (link.name !== 'tab') {
      this.#good = link.name;
      this.#remember(link.name);
    }
    // A link can come up before `#run` knows it.
    queueMicrotask(() => {
      if (this.#link !== link || link.stop.signal.aborted) return;
      this.#say('open', { transport: link.name });
      this.#flush();
    });
  }

  /** Asks whether the engine is there at all, and whether it is full. */
  async #probe() {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), this.#options.openMs);
    try {
      // Without CORS nothing can be read, but that there is an answer can be seen.
      const answer = await this.#fetch(this.#base, { method: 'HEAD', mode: 'no-cors', signal: stop.signal });
      if (answer.status === 503 || answer.status === 429) return await refusal(answer);
      return { isThere: true };
    } catch {
      return { isThere: false };
    } finally {
      clearTimeout(timer);
    }
  }

  #remembered() {
    try {
      const [name, at] = this.#options.storage.getItem(`corecast ${this.#base}`).split(' ');
      return Date.now() - at < DAY_MS ? name : undefined; // The network may be a better one tomorrow.
    } catch {
      return undefined;
    }
  }

  #remember(name) {
    if (this.#remembered() === name) return;
    try {
      this.#options.storage.setItem(`corecast ${this.#base}`, `${name} ${Date.now()}`);
    } catch {
      // No storage, or no room: it is found out anew next time.
    }
  }

  // -- Messages

  #take(item) {
    const { topic, cursor } = item.gap ? { topic: item.gap.topic, cursor: item.gap.to } : item;
    const channel = this.#host.channels.get(topic);
    if (!channel || !isNewer(cursor, channel.cursor)) return;
    const before = channel.cursor;
    channel.cursor = cursor ?? before;
    if (item.gap) {
      if (item.gap.count === 0 && isNowhere(item.gap.from)) return;
      for (const sub of [...channel.subs]) sub.take(item);
      this.#emit('gap', item.gap);
      return;
    }
    channel.last = item;
    for (const sub of [...channel.subs]) sub.take(item);
  }

  /** Adds a subscription to a topic that is read already: it is given what the others had before. */
  async #join(channel, sub, start) {
    channel.subs.add(sub);
    if (start === 'live' || start === '-0') {
      sub.cursor = channel.cursor;
      return;
    }
    if (isCursor(start) && isCursor(channel.cursor) && start.split('-')[0] === channel.cursor.split('-')[0] && !isNewer(channel.cursor, start)) return;
    sub.waiting = [];
    const give = (item) => {
      const { waiting } = sub;
      sub.waiting = undefined;
      sub.take(item);
      sub.waiting = waiting;
    };
    if (start === 'latest' && channel.last) {
      await undefined; // The caller has the subscription before its first message.
      if (channel.subs.has(sub)) give(channel.last);
    } else {
      for (let since = start, tries = 0; since && tries < 3 && channel.subs.has(sub);) {
        try {
          const { items, next } = await this.#history(sub.topic, since, (item) => channel.subs.has(sub) && give(item));
          since = items.length ? next : undefined; // An answer may be a part; the last one is empty.
          if (start === 'latest') break;
        } catch (error) {
          if (++tries === 3) this.report(error);
          else await sleep(error.retryMs ?? this.#options.backoffMs[0]);
        }
      }
    }
    const { waiting } = sub;
    sub.waiting = undefined;
    if (channel.subs.has(sub)) for (const item of waiting) sub.take(item);
  }

  async #history(topic, since, each, signal) {
    const url = this.#host.url(`topics/${encodeURIComponent(topic)}`);
    url.search = new URLSearchParams({ transport: 'poll', since });
    const answer = await this.#request(url, { signal });
    const items = (await answer.json()).map(decode);
    items.forEach(each);
    return { answer, items, next: answer.headers.get('Corecast-Cursor') ?? items.at(-1)?.cursor };
  }

  #fetch(url, init) {
    return (this.#options.fetch ?? globalThis.fetch)(url, { cache: 'no-store', ...init });
  }

  async #request(url, init) {
    const answer = await this.#fetch(url, init);
    if (!answer.ok) throw await refusal(answer);
    return answer;
  }

  // -- Publishing

  #flush() {
    if (this.state !== 'open' || !this.#link) return;
    if (this.#link.publish) {
      for (const item of this.#outbox.splice(0)) this.#link.publish(item);
    } else if (!this.#isPosting) {
      this.#post();
    }
  }

  /** Publishes over HTTP, one request at a time: what gathers meanwhile goes as one batch, in its order. */
  async #post() {
    this.#isPosting = true;
    await undefined; // What is published in the same breath goes together.
    let alone = 0; // how many to send one by one, to find the one that is refused
    while (this.#outbox.length && !this.#isClosed) {
      const batch = [this.#outbox.shift()];
      const line = ({ topic, data, event }) => JSON.stringify(
        typeof data === 'string' ? { topic, data, event } : { topic, data: toBase64(data), event, encoding: 'base64' },
      );
      let body = line(batch[0]);
      while (!alone && this.#outbox.length) {
        const next = line(this.#outbox[0]);
        if (body.length + next.length > BATCH_BYTES_MAX) break;
        body += `\n${next}`;
        batch.push(this.#outbox.shift());
      }
      alone = Math.max(0, alone - 1);
      try {
        const cursor = batch.length > 1 ? await this.#postBatch(body) : await this.#postOne(batch[0]);
        for (const item of batch) item.resolve(cursor);
      } catch (error) {
        if (error.status === 400 && batch.length > 1) {
          this.#outbox.unshift(...batch); // Nothing was published; the guilty one is to be told.
          alone = batch.length;
        } else if (error.retryMs !== undefined && !error.published && (batch[0].tries = (batch[0].tries ?? 0) + 1) < 5) {
          this.#outbox.unshift(...batch);
          await sleep(error.retryMs * (1 + Math.random() / 4));
        } else {
          if (error.status === undefined || error.published) error.isSent = true;
          for (const item of batch) item.reject(error);
        }
      }
    }
    this.#isPosting = false;
  }

  async #postOne({ topic, data, event }) {
    const headers = event ? { 'Corecast-Event': event } : {};
    const url = this.#host.url(`topics/${encodeURIComponent(topic)}`);
    const answer = await this.#request(url, { method: 'POST', body: data, headers });
    return (await answer.json()).cursor;
  }

  async #postBatch(body) {
    const headers = { 'Content-Type': 'application/x-ndjson' };
    const answer = await this.#fetch(this.#host.url('topics'), { method: 'POST', body, headers });
    if (answer.ok) return null;
    const { published } = await answer.clone().json().catch(() => ({}));
    throw Object.assign(await refusal(answer), { published });
  }

  // -- Tabs

  /** Takes part in the election of the tab that holds the connection: whoever holds the lock. */
  async #share() {
    const { locks } = this.#options;
    if (!locks || !globalThis.BroadcastChannel) return; // Each tab for itself.
    const name = `corecast ${this.#base}`;
    const air = new BroadcastChannel(name);
    const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
    const served = new Map(); // tab -> topic -> subscription
    const releases = [];
    const tab = { air, id, isLeader: false, isAlone: false, close: () => {
      for (const release of releases) release();
      air.close();
    } };
    this.#tab = tab;
    const hold = () => new Promise((resolve) => {
      if (this.#isClosed) resolve();
      else releases.push(resolve);
    });
    const forget = (from) => {
      for (const sub of served.get(from)?.values() ?? []) sub.unsubscribe();
      served.delete(from);
    };
    const say = (words) => this.#isClosed || air.postMessage(words);
    const serve = ({ from, hello, sub, options, unsub, pub, data, event, token }) => {
      if (hello) {
        forget(from);
        served.set(from, new Map());
        say({ to: from, leader: id });
        locks.request(`${name} ${from}`, () => forget(from)); // Granted when that tab is gone.
      }
      const theirs = served.get(from);
      if (!theirs) return;
      if (sub) {
        theirs.get(sub)?.unsubscribe();
        const pass = (item) => say({ to: from, item });
        theirs.set(sub, this.subscribe(sub, { ...options, onGap: (gap) => pass({ gap }) }, pass));
      } else if (unsub) {
        theirs.get(unsub)?.unsubscribe();
        theirs.delete(unsub);
      } else if (pub) {
        this.publish(pub, data, { event }).then(
          (cursor) => say({ to: from, token, cursor }),
          (error) => say({ to: from, token, error: error.message }),
        );
      }
    };
    air.onmessage = ({ data }) => {
      if (data.from && tab.isLeader) serve(data);
      else if (!data.from && !tab.isLeader && (!data.to || data.to === id)) this.#link?.hear?.(data);
    };
    // While this is held, the tab lives.
    locks.request(`${name} ${id}`, hold);
    const elected = new Promise((resolve) => {
      locks.request(name, () => {
        if (this.#isClosed) return undefined;
        tab.isLeader = true;
        resolve();
        if (this.#link?.name === 'tab') this.#link.fail(new CorecastError('this tab takes over'));
        say({ leader: id });
        return hold();
      });
    });
    await Promise.race([elected, sleep(50)]);
  }

  // -- Events

  #say(state, facts = {}) {
    this.state = state;
    this.transport = state === 'open' ? facts.transport : undefined;
    this.#emit('state', { state, ...facts });
  }

  #emit(type, detail) {
    for (const listener of [...this.#listeners[type]]) {
      try {
        listener(detail);
      } catch (error) {
        console.error(error);
      }
    }
  }
}

/** Moves channels to the cursors an answer ended at, so that an empty answer counts as read. */
function moveTo(channels, answer) {
  const cursors = answer.headers.get('Corecast-Cursor')?.split(',') ?? [];
  if (cursors.length !== channels.length) return; // Not readable here (CORS): the messages' own cursors do.
  channels.forEach((channel, i) => {
    if (isCursor(cursors[i]) && isNewer(cursors[i], channel.cursor)) channel.cursor = cursors[i];
  });
}

function storage() {
  try {
    return globalThis.localStorage; // Throws where storage is forbidden.
  } catch {
    return undefined;
  }
}

/** Connects to the engine at `url`, in a browser by default to the one the page came from. */
export function connect(url, options) {
  return new Client(url, options);
}
