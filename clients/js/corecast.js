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
const BATCH_BYTES_MAX = 256 * 1024; // until the engine says that it is too much
const GATHER_MS = 10; // topics subscribed to within this time travel in one request
const DAY_MS = 86_400_000;
const TIMER_MS_MAX = 2 ** 31 - 1; // setTimeout takes more for nothing at all
const NUMBER_MAX = 2 ** 32 - 1;
const AT_ONCE = 8; // requests that find out which topics are refused
const POLICY = 1008; // closes a WebSocket whose token has expired, or was revoked
const KNOWN_MS = 600_000; // for so long the engine knows who numbers messages, whatever it is told; in fact for a little longer
const REFUSED_MS = 30_000; // before a topic that was refused is asked for again
const PATTERNS_MAX = 4; // of one HTTP request
const SEEN_MAX = 65_536; // topics of a pattern, of which it is known how far each was read
const VIEWS_MAX = 8; // of one topic: each but the first takes a connection of its own
const WHOLE_CHARS = 32_768; // An answer of a poll that is shorter holds all there is: engines end one at twice as much.
// What a subscription may say besides where it starts: what it wants to see, of which a connection has one for each topic; and how.
const VIEW = ['fields', 'where'];
const MANNER = ['delta', 'conflate', 'every', 'batch', 'rate', 'queue'];

const spread = (ms) => ms * (1 + Math.random() / 4); // not all clients at once
/** How long to wait: as the engine says, which alone knows when there is room, or `ms`; what was only assumed shortens nothing. */
const patience = ({ retryMs, isAssumed }, ms) => (retryMs === undefined ? ms : Math.max(isAssumed ? ms : 0, spread(retryMs)));
const utf8 = new TextEncoder();
const toBase64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
const fromBase64 = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
const isCursor = (text) => /^([0-9a-f]{8}-(0|[1-9]\d{0,18})|~\S+)$/.test(text);
const isLive = (since) => since === 'live' || since === '-0';
// Before the first message of a topic, an epoch means nothing yet: whoever stands there has missed nothing.
const isNowhere = (cursor) => /^[^~].*-0$/.test(cursor);
const isPattern = (topic) => /(^|\/)[+#](\/|$)/.test(topic);
const startOf = ({ cursor, since }) => (isNowhere(cursor) ? '00000000-0' : cursor ?? since);
const isFull = ({ status }) => status === 503 || status === 429;
const PASSES = ['full', 'rate', 'unavailable', 'draining']; // What was refused so may be taken a little later.
const newName = (prefix) => `${prefix}${Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
/** All that a subscription says besides its topic and where it starts. */
const wordsOf = (channel) => Object.fromEntries([...VIEW, ...MANNER].filter((name) => channel[name]).map((name) => [name, channel[name]]));
const isRecord = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
// The request is wrong, and will be: not what comes from being late, early or too many.
const isRefusal = ({ status }) => status >= 400 && status < 500 && ![408, 425, 429].includes(status);
// What is no text, half of a pair, becomes U+FFFD, as `fetch` and a WebSocket would have it, on whatever way it travels.
const wellFormed = (text) => text.replace(/\p{Surrogate}/gu, '\ufffd');

/** Sleeps, at most until `signal` ends. */
const sleep = (ms, signal) => new Promise((resolve) => {
  const end = () => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', end);
    resolve();
  };
  const timer = setTimeout(end, signal?.aborted ? 0 : Math.min(ms, TIMER_MS_MAX));
  signal?.addEventListener('abort', end);
});

// What Node says of a request that never left: no connection came about. A browser does not say.
const UNSENT = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'];
const isUnsent = ({ cause }) => UNSENT.includes(cause?.code);

/** What the places of a pattern are after a message that names one of them, as `part.place`. */
function placed(places, at) {
  if (!places?.startsWith('~')) return places; // A word stands for them.
  const begin = places.indexOf('-') + 1;
  const parts = places.slice(begin).split('.');
  const [part, place] = at.split('.');
  parts[part] = place;
  return places.slice(0, begin) + parts.join('.');
}

/** What a value is after a merge patch (RFC 7396). What is not changed is shared, and no name of a member means anything here. */
function merged(value, patch) {
  if (!isRecord(patch)) return patch;
  const members = new Map(isRecord(value) ? Object.entries(value) : []);
  for (const [name, change] of Object.entries(patch)) {
    if (change === null) members.delete(name);
    else members.set(name, merged(members.get(name), change));
  }
  return Object.fromEntries(members);
}

function join(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => bytes.set(part, at) ?? at + part.length, 0);
  return bytes;
}

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

/** Parts a text of the engine's from its words for when to come back, if it has any; nobody means years. */
function parted(text) {
  const [, said, seconds] = /^(.*); try again in (\d{1,9})s$/s.exec(text) ?? [];
  return seconds ? { text: said, retryMs: Math.min(Math.max(seconds * 1000, 1000), DAY_MS) } : { text };
}

/** Makes an error of an HTTP answer that is not what was asked for. */
async function refusal(answer) {
  const { status, headers } = answer;
  const text = await answer.text().catch(() => '');
  const { error, published, expected } = (await Promise.resolve(text).then(JSON.parse).catch(() => {})) ?? {}; // A proxy's is no JSON.
  const after = headers.get('Retry-After');
  const isAssumed = isFull(answer) && !after || undefined; // when to come back: nobody has said it
  // The sender's clock counts, where it can be read. Nobody means years.
  const retryMs = /^\d+$/.test(after) ? after * 1000 : Date.parse(after) - (Date.parse(headers.get('Date')) || Date.now());
  const isRecords = /^(line \d+: )?(this topic|a message of this topic)/.test(error);
  const isTopics = /topic/.test(error) && !/^(fields|where)/.test(error);
  const codes = { 400: isRecords ? 'bad-record' : isTopics ? 'bad-topic' : 'bad-command', 401: 'unauthorized', 403: 'forbidden', 409: 'out-of-order', 413: 'too-large', 429: 'rate', 503: 'full', 507: 'full' };
  return new CorecastError(error ?? (text.slice(0, 200) || `HTTP status ${status}`), {
    status, code: error && codes[status], published, expected, retryMs: isFull(answer) ? Math.min(Math.max(retryMs || 0, 1000), DAY_MS) : undefined, isAssumed,
  });
}

/** Makes a message, `{ topic, cursor, gap }` or `{ topic, cursor, isEnd }`, of an object of the engine's; an event stream tells the last two without their wrapping. */
function decode({ gap, snapshot_end: end, ...item }) {
  const { topic, cursor, event, key, op = 'put', data, encoding, of, at } = item;
  if (end || (data === undefined && cursor && op === 'put')) return { topic: (end ?? item).topic, cursor: (end ?? item).cursor, isEnd: true };
  if (gap || item.to) {
    const { of: pattern, at: place, ...told } = gap ?? item;
    return { topic: told.topic, cursor: told.to, gap: told, of: pattern, at: place };
  }
  return { topic, cursor, event, key, op, data: encoding ? fromBase64(data) : data ?? '', of, at };
}

/** Says the name of each option that is there and is no function. */
function checkFunctions(options, ...names) {
  for (const name of names) if (options[name] !== undefined && typeof options[name] !== 'function') throw new TypeError(`${name} is not a function`);
}

/** Adds a listener; returns what takes it away. */
function listen(listeners, type, listener) {
  if (!Object.hasOwn(listeners, type)) throw new TypeError(`not an event: ${String(type)}; there are ${Object.keys(listeners).join(', ')}`);
  if (typeof listener !== 'function') throw new TypeError('on(type, listener) needs a function that hears of it');
  listeners[type].add(listener);
  return () => listeners[type].delete(listener);
}

function checkOptions(options, what) {
  if (options !== undefined && (options === null || typeof options !== 'object')) throw new TypeError(`${what}: its options are no object: ${options}`);
}

function checkTopic(topic, orPattern) {
  const bytes = typeof topic === 'string' ? utf8.encode(topic).length : 0;
  const plain = orPattern && bytes ? topic.replace(/(^|\/)\+(?=\/|$)/g, '$1x').replace(/(^|\/)#$/, '$1x') : topic;
  if (!bytes || bytes > 255 || /[\p{Cc}\p{Surrogate}+#*]/u.test(plain) || /(^|\/)\.{0,2}(\/|$)/.test(topic)) {
    throw new TypeError(`not a topic: ${JSON.stringify(topic)}`);
  }
}

// ---- Reading: topics, each with its cursor and its subscriptions.

function newReading(core) {
  // topic -> { topic, since, what VIEW and MANNER name, cursor, subs, values, held, accepted, refused, why, isWrong }; accepted and refused: on which link;
  // values: of changes, what there is of each key; held: what comes while these are fetched
  const channels = new Map();

  /** Moves a channel to where it starts, or to where an empty answer ended. */
  function moveTo(channel, cursor) {
    const { isOfMany } = channel;
    if (isOfMany ? !cursor || cursor === channel.cursor : !isCursor(cursor) || !isNewer(cursor, channel.cursor)) return;
    channel.cursor = cursor;
    for (const sub of channel.subs) {
      if (isOfMany) sub.cursor = cursor;
      sub.onStart?.(cursor);
    }
  }

  function accept(channel, link) {
    Object.assign(channel, { accepted: link, refused: undefined });
    for (const sub of channel.subs) sub.told = undefined;
  }

  /** Tells those who subscribed to a topic why they do not get it: the same only once. */
  function refuse({ topic, subs }, error) {
    const told = `${error.status} ${error.code} ${error.message}`;
    const news = [...subs].filter((sub) => sub.told !== told);
    for (const sub of news) sub.told = told;
    for (const tell of new Set(news.map(({ onError }) => onError ?? core.fault))) tell(new CorecastError(error.message, { ...error, topic }));
  }

  /** Of a topic, the manner of the newest subscription holds. */
  function agree(channel) {
    const { manner } = [...channel.subs].at(-1);
    const isChange = MANNER.some((name) => channel[name] !== manner[name]);
    return Object.assign(channel, manner) && isChange;
  }

  /** Makes a whole of a change, and keeps wholes for the changes to come; says false to a change of what is not known. */
  function complete({ delta, values }, item) {
    const { gap, key = '', op, data, cursor, changes } = item;
    if (gap ? gap.reason !== 'conflated' : op === 'delete' && item.key === undefined) values.clear();
    if (gap || changes) return true; // The tab that leads has done it.
    if (op === 'delete') return values.delete(key) || true;
    if (op !== 'merge') return delta ? values.set(key, { cursor, data }) : true;
    const known = values.get(key);
    if (typeof known?.data !== 'string') return false;
    // What was fetched may be newer than a change that comes behind it.
    if (!isNewer(cursor, known.cursor)) return Object.assign(item, { op: 'put', data: known.data });
    item.changes = JSON.parse(data);
    known.value = merged(known.value ?? JSON.parse(known.data), item.changes);
    known.cursor = cursor;
    return Object.assign(item, { data: known.data = JSON.stringify(known.value) });
  }

  /** Says whether a topic may be read in a view here: a connection has one view of each. */
  function shows(topic, view) {
    const known = channels.get(topic);
    return !known || VIEW.every((name) => (known[name] || undefined) === (view[name] || undefined));
  }

  /** Hands out a message, a gap or an end, if it is news. */
  function take(item) {
    const { topic, cursor, gap, isEnd, of = topic } = item;
    const channel = channels.get(of);
    if (channel?.isOfMany) return void takeOfMany(channel, item);
    if (channel?.held) return void channel.held.push(item);
    // All that was there comes again behind a gap, of a topic with values from their beginning.
    if (gap && gap.reason !== 'conflated' && gap.from === channel?.cursor) item.isAnew = true;
    if (!channel || !(isEnd || item.isAnew || isNewer(cursor, channel.cursor))) return;
    if (!isEnd && !complete(channel, item)) return void fetchValues(channel, item);
    if (!isEnd || (cursor && isNewer(cursor, channel.cursor))) channel.cursor = cursor;
    core.useful();
    if (gap?.count === 0 && isNowhere(gap.from)) return; // Nothing was read, and nothing is lost.
    for (const sub of [...channel.subs]) sub.take(item);
    if (gap) core.emit('gap', gap);
  }

  /** The same of a pattern, which has places instead of a cursor. A tab is told them as they are. */
  function takeOfMany(channel, item) {
    const { gap, isEnd, cursor, at, places = isEnd ? cursor : undefined } = item;
    channel.cursor = places ?? (at ? placed(channel.cursor, at) : channel.cursor);
    core.useful();
    for (const sub of [...channel.subs]) sub.take(item);
    if (gap) core.emit('gap', gap);
  }

  /** Fetches what a change is of, as who starts from a cursor of his own does not have it. What comes meanwhile waits. */
  async function fetchValues(channel, first) {
    const held = channel.held = [first];
    const { topic, values } = channel;
    const isKnown = (key = '') => typeof values.get(key)?.data === 'string';
    let failures = 0;
    for (let since = 'latest'; since && channels.get(topic) === channel && !core.isClosed;) {
      try {
        const { items, cursors, isAll } = await core.poll([{ ...wordsOf(channel), topic, since }]);
        for (const { key = '', op, data, cursor } of items) if (op === 'put' && !isKnown(key)) values.set(key, { cursor, data });
        since = isAll || !isNewer(first.cursor, cursors[0]) ? undefined : cursors[0];
        failures = 0;
      } catch (error) {
        if (isRefusal(error)) break; // The subscription is told that, too.
        await sleep(patience(error, spread(core.pause(failures += 1))), core.signal);
      }
    }
    channel.held = undefined;
    // A key that is nowhere has been deleted meanwhile, and that is told next.
    if (!isKnown(first.key)) channel.cursor = held.shift().cursor;
    if (!isKnown(first.key) && first.key === undefined) core.fault(new CorecastError('a change of what is not known is left out', { topic }));
    held.forEach(take);
  }

  /** Gives a subscription to a topic that is read already the past it wants. What comes meanwhile waits. */
  async function catchUp(channel, sub, start) {
    const held = [];
    let isTable = false;
    const goal = channel.cursor; // What comes behind it is held.
    const meets = (cursor) => [goal, held[0]?.cursor].some((known) => known && !isNewer(known, cursor));
    const { take: takeNow } = sub;
    sub.take = (item) => held.push(item);
    let failures = 0;
    for (let since = start; since && channel.subs.has(sub) && !core.isClosed;) {
      try {
        const { items, cursors, isAll } = await core.poll([{ ...wordsOf(channel), topic: sub.topic, since }]);
        items.forEach(takeNow);
        isTable ||= items.some(({ key }) => key !== undefined); // Its newest are many.
        // An answer may be a part. The last meets what is held, or is empty, which on a busy topic none ever is.
        const isDone = isTable || channel.isOfMany ? isAll || (isTable && meets(cursors[0])) : start === 'latest' || meets(cursors[0]);
        since = items.length && !isDone ? cursors[0] : undefined;
        failures = 0;
      } catch (error) {
        if (isRefusal(error)) {
          refuse(channel, error);
          break;
        }
        await sleep(patience(error, spread(core.pause(failures += 1))), core.signal);
      }
    }
    sub.take = takeNow;
    takeNow({ isEnd: true, cursor: sub.cursor ?? goal });
    held.forEach(takeNow);
  }

  function subscribe(topic, options, onMessage) {
    if (typeof options === 'function') return subscribe(topic, {}, options);
    checkTopic(topic, true);
    checkOptions(options, 'subscribe');
    if (typeof onMessage !== 'function') {
      throw new TypeError('subscribe(topic, options, onMessage) needs a function that hears the messages; `for await` over messages(topic) does without');
    }
    checkFunctions(options ?? {}, 'onGap', 'onSnapshotEnd', 'onStart', 'onError');
    if (core.isClosed) throw new CorecastError('the client is closed');
    const { fields, where, onGap, onSnapshotEnd, onStart, onError } = options ?? {};
    const since = String(options?.since ?? 'latest');
    if (!isCursor(since) && !/^(latest|live|earliest|-\d{1,9})$/.test(since)) throw new TypeError(`not a start: ${since}`);
    const view = { fields: Array.isArray(fields) ? fields.join() : fields, where };
    for (const name of VIEW) if (!['undefined', 'string'].includes(typeof view[name])) throw new TypeError(`${name} is no text: ${String(view[name])}`);
    const manner = { delta: Boolean(options?.delta), conflate: Boolean(options?.conflate) };
    for (const name of MANNER.slice(2)) {
      const number = options?.[name] ?? 0;
      if (!(number >= 0) || number % 1) throw new TypeError(`${name} is not a whole number: ${number}`);
      manner[name] = Math.min(number, NUMBER_MAX);
    }
    const known = channels.get(topic);
    if (!shows(topic, view)) return core.beside(topic, view).subscribe(topic, options, onMessage);
    const isOfMany = isPattern(topic);
    const seen = new Map(); // of a pattern: topic -> cursor
    /** Says whether a message or a gap of a pattern is news. */
    const isNews = ({ topic: its, cursor }) => {
      if (its === topic) return true; // It is about all of them.
      if (!isNewer(cursor, seen.get(its))) return false;
      if (seen.size >= SEEN_MAX) seen.clear();
      return seen.set(its, cursor);
    };
    let isToldEnd = false; // Of what there was when it began, or behind the last gap.
    const sub = {
      topic,
      cursor: isCursor(since) ? since : undefined,
      manner,
      onStart,
      onError,
      take(item) {
        const { cursor, gap, isEnd } = item;
        if (core.isClosed || !channel.subs.has(sub)) return;
        if (isEnd ? isToldEnd : isOfMany ? !isNews(item) : !item.isAnew && !isNewer(cursor, sub.cursor)) return;
        if (isOfMany) sub.cursor = channel.cursor;
        else if (!isEnd) sub.cursor = cursor;
        if (isEnd || (gap && gap.reason !== 'conflated')) isToldEnd = isEnd;
        try {
          if (isEnd) onSnapshotEnd?.(cursor);
          else if (gap) onGap?.(gap);
          else onMessage(item, sub);
        } catch (error) {
          core.fault(error);
        }
      },
      unsubscribe() {
        if (!channel.subs.delete(sub)) return;
        if (!channel.subs.size) channels.delete(topic);
        else if (!agree(channel)) return;
        core.link?.change(channel);
        if (!channels.size) core.idle();
      },
    };
    const channel = known ?? { topic, ...view, since, cursor: sub.cursor, subs: new Set(), values: new Map(), isOfMany };
    channel.subs.add(sub);
    channels.set(topic, channel);
    if (agree(channel) || !known || known.refused) core.link?.change(channel);
    if (known && isLive(since)) {
      sub.cursor = channel.cursor;
      if (sub.cursor) onStart?.(sub.cursor);
    }
    if (known && (isLive(since) || since === channel.cursor)) queueMicrotask(() => sub.take({ isEnd: true, cursor: sub.cursor }));
    else if (known) catchUp(channel, sub, since);
    return sub;
  }

  /** The messages of a topic as an async iterator. A full queue unsubscribes, and goes on from its end when it is half empty. */
  function messages(topic, options) {
    checkOptions(options, 'messages');
    let since = options?.since;
    let sub;
    let queue;
    const read = () => {
      sub = subscribe(topic, { ...options, since }, (message, self) => {
        since = self.cursor;
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

  /** The values of a topic by their keys, or of a pattern by their topics, as they are: what the newest of each says, over all connections and gaps. */
  function table(topic, options) {
    checkOptions(options, 'table');
    const rows = new Map();
    let stale = new Set(); // keys that were there before a gap, until they come again
    const hears = { change: new Set(), ready: new Set() };
    const tell = (type, ...words) => {
      for (const listener of [...hears[type]]) {
        try {
          listener(...words);
        } catch (error) {
          core.fault(error);
        }
      }
    };
    const drop = (key) => {
      const old = rows.get(key);
      if (rows.delete(key)) tell('change', key, undefined, old);
    };
    const isOfMany = isPattern(topic);
    const take = ({ topic: its, key = isOfMany ? its : undefined, op, data }) => {
      if (op === 'delete') return (key === undefined ? [...rows.keys()] : [key]).forEach(drop);
      let value = data;
      try {
        if (typeof data === 'string') value = JSON.parse(data);
      } catch {
        // It is text, then.
      }
      const name = key ?? ''; // of a topic that is one record
      const old = rows.get(name);
      stale.delete(name);
      rows.set(name, value);
      return tell('change', name, value, old);
    };
    const sub = subscribe(topic, {
      ...options,
      onGap(gap) {
        if (gap.reason !== 'conflated' && !isOfMany) {
          stale = new Set(rows.keys());
          self.isReady = false;
        }
        options?.onGap?.(gap);
      },
      onSnapshotEnd(cursor) {
        stale.forEach(drop);
        stale.clear();
        self.isReady = true;
        tell('ready');
        options?.onSnapshotEnd?.(cursor);
      },
    }, take);
    const self = {
      topic,
      isReady: false,
      get size() {
        return rows.size;
      },
      forEach: (then) => rows.forEach((value, key) => then(value, key, self)),
      on: (type, listener) => listen(hears, type, listener),
      close: () => sub.unsubscribe(),
    };
    for (const name of ['get', 'has', 'keys', 'values', 'entries', Symbol.iterator]) self[name] = (key) => rows[name](key);
    return self;
  }

  return { channels, shows, moveTo, take, accept, refuse, subscribe, messages, table };
}

// ---- Publishing: what waits for a connection, in its order.

function newOutbox(core) {
  const waiting = []; // { topic, data, event, key, op, resolve, reject, at, by, n, isSent }, by `at`; `by` and `n` once it is numbered
  const producers = new Map(); // topic -> who numbers: { topic, name, last, heard, open, isOver }; open: its numbers without an answer
  const closing = new Set(); // of these, whose number was refused for good and who has others without an answer
  let newest = 0; // message
  let isHeld = false; // The engine wants it so, for a moment.
  let unanswered = 0;
  let isPosting = false;
  let failures = 0; // of requests, in a row
  let bytesMax = BATCH_BYTES_MAX; // of a batch
  let linesMax = QUEUE_MAX; // fewer after a batch that was refused
  let plan = []; // how many lines the next batches have: they set a wrong one apart

  function publish(topic, data, options) {
    checkTopic(topic);
    checkOptions(options, 'publish');
    const event = options?.event;
    if (event !== undefined && (typeof event !== 'string' || !/^[\x21-\x7e]{1,64}$/.test(event))) throw new TypeError(`not an event name: ${String(event)}`);
    const { key, op } = options ?? {};
    const length = typeof key === 'string' ? utf8.encode(key).length : 0;
    if (key !== undefined && (!length || length > 255 || /[\p{Cc}\p{Surrogate}]/u.test(key))) throw new TypeError(`not a key: ${JSON.stringify(key)}`);
    if (![undefined, 'put', 'merge', 'delete'].includes(op)) throw new TypeError(`not an op: ${String(op)}; there are put, merge, delete`);
    // As JSON, these would be `{}`, and nobody would know.
    const [late] = [globalThis.Blob, globalThis.Response, Promise].filter((Late) => Late && data instanceof Late);
    if (late) throw new TypeError(`not to be published: a ${late.name}; wait for what is in it first`);
    let payload = data;
    if (data instanceof ArrayBuffer) payload = new Uint8Array(data);
    else if (ArrayBuffer.isView(data)) payload = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    else if (typeof data !== 'string') payload = JSON.stringify(data);
    if (payload === undefined && op === 'delete') payload = '';
    if (payload === undefined) throw new TypeError('nothing to publish');
    if (typeof payload === 'string') payload = wellFormed(payload);
    if (core.isClosed) return Promise.reject(new CorecastError('the client is closed'));
    if (unanswered >= QUEUE_MAX) return Promise.reject(new CorecastError('too many publications wait'));
    unanswered += 1;
    const { producer, n } = options ?? {}; // of a tab that follows
    const by = producer && n ? { topic, name: producer, open: new Set(), isGiven: true } : undefined;
    return new Promise((resolve, reject) => {
      waiting.push({ topic, data: payload, event, key, op, resolve, reject, at: newest += 1, by, n: by && n });
      flush();
    }).then((cursor) => {
      core.useful();
      return cursor;
    }).finally(() => {
      unanswered -= 1;
    });
  }

  /** Gives a message its number, if this client numbers what it publishes. A number is one message's for ever: it may be on its way somewhere. */
  function number(message) {
    message.sentAt ??= Date.now();
    const { topic, by } = message;
    const { producer } = core.options;
    if (by || !producer) return;
    if (!producers.has(topic)) producers.set(topic, { topic, name: newName(producer === true ? '' : `${producer}-`), last: 0, heard: 0, open: new Set() });
    message.by = producers.get(topic);
    message.n = message.by.last += 1;
    message.by.open.add(message.n);
  }

  /** Says whether a message may leave: not before those that were numbered under another name. */
  const mayGo = ({ topic, by }) => by || !closing.size || ![...closing].some((other) => other.topic === topic);

  /** A number is needed no more. */
  function settle({ by, n }) {
    if (by?.open.delete(n) && !by.open.size) closing.delete(by);
  }

  /** Nothing behind a number that will never come is published under this name: what follows takes another one. */
  function close(by) {
    by.isOver = true;
    if (producers.get(by.topic) === by) producers.delete(by.topic);
    if (by.open.size) closing.add(by);
  }

  function done(message, cursor) {
    const { by, n } = message;
    if (by) by.heard = Math.max(by.heard ?? 0, n);
    settle(message);
    message.resolve(cursor ?? null);
  }

  /** Gives up what was sent so long ago, by who was never answered, that the engine may have forgotten both: it would be taken for new. */
  function giveUpStale() {
    for (const message of waiting.filter(({ by, isSent, sentAt }) => by?.heard === 0 && isSent && Date.now() - sentAt > KNOWN_MS)) {
      waiting.splice(waiting.indexOf(message), 1);
      message.by.heard = Infinity;
      close(message.by);
      settle(message);
      fail(message, new CorecastError('it was sent too long ago to be sent again'));
    }
  }

  /** Puts a message back into its place. */
  function putBack(message) {
    const behind = waiting.findIndex(({ at }) => at > message.at);
    waiting.splice(behind < 0 ? waiting.length : behind, 0, message);
    return true;
  }

  /** Sends a message again that was not taken, if it has a number: then it is known whether it was published. Says so. */
  function goesAgain(message, error) {
    const { by, n } = message;
    if (!by || core.isClosed) return false;
    const { status, code, expected } = error;
    if (code === 'out-of-order' && !by.isGiven) {
      if (by.open.has(expected)) return putBack(message); // The one that is missing goes before it.
      // Either that was refused for good, and this one is not published; or the engine has forgotten who we are.
      const isForgotten = by.heard >= expected;
      close(by);
      settle(message);
      return !(isForgotten && message.isSent) && putBack(Object.assign(message, { by: undefined, n: undefined, isSent: false, sentAt: undefined }));
    }
    // Who has as many keys as he may have is told so until some are deleted: no time mends it.
    const isOver = status === 507 || (code === 'full' && error.message.startsWith('the topic has as many keys'));
    const isLost = error.isSent || (status === undefined && code === undefined) || (status >= 500 && status !== 503);
    if (!isOver && (isLost || isFull(error) || PASSES.includes(code))) {
      message.isSent ||= isLost;
      return putBack(message);
    }
    if (!by.isGiven) close(by);
    settle(message);
    return false;
  }

  /** Tells a publisher that its message was refused; one that left before on another connection may have been published all the same. */
  const fail = (message, error) => message.reject(message.by && message.isSent ? new CorecastError(error.message, { ...error, isSent: true }) : error);

  /** Sends nothing for a moment. */
  function hold(ms) {
    if (isHeld) return;
    isHeld = true;
    sleep(ms, core.signal).then(() => {
      isHeld = false;
      flush();
    });
  }

  function send(link, message) {
    number(message);
    link.publish(message).then((cursor) => done(message, cursor), (error) => {
      if (!goesAgain(message, error)) fail(message, error);
      else if (!error.isSent) hold(PASSES.includes(error.code) ? spread(error.retryMs ?? 1000) : 0);
      flush();
    });
  }

  /** Hands what waits to the link: one by one where a connection keeps their order, else as batches. */
  function flush() {
    giveUpStale();
    const { link } = core;
    if (!waiting.length || !link?.isUp || link.signal.aborted || link.isStarting || isPosting || isHeld) return;
    if (!link.publish) post();
    else for (let at; link.isOpen() && (at = waiting.findIndex(mayGo)) >= 0;) send(link, ...waiting.splice(at, 1)); // Else its end is on its way, and what it were given would be lost.
  }

  /** Takes what the next request carries off the queue. */
  function gather() {
    const batch = Object.assign([], { lines: [], bytes: 0 });
    const most = plan.shift() ?? linesMax;
    for (let at; batch.length < most && (at = waiting.findIndex(mayGo)) >= 0;) {
      number(waiting[at]);
      const { topic, data, event, key, op, by, n } = waiting[at];
      const isText = typeof data === 'string';
      const line = JSON.stringify({ topic, data: isText ? data : toBase64(data), event, key, op, encoding: isText ? undefined : 'base64', producer: by?.name, n });
      const bytes = utf8.encode(line).length + 1;
      if (batch.length && batch.bytes + bytes > bytesMax) break;
      batch.bytes += bytes;
      batch.lines.push(line);
      batch.push(...waiting.splice(at, 1));
    }
    return batch;
  }

  /** Publishes over HTTP, one request at a time to keep the order; what gathers meanwhile is the next batch. */
  async function post() {
    isPosting = true;
    await undefined; // What is published in the same breath goes together.
    if (core.isClosed) return; // All were refused.
    const { link } = core;
    if (!link?.isUp || link.signal.aborted || !waiting.some(mayGo)) { // It has ended meanwhile; the next one begins anew.
      isPosting = false;
      return;
    }
    const batch = gather();
    const [{ topic, data, event, key, op, by, n }, second] = batch;
    const headers = {};
    if (event) headers['Corecast-Event'] = event;
    if (key) headers['Corecast-Message-Key'] = encodeURIComponent(key);
    if (op) headers['Corecast-Op'] = op;
    if (by) Object.assign(headers, { 'Corecast-Producer': by.name, 'Corecast-Number': `${n}` });
    try {
      // Of one alone, the engine tells the cursor.
      const answer = await (second
        ? core.ask('topics', { method: 'POST', body: batch.lines.join('\n'), headers: { 'Content-Type': 'application/x-ndjson' } })
        : core.ask(`topics/${encodeURIComponent(topic)}`, { method: 'POST', body: data, headers }));
      const { cursor = null } = await answer.json();
      for (const message of batch) done(message, cursor);
      linesMax = Math.min(2 * linesMax, QUEUE_MAX);
      failures = 0;
    } catch (error) {
      const { status, published, retryMs, message } = error;
      if (second && (status === 413 || status === 400)) {
        // Nothing was published. In parts it is, and whose message is wrong hears it when that goes alone.
        batch.forEach(putBack);
        const wrong = Number(/^line ([1-9]\d*):/.exec(message)?.[1]);
        if (wrong <= batch.length) plan = [wrong - 1, 1].filter(Boolean);
        else if (status === 413) bytesMax = batch.bytes / 2;
        linesMax = Math.ceil(batch.length / 2);
      } else if (second && status === 409) {
        plan = batch.map(() => 1); // Each is told alone what became of it.
        batch.forEach(putBack);
      } else if (retryMs && !published && !core.isClosed) {
        batch.forEach(putBack);
        await sleep(spread(retryMs), core.signal);
      } else if (isUnsent(error) && !core.isClosed) {
        batch.forEach(putBack);
        link.fail(error);
      } else {
        if (!(status < 500 || status === 503 || status === 507) || published) error.isSent = true;
        const again = batch.filter((each) => goesAgain(each, error) || fail(each, error));
        if (again.length && status !== undefined) await sleep(spread(retryMs ?? core.pause(failures += 1)), core.signal);
        if (status === undefined) link.fail(error); // It is not there any more: what follows waits until it is.
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
      link.why ??= typeof why === 'string' ? new CorecastError(why, facts) : why;
      stop.abort();
      resolve(link.why);
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
    if (ms && !signal.aborted) timer = setTimeout(typeof then === 'string' ? () => link.fail(then) : then, Math.min(ms, TIMER_MS_MAX));
  };
}

/**
 * The line protocol over a wire: a WebSocket, or another tab. `open` is given a function that hears what the peer says,
 * `hear(verb, ...words)`, and returns `{ send(verb, topic, options, payload), close() }`.
 */
function lineLink(core, name, open) {
  const link = newLink(core, name);
  const { channels, take, moveTo, accept, refuse } = core.reading;
  const { pingMs, openMs } = core.options;
  const within = newTimer(link);
  const asked = new Map(); // token -> [resolve, reject, the channel that it is about]
  let tokens = 0;

  const ask = (verb, topic, options, payload, channel) => new Promise((...ends) => {
    const id = String((tokens += 1));
    asked.set(id, [...ends, channel]);
    wire.send(verb, topic, { ...options, id }, payload);
  });
  const answered = (id, end, value) => {
    asked.get(id)?.[end](value);
    return asked.delete(id);
  };
  link.change = (channel, failures = 0) => {
    if (!link.isUp || link.signal.aborted) return; // All are subscribed when it is up.
    const { topic } = channel;
    const isWanted = () => channels.get(topic) === channel;
    if (!isWanted()) {
      // The engine knows nothing of what it refused, the tab that leads does.
      if (channel.refused !== link || name === 'tab') ask('UNSUB', topic).catch(() => {});
      const next = [...channels.values()].find(({ refused, why }) => refused === link && why === 'too-many');
      if (next) link.change(next); // There is room for one.
      return;
    }
    const since = startOf(channel);
    ask('SUB', topic, { since, ...wordsOf(channel) }, undefined, channel).then((head) => {
      // The head is where a subscription stands that wants nothing older, or finds nothing older.
      if (!channel.cursor && (isLive(since) || isNowhere(head))) moveTo(channel, head);
    }, async (error) => {
      if (error.isSent) return;
      if (channel.accepted !== link) Object.assign(channel, { refused: link, why: error.code });
      refuse(channel, error);
      if (!['full', 'rate'].includes(error.code) || name === 'tab') return; // The tab that leads asks again.
      await sleep(spread(Math.max(error.retryMs ?? 0, Math.min(REFUSED_MS, 1000 * 2 ** failures))), link.signal);
      if (isWanted()) link.change(channel, failures + 1);
    });
  };
  link.isOpen = () => wire.isOpen();
  link.publish = ({ topic, data, event, key, op, by, n }) => ask('PUB', topic, { event, key, op, producer: by?.name, n }, data);
  link.tune = (bandwidth) => ask('SET', undefined, { bandwidth: `${bandwidth}` });
  link.stat = () => {
    const id = String((tokens += 1));
    const late = () => answered(id, 1, new CorecastError('the engine does not say how the connection does', { code: 'unavailable' }));
    const timer = setTimeout(late, openMs);
    return new Promise((...ends) => {
      asked.set(id, ends);
      wire.send('STAT', id);
    }).finally(() => clearTimeout(timer));
  };
  const read = {
    HI() {
      link.up();
      channels.forEach((channel) => link.change(channel));
    },
    // What is still on its way when a subscription ends is not of the next one to its topic, which begins at its OK.
    MSG: (item) => (name === 'tab' || channels.get(item.of ?? item.topic)?.accepted === link) && take(item),
    GAP: (gap) => read.MSG(decode({ gap })),
    EOS: (topic, cursor) => read.MSG({ topic, cursor, isEnd: true }),
    STAT: (id, facts) => answered(id, 0, facts),
    OK(id, cursor) {
      const channel = asked.get(id)?.[2];
      if (channel) accept(channel, link);
      if (channel?.isOfMany) moveTo(channel, cursor); // Messages, which may be here already, name parts of these places.
      answered(id, 0, cursor);
    },
    ERR(id, code, ...words) {
      const { text, retryMs } = parted(words.join(' '));
      const expected = code === 'out-of-order' ? parseInt(text, 10) : undefined;
      const error = new CorecastError(text, typeof code === 'string' ? { code, retryMs, expected } : code); // A tab says all it knows.
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
    const error = new CorecastError('the connection ended before the answer', { isSent: true, code: link.why.code });
    for (const [, reject] of asked.values()) reject(error);
  });
  return link;
}

/** What the engine says of a connection. */
const statOf = (words) => Object.fromEntries(Object.entries(words).map(([name, value]) => [name, Number(value)]));

/** A WebSocket: a message is a line of words and perhaps a payload. */
const webSocketWire = (core) => (link, hear, within) => {
  const url = core.url('ws');
  url.protocol = url.protocol.replace('http', 'ws');
  if (core.options.bandwidth) url.searchParams.set('bandwidth', core.options.bandwidth);
  const ws = new core.options.WebSocket(url.href, core.token ? ['corecast.v1', `bearer.${core.token}`] : 'corecast.v1');
  ws.binaryType = 'arraybuffer';
  ws.onopen = () => within(core.options.silenceMs, 'connected, but the engine is silent');
  ws.onmessage = ({ data }) => {
    const isText = typeof data === 'string';
    // An ArrayBuffer, as was asked for, or what a stand-in makes of bytes: a view, a list of them.
    const bytes = isText ? data : Array.isArray(data) ? join(data) : new Uint8Array(data);
    const end = bytes.indexOf(isText ? '\n' : 10);
    const head = end < 0 ? bytes : bytes.slice(0, end);
    const [verb, ...words] = (isText ? head : new TextDecoder().decode(head)).split(' ');
    const [name, cursor, ...rest] = words;
    const said = (list) => Object.fromEntries(list.map((word) => [word.replace(/=.*/s, ''), word.replace(/^[^=]*=?/, '')]));
    if (verb === 'STAT') return hear(verb, name, statOf(said(words.slice(1))));
    if (!['MSG', 'GAP', 'EOS'].includes(verb)) return hear(verb, ...words);
    const topic = decodeURIComponent(name);
    if (verb === 'EOS') return hear(verb, topic, cursor);
    if (verb === 'GAP') {
      const { of, at } = said(rest.slice(3));
      return hear(verb, { topic, from: cursor, to: rest[0], count: Number(rest[1]), reason: rest[2], of: of && decodeURIComponent(of), at });
    }
    const { event, key, op = 'put', of, at } = said(rest);
    const decoded = (word) => word && decodeURIComponent(word);
    return hear(verb, { topic, cursor, event, key: decoded(key), op, data: bytes.slice(end + 1), of: decoded(of), at });
  };
  ws.onerror = () => {}; // A close follows, and says no less.
  ws.onclose = ({ code, reason }) => {
    const { text, retryMs } = parted(reason);
    const isAssumed = code === 1013 && retryMs === undefined || undefined;
    link.fail(text || `the WebSocket closed with ${code}`, { code, retryMs: isAssumed ? 1000 : retryMs, isAssumed });
  };
  const send = (verb, topic, options, payload) => {
    const escaped = (text) => text?.replace(/[% ]/g, encodeURIComponent);
    const words = Object.entries(options ?? {}).map(([name, value]) => {
      const said = [...VIEW, 'key'].includes(name) ? escaped(value) : value;
      return said && (said === true ? name : `${name}=${said}`);
    });
    const head = [verb, escaped(topic), ...words].filter(Boolean).join(' ');
    if (payload instanceof Uint8Array) ws.send(join([utf8.encode(`${head}\n`), payload]));
    else ws.send(payload === undefined ? head : `${head}\n${payload}`);
  };
  return { send, close: () => ws.close(), isOpen: () => ws.readyState === 1 };
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
function groups(channels, charsMax = QUERY_CHARS_MAX) {
  const all = [];
  for (const channel of channels) {
    const chars = encodeURIComponent(channel.topic).length + Math.max(40, channel.cursor?.length ?? 0); // with its cursor
    const words = `${new URLSearchParams(wordsOf(channel))}`;
    const isRoomIn = (each) => each.length < TOPICS_MAX && !(channel.isOfMany && each.filter(({ isOfMany }) => isOfMany).length >= PATTERNS_MAX);
    let group = all.find((each) => each.words === words && isRoomIn(each) && each.chars + chars < charsMax);
    if (!group) all.push(group = Object.assign([], { words, chars: words.length }));
    group.push(channel);
    group.chars += chars;
  }
  return all;
}

/**
 * One GET per group of topics, for as long as it lasts; begun anew, from the cursors, whenever the topics change. What is new is
 * polled first, while the others go on: each topic has a cursor then, and no interruption makes a hole.
 */
function httpLink(core, name) {
  const link = newLink(core, name);
  const { options } = core;
  const { channels, take, moveTo, accept, refuse } = core.reading;
  const [later, again] = [newTimer(link), newTimer(link)];
  const [firstMs] = options.backoffMs;
  let charsMax; // of a request, once one was too long for somebody
  let refusal; // the last one of a topic
  let turns = 0;
  let isStale = true; // There are topics, or options, that no request has yet.
  let planned = Promise.resolve(); // One plan is made after another.
  let round = new AbortController(); // of the requests under way

  /** Takes what comes for a group; what comes for a subscription that has ended is not of the next one to its topic. */
  function hearing(group) {
    const asked = new Map(group.map((channel) => [channel.topic, channel]));
    return (item) => channels.get(item.of ?? item.topic) === asked.get(item.of ?? item.topic) && take(item);
  }

  async function stream(group, signal, within) {
    within(options.openMs, 'the stream does not open');
    const answer = await core.ask(core.query(name, group), { signal });
    for (const channel of group) accept(channel, link);
    const started = Date.now();
    const hear = hearing(group);
    within(options.silenceMs, 'headers came, but nothing behind them');
    const onBytes = () => {
      within(options.idleMs, 'the stream is silent');
      link.up();
    };
    let refused; // why the stream ends, if the engine says so
    for await (const line of lines(answer.body, onBytes)) {
      const object = name === 'sse' ? /^data: (.*)/s.exec(line)?.[1] : line; // The data of an event says everything.
      if (!object) continue;
      const item = JSON.parse(object);
      // All but refusals have a topic; an event stream tells one without its wrapping, too.
      const why = item.refused ?? (item.name !== undefined && item.topic === undefined ? item : undefined);
      if (!why) hear(decode(item));
      else core.emit('refused', refused = { name: why.name, ...parted(why.text) });
    }
    within(0);
    // Streams end now and then, on purpose. One that ends at once is a fault.
    const { name: code, text = 'the stream ended at once', retryMs } = refused ?? {};
    if (Date.now() - started < 500) throw new CorecastError(text, { code, retryMs });
    await sleep(retryMs ? spread(retryMs) : Math.random() * firstMs, signal);
  }

  /** Asks once for what is new; says how many items came. */
  async function poll(group, signal, transport, wait) {
    const { items, cursors, isAll } = await core.poll(group, { transport, wait, signal });
    const hear = hearing(group);
    items.forEach(hear);
    group.forEach((channel, i) => moveTo(channel, cursors[i]));
    // A stream that follows says itself where the end is.
    if (isAll && name.endsWith('poll')) for (const { topic, cursor } of group) hear({ topic, cursor, isEnd: true });
    return items.length;
  }

  async function polls(group, signal, within) {
    const waitS = name === 'long-poll' && link.isUp ? options.waitS : 0; // The first shows that it works.
    const started = Date.now();
    within(options.openMs + waitS * 1000, 'the poll is not answered');
    const count = await poll(group, signal, name, `${waitS}`);
    within(0);
    link.up();
    for (const channel of group) accept(channel, link);
    // A long poll that comes back empty-handed at once was cut short by somebody between us.
    const isIdle = !count && (name === 'poll' || (waitS && Date.now() - started < 1000));
    if (isIdle) await sleep(options.pollMs * (0.75 + Math.random() / 2), signal);
  }

  /** Goes on without a topic; asks for it again later, unless the request was wrong. */
  function leaveOut(channel, error) {
    refusal = error;
    Object.assign(channel, { accepted: undefined, refused: link, isWrong: error.status === 400 && error.code });
    refuse(channel, error);
    again(spread(Math.max(REFUSED_MS, error.retryMs ?? 0)), askAgain);
  }

  /** Asks once for what is new. If that is refused, asks in halves, and leaves out whoever is to blame; says whether somebody was. */
  async function sift(group, signal) {
    const within = newTimer(link, signal);
    within(options.openMs, 'the poll is not answered');
    const error = await poll(group, signal).catch((why) => why);
    within(0);
    if (!(error instanceof Error)) return false;
    if (!isRefusal(error)) throw error;
    if (group.length === 1) return leaveOut(group[0], error) ?? true;
    const half = group.length >> 1;
    const first = sift(group.slice(0, half), signal);
    if (group.length > AT_ONCE) await first;
    return (await Promise.all([first, sift(group.slice(half), signal)])).includes(true);
  }

  /** Asks for one of those left out, each in its turn. If that is not refused any more, all of them are welcome. */
  async function askAgain() {
    const out = [...channels.values()].filter(({ refused, isWrong }) => refused && !isWrong);
    again(spread(REFUSED_MS), askAgain);
    if (!out.length || await sift([out[(turns += 1) % out.length]], link.signal).catch(() => true)) return;
    for (const channel of out) channel.refused = undefined;
    link.change();
  }

  /** Reads a group until the topics change. */
  async function keep(group, signal) {
    const within = newTimer(link, signal);
    try {
      while (!signal.aborted) await (name === 'stream' || name === 'sse' ? stream : polls)(group, signal, within);
    } catch (error) {
      if (signal.aborted) return;
      within(0);
      const strangers = group.filter(({ accepted }) => accepted !== link);
      if ((error.status === 414 || error.status === 431) && group.length > 1) charsMax = group.chars / 2;
      else if (isFull(error) && link.isUp && strangers.length) for (const channel of strangers) leaveOut(channel, error);
      // Where nobody is to blame, it is the transport that is refused.
      else if (!isRefusal(error) || !(await sift(group, signal).catch(() => false))) return void (signal.aborted || link.fail(error));
      renew();
    }
  }

  /** Asks whether anybody is there. Whoever refuses this is there, too. */
  async function greet() {
    const within = newTimer(link);
    within(options.openMs, 'nobody answers');
    await core.ask('', { method: 'HEAD', signal: link.signal }).catch((error) => {
      if (!isRefusal(error)) link.fail(error);
    });
    within(0);
  }

  async function plan() {
    if (!isStale || link.signal.aborted) return;
    isStale = false;
    const all = () => [...channels.values()].filter(({ refused }) => refused !== link);
    try {
      // Of those that were refused before, one speaks for all: nobody who comes back shall ask for each of a thousand.
      const before = all().filter(({ refused }) => refused);
      const isSo = before.length && await sift([before[Math.floor(Math.random() * before.length)]], link.signal);
      for (const channel of before) channel.refused = isSo ? link : undefined;
      await Promise.all(groups(all().filter(({ cursor }) => !cursor), charsMax).map((group) => sift(group, link.signal)));
    } catch (error) {
      link.fail(error);
      return;
    }
    if (link.signal.aborted) return;
    if (!all().length) {
      if (channels.size && !refusal.code) return void link.fail(refusal); // A proxy's word: somebody between us lets nothing through.
      if (!link.isUp && !channels.size) await greet();
      link.up(); // Nothing to read; publishing works.
    }
    link.isStarting = isStale;
    core.outbox.flush();
    round.abort();
    round = new AbortController();
    for (const group of groups(all().filter(({ cursor }) => cursor), charsMax)) keep(group, round.signal);
  }

  function renew() {
    isStale = true;
    later(GATHER_MS, () => {
      planned = planned.then(plan);
    });
  }

  link.change = (channel) => {
    if (channel?.refused === link && !channel.subs.size) return; // It is not read.
    if (channel) channel.refused = undefined;
    link.isStarting = true; // What is published from now on, the new topic hears.
    renew();
  };
  link.signal.addEventListener('abort', () => round.abort());
  planned = plan();
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
    const refuse = (error) => reply('ERR', options?.id, { ...error }, error.message);
    const drop = () => subs.delete(topic, subs.get(topic)?.unsubscribe());
    const does = {
      HELLO() {
        leave(subs);
        reply(core.link?.isUp ? 'HI' : 'PONG'); // Somebody is here; HI follows when there is a connection.
      },
      PING: () => reply('PONG'),
      SUB() {
        drop();
        const onStart = (cursor) => reply('OK', options.id, cursor);
        const hears = { ...options, onStart, onError: refuse, onGap: (gap) => reply('GAP', { ...gap, of: isPattern(topic) ? topic : undefined }), onSnapshotEnd: (cursor) => reply('EOS', topic, cursor) };
        subs.set(topic, core.reading.subscribe(topic, hears, (message, { cursor }) => reply('MSG', message.of ? { ...message, places: cursor } : message)));
      },
      UNSUB: () => reply('OK', options.id, drop()),
      PUB: () => core.outbox.publish(topic, payload, options).then((cursor) => reply('OK', options.id, cursor), refuse),
      SET: () => core.tune(+options.bandwidth).then(() => reply('OK', options.id), refuse),
      STAT: () => core.stat().then((facts) => reply('STAT', topic, facts), (error) => reply('ERR', topic, { ...error }, error.message)),
    };
    try {
      does[verb]();
    } catch (error) {
      refuse(error); // A tab with another version of this file may ask for what this one does not know.
    }
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
    return { send, close: () => {}, isOpen: () => true };
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

const DEFAULTS = {
  backoffMs: [500, 30_000], openMs: 5000, silenceMs: 2000, idleMs: 90_000, pingMs: 40_000, pollMs: 2000, waitS: 25, transport: 'auto', bandwidth: 0,
};
const OPTIONS = [...Object.keys(DEFAULTS), 'WebSocket', 'fetch', 'locks', 'storage', 'token', 'shared', 'producer'];

/** Reads where the engine is as it was meant: `localhost:8080` is a host, and no scheme `localhost:`. */
function baseOf(url) {
  const text = url === undefined ? '/' : String(url?.href ?? url);
  const page = [globalThis.location?.href, globalThis.origin].find((href) => /^https?:/.test(href)); // A worker of a blob has an origin only.
  const none = (why) => new TypeError(`not the URL of an engine, as http://localhost:8080 is: ${why}`);
  if (!text.trim() || typeof (url?.href ?? url ?? '') !== 'string' || url === null) throw none(JSON.stringify(url));
  const isWhole = /^\s*[a-z][a-z\d+.-]*:\/\//i.test(text);
  // A host with a port, of this machine, with a dot, or where nothing else can be meant; in a page, other words are a path.
  const [, host, port] = /^\s*(\[[\da-f:.]+\]|[^\s/?#:@[\\]+)(:\d+)?\s*(?=$|[/?#])/i.exec(text) ?? [];
  const isHost = !isWhole && host && !/^\.+$/.test(host) && (port || !page || /^localhost$|[.\]]/.test(host));
  const isSafe = page?.startsWith('https:') && !/^(localhost|127\.[\d.]+|\[::1\])$/.test(host);
  if (!page && !isHost && !isWhole && !text.startsWith('//')) {
    throw none(url === undefined ? 'none is given, and there is no page that an engine has served' : JSON.stringify(text));
  }
  let base;
  try {
    base = new URL(isHost ? `${isSafe ? 'https' : 'http'}://${text.trim()}` : text, page ?? 'http://localhost');
  } catch {
    throw none(JSON.stringify(text));
  }
  base.protocol = base.protocol.replace('ws', 'http');
  if (!/^https?:$/.test(base.protocol) || base.port === '0') throw none(JSON.stringify(text));
  if (base.username || base.password) throw none('a name or a password stands in it, which no browser would send; see the option `token`');
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  base.search = base.hash = '';
  return base;
}

/** Connects to the engine at `url`, in a browser by default to the one the page came from. */
export const connect = (url, given) => begin(baseOf(url), given);

function checkBandwidth(bandwidth) {
  if (!(bandwidth >= 0) || bandwidth % 1 || bandwidth > NUMBER_MAX) throw new TypeError(`not whole bytes a second: ${bandwidth}`);
}

/** Makes a client, or one that reads beside another what that cannot: further views of its topics. */
function begin(base, given, parent) {
  checkOptions(given, 'connect');
  const options = { ...DEFAULTS, WebSocket: globalThis.WebSocket, fetch: globalThis.fetch, locks: globalThis.navigator?.locks };
  for (const key in given) {
    if (!OPTIONS.includes(key)) throw new TypeError(`not an option of connect: ${key}`);
    if (given[key] !== undefined) options[key] = given[key];
  }
  const time = (ms) => {
    if (!(ms >= 0)) throw new TypeError(`not a time: ${ms}`);
    return Math.min(Math.ceil(ms), TIMER_MS_MAX);
  };
  for (const key of ['openMs', 'silenceMs', 'idleMs', 'pingMs', 'pollMs', 'waitS']) options[key] = time(options[key]);
  if (!Array.isArray(options.backoffMs)) throw new TypeError('backoffMs is not [first, longest]');
  options.backoffMs = [0, 1].map((i) => time(options.backoffMs[i]));
  options.waitS = Math.min(Math.max(options.waitS, 1), 120); // The engine's limit.
  checkBandwidth(options.bandwidth);
  if (!['undefined', 'string', 'function'].includes(typeof options.token)) throw new TypeError('token is neither text nor a function');
  const { producer = false } = options;
  if (typeof producer !== 'boolean' && !(typeof producer === 'string' && /^[\x21-\x7e]{1,24}$/.test(producer))) {
    throw new TypeError('producer is neither true nor 1 to 24 visible ASCII characters');
  }
  if (options.WebSocket && typeof options.WebSocket !== 'function') throw new TypeError('WebSocket is not a class');
  if (typeof options.fetch !== 'function') throw new TypeError('fetch is not a function');
  const names = [options.transport === 'auto' ? ORDER : options.transport].flat()
    .filter((name) => name !== 'websocket' || options.WebSocket);
  const unknown = names.find((name) => !ORDER.includes(name));
  if (names.some((name) => !ORDER.includes(name))) throw new TypeError(`not a transport: ${String(unknown)}`);
  if (!names.length) throw new TypeError(options.transport.length ? 'there is no WebSocket here: pass one as options.WebSocket' : 'no transport is left');

  const listeners = { gap: new Set(), refused: new Set(), state: new Set(), error: new Set() };
  const end = new AbortController();
  const storageKey = `corecast ${base}`;
  const others = new Set(); // clients for further views, each `[client, reading, place]`
  let place = 0; // among others
  while ([...parent?.others ?? []].some((other) => other[2] === place)) place += 1;
  const core = { options, others, key: parent ? `${storageKey} ${place}` : storageKey, isClosed: false, link: undefined, loops: new Set(), signal: end.signal, wake: () => {} };
  const get = (target, init) => options.fetch.call(globalThis, target, { cache: 'no-store', ...init });
  const online = () => core.wake();
  let at = 0; // the transport that is tried
  let good; // the one that worked last
  let tab;

  core.url = (path) => new URL(path, base);
  const isRenewed = typeof options.token === 'function';
  /** Fetches the token that is shown from now on. */
  core.renew = async () => {
    core.token = isRenewed ? await options.token() : options.token;
  };
  core.ask = async (path, init, isSecond = false) => {
    const headers = core.token ? { ...init?.headers, Authorization: `Bearer ${core.token}` } : init?.headers;
    const answer = await get(core.url(path), { ...init, headers });
    if (answer.ok) return answer;
    const error = await refusal(answer);
    if (error.status !== 401 || !isRenewed || isSecond) throw error;
    await core.renew();
    return core.ask(path, init, true);
  };
  core.query = (transport, channels, wait) => {
    const query = new URLSearchParams(channels.map(({ topic }) => ['topic', topic]));
    const { bandwidth } = options;
    const words = { transport, ...wordsOf(channels[0]), since: channels.map(startOf).join(), wait, bandwidth, enveloped: transport === 'sse' };
    if (transport.endsWith('poll')) words.delta = false; // Each is a beginning.
    for (const key in words) if (words[key]) query.set(key, words[key] === true ? '1' : words[key]);
    return `topics?${query}`;
  };
  core.poll = async (channels, { transport = 'poll', wait, signal } = {}) => {
    const answer = await core.ask(core.query(transport, channels, wait), { signal });
    const text = answer.status === 200 ? await answer.text() : '[]';
    const cursors = answer.headers.get('Corecast-Cursor')?.split(',') ?? [];
    return { items: JSON.parse(text).map(decode), cursors, isAll: text.length < WHOLE_CHARS };
  };
  /** Returns how long to wait after so many failures in a row. */
  core.pause = (failures) => Math.min(options.backoffMs[1], options.backoffMs[0] * 2 ** Math.min(failures - 1, 31));
  core.emit = (type, detail) => {
    if (parent && type !== 'state') return parent.emit(type, detail);
    for (const listener of [...listeners[type]]) {
      try {
        listener(detail);
      } catch (error) {
        console.error(error);
      }
    }
  };
  core.useful = () => {
    if (core.link) core.link.isUseful = true;
  };
  core.fault = parent?.fault ?? ((error) => (listeners.error.size ? core.emit('error', error) : console.error(error)));
  core.idle = () => parent && client.close();
  /** Finds or makes a client that may read a topic in a view. */
  core.beside = parent?.beside ?? ((topic, view) => {
    const [found] = [...others].find(([, reading]) => reading.shows(topic, view)) ?? [];
    if (found) return found;
    if (others.size > VIEWS_MAX - 2) {
      throw new CorecastError(`more than ${VIEWS_MAX} different views of a topic: ask for one that shows what all of them want`, { code: 'too-many' });
    }
    return begin(base, { ...given, bandwidth: options.bandwidth }, core);
  });
  core.tune = async (bandwidth) => {
    options.bandwidth = bandwidth;
    const { link } = core;
    await Promise.all([...[...others].map(([other]) => other.setBandwidth(bandwidth)), link?.isUp && (link.tune ? link.tune(bandwidth) : link.change())]);
  };
  core.stat = async () => {
    if (!core.link?.isUp || !core.link.stat) throw new CorecastError('nobody says how a connection does without a WebSocket', { code: 'unavailable' });
    return core.link.stat();
  };
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
    const [name, then] = storage.getItem(storageKey).split(' ');
    return Date.now() - then < DAY_MS && name; // The network may be a better one tomorrow.
  });
  const remember = (name) => stored((storage) => remembered() === name || storage.setItem(storageKey, `${name} ${Date.now()}`));

  /** Asks whether the engine is there at all, and whether it is full. Without CORS, that there is an answer can be seen. */
  const probe = () => get(base, { method: 'HEAD', mode: 'no-cors', signal: AbortSignal.timeout(options.openMs || TIMER_MS_MAX) }).then(
    (answer) => (isFull(answer) ? refusal(answer) : { isThere: true }),
    () => ({}),
  );

  /** Says it where the engine is there and nothing gets through: of a page of another origin, a browser tells nobody why. */
  function complain({ status, message }) {
    const from = globalThis.origin;
    if (!globalThis.location || !from || from === base.origin || status) return;
    core.fault(new CorecastError(`there is an answer at ${base.origin}, but a page of the origin ${from} may not read it: the engine lists those that may `
      + `in its setting \`origins\` (--origins ${from}) (${message})`, { code: 'forbidden' }));
  }

  function open(name) {
    try {
      if (name === 'tab') return lineLink(core, name, tab.wire);
      return name === 'websocket' ? lineLink(core, name, webSocketWire(core)) : httpLink(core, name);
    } catch (error) {
      // A browser may not even begin: a WebSocket without TLS in a page that has it, a token that is no word.
      const link = newLink(core, name);
      link.fail(error);
      return link;
    }
  }

  async function run() {
    const [firstMs] = options.backoffMs;
    let failures = 0; // in a row
    let wasBrief = false; // The last one came up, and ended for nothing.
    let strikes = 0; // against the transport; three, and it is taken for blocked
    let tried = 0; // transports, since one came up
    at = Math.max(0, names.indexOf(remembered()));
    while (!core.isClosed) {
      const name = tab && !tab.isLeader && !tab.isAlone ? 'tab' : names[at];
      say('connecting', { transport: name });
      if (options.token !== undefined && name !== 'tab') {
        const why = await core.renew().catch((error) => new CorecastError(`no token: ${error?.message ?? error}`, { code: 'unauthorized' }));
        if (core.isClosed) return;
        if (why) {
          const waitMs = spread(core.pause(failures += 1));
          say('waiting', { transport: name, error: why, waitMs });
          await sleep(waitMs, core.signal);
          continue;
        }
      }
      const started = Date.now();
      const link = core.link = open(name);
      const error = await link.done;
      core.link = undefined;
      if (core.isClosed) return;
      if (error.code === POLICY && !isRenewed) {
        // What is over, or was revoked, or is no good, is not shown again and again.
        core.fault(error);
        return client.close();
      }
      tab?.tell('BYE');
      // A link that was of use, or held for a moment, is a success, whatever ended it; one that came up for nothing only begins a new row.
      const heldMs = link.isUp ? Date.now() - started : 0;
      const hasHeld = heldMs > Math.min(5000, 10 * firstMs);
      if (link.isUseful || heldMs > Math.min(1000, 2 * firstMs)) failures = 0;
      else failures = link.isUp && !wasBrief ? 1 : failures + 1;
      wasBrief = link.isUp && failures > 0;
      if (link.isUp) tried = 0;
      let waitMs = failures ? core.pause(failures) * (0.5 + Math.random() / 2) : Math.random() * firstMs;
      let { retryMs, isAssumed } = error;
      if (name === 'tab') {
        if (link.isUp || tab.isLeader) waitMs = 0;
        else tab.isAlone = failures > 2; // The leader is frozen: do without it.
      } else if (names.length > 1 && retryMs === undefined) {
        if (hasHeld) strikes = 0;
        else strikes += link.isUp || name === good ? 1 : 3;
        const engine = strikes < 3 ? {} : await probe();
        ({ retryMs, isAssumed } = engine);
        if (engine.isThere) {
          // It is the transport, then: on to the next, at once for a first round.
          at = (at + 1) % names.length;
          strikes = 0;
          if ((tried += 1) < names.length) waitMs = 0;
          else if (tried === names.length) complain(error);
        }
      } else if (failures === 3 && retryMs === undefined && (await probe()).isThere) complain(error);
      waitMs = patience({ retryMs, isAssumed }, waitMs);
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
    table: core.reading.table,
    publish: core.outbox.publish,
    setBandwidth(bandwidth) {
      checkBandwidth(bandwidth);
      return core.tune(bandwidth);
    },
    stat: core.stat,
    on: (type, listener) => listen(listeners, type, listener),
    close() {
      if (core.isClosed) return;
      core.isClosed = true;
      for (const [other] of others) other.close();
      parent?.others.delete(self);
      end.abort();
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

  const self = [client, core.reading, place];
  parent?.others.add(self);
  globalThis.addEventListener?.('online', online);
  if (options.shared && options.locks && globalThis.BroadcastChannel) tab = newTab(core);
  // A lock that is free is had at once; who does not get it follows.
  Promise.race([tab?.elected, tab && sleep(50)]).then(run);
  return client;
}
