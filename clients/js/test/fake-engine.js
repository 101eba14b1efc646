// A small engine for tests: one process, in memory, every transport of the wire protocol, and faults on demand.
//
// Owns: topics, their numbering and history. Each fault is a field of `faults`, looked at on every request.
import http from 'node:http';
import { WebSocketServer } from 'ws';

const EPOCH = 'feed0001';

export class FakeEngine {
  topics = new Map(); // topic -> { epoch, first, items: [{ seq, event, data, binary }] }
  faults = {};
  /** Topics that nobody may read: topic -> { status, body, code, text }, as HTTP and the line protocol say it. */
  refusals = new Map();
  requests = []; // what was asked, as `METHOD path?query`
  shown = []; // Authorization, or the subprotocols, of each
  batches = []; // the number of lines of each batch
  bodies = []; // of what was published, whether it was refused or not
  producers = new Map(); // `topic producer` -> cursors, the first of number 1
  #journal = []; // of all topics, for patterns, whose places are `~feed0001-<how much of it>`
  #held = [];
  #watchers = new Set();
  #streams = new Set(); // how each is ended
  #sockets = new Set();
  #server = http.createServer((request, answer) => this.#serve(request, answer));
  #ws = new WebSocketServer({ noServer: true, handleProtocols: () => 'corecast.v1' });

  static async start(port = 0) {
    const engine = new FakeEngine();
    engine.#server.on('connection', (socket) => {
      engine.#sockets.add(socket);
      socket.on('close', () => engine.#sockets.delete(socket));
    });
    engine.#server.on('upgrade', (request, socket, head) => engine.#upgrade(request, socket, head));
    await new Promise((resolve) => engine.#server.listen(port, '127.0.0.1', resolve));
    engine.port = engine.#server.address().port;
    engine.url = `http://127.0.0.1:${engine.port}`;
    return engine;
  }

  async stop() {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Lets requests for the topic `faults.held` go on. */
  release() {
    this.faults.held = undefined;
    for (const go of this.#held.splice(0)) go();
  }

  /** Ends every connection without a farewell. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** How many streams stand. */
  get streaming() {
    return this.#streams.size;
  }

  /** How many WebSockets stand. */
  get open() {
    return this.#ws.clients.size;
  }

  /** Ends every stream in order, and says why. */
  refuse(name, text) {
    for (const end of [...this.#streams]) end(JSON.stringify({ name, text }));
  }

  /** Closes every WebSocket, and says why. */
  close(code, reason) {
    for (const ws of this.#ws.clients) ws.close(code, reason);
  }

  /** What is published to a topic under `table/` is the value of a key; `changes` is what a reader of changes is sent instead. */
  publish(topic, data, event, { key, op, changes } = {}) {
    const found = this.#topic(topic, true);
    const seq = found.next++;
    const isTable = topic.startsWith('table/');
    if (isTable) found.items = key === undefined && op === 'delete' ? [] : found.items.filter((item) => item.key !== key);
    found.items.push({ topic, cursor: `${found.epoch}-${seq}`, seq, event, data, key, op, changes, at: `0.${this.#journal.length + 1}` });
    this.#journal.push(found.items.at(-1));
    if (found.items.length > 64 && !isTable) found.items.shift();
    for (const watcher of [...this.#watchers]) watcher();
    return `${found.epoch}-${seq}`;
  }

  /** Publishes a numbered message once, and in its order; says its cursor, whether it is a repeat, or which number is next. */
  #once(topic, data, event, producer, n, more) {
    if (!producer) return { cursor: this.publish(topic, data, event, more) };
    const key = `${topic} ${producer}`;
    const cursors = this.producers.get(key) ?? [];
    if (n <= cursors.length) return { cursor: cursors[n - 1], repeated: true };
    if (n > cursors.length + 1) return { expected: cursors.length + 1 };
    this.producers.set(key, cursors);
    cursors.push(this.publish(topic, data, event, more));
    return { cursor: cursors.at(-1) };
  }

  /** Says whether the answer to a publication gets lost, with its connection; or the publication, too. */
  #loses(which) {
    const { losing } = this.faults;
    return losing?.(which);
  }

  /** Forgets all but the newest `n` messages of a topic. */
  forget(topic, n) {
    const found = this.#topic(topic, true);
    found.items.splice(0, found.items.length - n);
  }

  /** Forgets what was deleted from a table: whoever was away gets everything. */
  forgetDeletions(topic) {
    const found = this.#topic(topic);
    found.items = found.items.filter(({ op }) => op !== 'delete');
    found.forgotten = found.next - 1;
  }

  #topic(topic, create) {
    if (create && !this.topics.has(topic)) this.topics.set(topic, { epoch: EPOCH, next: 1, items: [] });
    return this.topics.get(topic) ?? { epoch: '00000000', next: 1, items: [] };
  }

  /** What follows `since`: a gap perhaps, messages, and the cursor to go on from. */
  #after(topic, since) {
    if (/[+#]/.test(topic)) {
      const matches = new RegExp(`^${topic.replace('+', '[^/]+').replace('/#', '(/.*)?')}$`);
      const from = since.startsWith('~') ? Number(since.split('-')[1]) : undefined;
      const newest = () => [...this.topics.keys()].flatMap((name) => this.topics.get(name).items.slice(-1));
      const items = since === 'live' ? [] : from === undefined ? newest() : this.#journal.slice(from);
      return { items: items.filter((item) => matches.test(item.topic)).map((item) => ({ ...item, of: topic })), next: `~feed0001-${this.#journal.length}` };
    }
    const { epoch, next, items } = this.#topic(topic);
    const head = `${epoch}-${next - 1}`;
    const out = [];
    let wanted = items;
    const { forgotten } = this.#topic(topic);
    if (topic.startsWith('table/') && !/^(live|-\d+)$/.test(since)) {
      const from = /^(latest|earliest)$/.test(since) || !since.startsWith(epoch) ? 0 : Number(since.split('-')[1]);
      if (from && from < forgotten) out.push({ gap: { topic, from: since, to: `${epoch}-0`, count: 0, reason: 'expired' } });
      const first = from < forgotten ? 0 : from;
      out.push(...items.filter((item) => item.seq > first && (first || item.op !== 'delete')));
      return { items: out, next: head };
    }
    if (since === 'latest') wanted = items.slice(-1);
    else if (since === 'live') wanted = [];
    else if (since.startsWith('-')) wanted = items.slice(Number(since) || items.length);
    else if (since !== 'earliest') {
      const [theirs, seq] = since.split('-');
      const from = theirs === epoch ? Number(seq) : 0;
      wanted = items.filter((item) => item.seq > from);
      const first = wanted[0]?.seq ?? next;
      const count = first - 1 - from;
      if (theirs !== epoch && epoch !== '00000000') {
        out.push({ gap: { topic, from: since, to: `${epoch}-${first - 1}`, count, reason: 'epoch' } });
      } else if (count > 0) out.push({ gap: { topic, from: since, to: `${epoch}-${first - 1}`, count, reason: 'expired' } });
    }
    out.push(...wanted);
    return { items: out, next: head };
  }

  #object(item) {
    if (item.gap) return item;
    if (item.end) return { snapshot_end: { topic: item.topic, cursor: item.end } };
    const { topic, cursor, event, data, key, op, of } = item;
    const at = of && item.at;
    if (typeof data === 'string') return { topic, cursor, event, key, op, data, of, at };
    return { topic, cursor, event, key, op, of, at, data: Buffer.from(data).toString('base64'), encoding: 'base64' };
  }

  /** Calls `write` with what is new of the topics, now and whenever there is something, until the answer is closed. */
  #follow(answer, name, topics, since, write, delta) {
    let isFirst = true; // Of tables, an end is told.
    const at = topics.map((topic, i) => since[i] ?? since[0]);
    if (this.faults.brief?.includes(name)) setTimeout(() => answer.destroy(), 20);
    const look = () => answer.writableEnded || topics.map((topic, i) => {
      const { items, next } = this.#after(topic, at[i]);
      at[i] = next;
      for (const item of items) {
        const shown = delta && !isFirst && item.changes ? { ...item, op: 'merge', data: item.changes } : item;
        for (let n = this.faults.twice ? 2 : 1; n > 0; n -= 1) write(shown);
      }
      if (isFirst && /^table\/|[+#]/.test(topic)) write({ topic, end: next });
      return false;
    }) && (isFirst = false);
    this.#watchers.add(look);
    answer.on('close', () => this.#watchers.delete(look));
    look();
  }

  async #serve(request, answer) {
    this.shown.push(request.headers.authorization ?? '');
    const url = new URL(request.url, this.url);
    this.requests.push(`${request.method} ${url.pathname}${url.search}`);
    answer.setHeader('Connection', 'close');
    if (request.method === 'HEAD') return answer.writeHead(this.faults.full ? 503 : 200, { 'Retry-After': '1' }).end();
    const body = [];
    for await (const piece of request) body.push(piece);
    if (this.faults.full) {
      if (this.faults.full > 0) this.faults.full -= 1;
      return answer.writeHead(503, { 'Retry-After': this.faults.retryAfter ?? '1' }).end('{"error":"the engine is full"}');
    }
    const inPath = url.pathname.startsWith('/topics/') ? decodeURIComponent(url.pathname.slice(8)) : undefined;
    if (request.method === 'POST') return this.#published(request, answer, inPath, Buffer.concat(body));
    const topics = inPath ? [inPath] : url.searchParams.getAll('topic');
    const transport = url.searchParams.get('transport') ?? 'poll';
    const since = (url.searchParams.get('since') ?? 'latest').split(',');
    const delta = url.searchParams.get('delta') === '1';
    if (topics.includes(this.faults.held)) await new Promise((resolve) => this.#held.push(resolve));
    const [{ status, body: why } = {}] = topics.map((topic) => this.refusals.get(topic)).filter(Boolean);
    if (status) return answer.writeHead(status, { 'Retry-After': '1' }).end(why ?? '{"error":"the topic is refused"}');
    if (topics.includes(this.faults.fullFor) && !transport.endsWith('poll')) {
      return answer.writeHead(503, { 'Retry-After': '1' }).end('{"error":"the engine is full"}');
    }
    if (this.faults.longest < request.url.length) return answer.writeHead(414).end();
    if (this.faults.blocked?.includes(transport)) return answer.writeHead(400).end('{"error":"unknown transport"}');
    if (this.faults.silent?.includes(transport)) return answer.writeHead(200).flushHeaders();
    if (transport === 'sse' && url.searchParams.get('enveloped') === '1') {
      answer.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('retry: 3000\n\n');
      this.#refusable(answer, (why) => `event: corecast-refused\ndata: ${why}\n\n`);
      return this.#follow(answer, transport, topics, since, (item) => answer.write(this.#event(item)), delta);
    }
    if (transport === 'stream') {
      answer.writeHead(200, { 'Content-Type': 'application/x-ndjson' }).write('\n');
      this.#refusable(answer, (why) => `{"refused":${why}}\n`);
      return this.#follow(answer, transport, topics, since, (item) => answer.write(`${JSON.stringify(this.#object(item))}\n`), delta);
    }
    const look = () => {
      const found = topics.map((topic, i) => this.#after(topic, since[i] ?? since[0]));
      const items = found.flatMap(({ items }) => items.map((item) => this.#object(item)));
      if (transport === 'long-poll' && !items.length && url.searchParams.get('wait') !== '0') return;
      this.#watchers.delete(look);
      const cursor = found.map(({ next }) => next).join(',');
      if (!answer.headersSent) answer.writeHead(200, { 'Corecast-Cursor': cursor }).end(JSON.stringify(items));
    };
    this.#watchers.add(look);
    answer.on('close', () => this.#watchers.delete(look));
    return look();
  }

  #refusable(answer, event) {
    const end = (why) => this.#streams.delete(end) && answer.end(event(why));
    this.#streams.add(end);
    answer.on('close', () => this.#streams.delete(end));
    if (this.faults.refuses) end(JSON.stringify(this.faults.refuses));
  }

  /** An event in an envelope: its data is an object that says everything. */
  #event(item) {
    if (item.gap) return `event: corecast-gap\ndata: ${JSON.stringify(item.gap)}\n\n`;
    if (item.end) return `event: corecast-snapshot-end\ndata: ${JSON.stringify(this.#object(item).snapshot_end)}\n\n`;
    const named = item.op === 'delete' || item.op === 'merge' ? `event: corecast-${item.op}\n` : '';
    return `${named}id: ${item.cursor}\ndata: ${JSON.stringify(this.#object(item))}\n\n`;
  }

  #published(request, answer, topic, body) {
    const refuse = (text, status = 400) => answer.writeHead(status).end(JSON.stringify({ error: text }));
    const { refused, messageMax = Infinity, batchMax = 16 * messageMax } = this.faults;
    this.bodies.push(body);
    const { headers } = request;
    if (this.#loses('request')) return request.socket.destroy();
    if (topic) {
      const busy = this.faults.busy?.();
      if (busy) return answer.writeHead(503, { 'Retry-After': '1' }).end('{"error":"the engine is full"}');
      if (topic === refused) return refuse('refused');
      if (body.length > messageMax) return refuse('the payload is too large', 413);
      const isText = Buffer.from(body.toString()).equals(body);
      const { cursor, repeated, expected } = this.#once(
        topic, isText ? body.toString() : new Uint8Array(body), headers['corecast-event'], headers['corecast-producer'], Number(headers['corecast-number']),
        { key: headers['corecast-message-key'] && decodeURIComponent(headers['corecast-message-key']), op: headers['corecast-op'] },
      );
      if (this.#loses('answer')) return request.socket.destroy();
      if (expected) return answer.writeHead(409).end(JSON.stringify({ error: `${expected} is next`, expected }));
      return answer.writeHead(200).end(JSON.stringify({ topic, cursor, repeated }));
    }
    if (body.length > batchMax) return refuse('the body is too large', 413);
    const all = body.toString().split('\n').filter(Boolean).map((line) => JSON.parse(line));
    this.batches.push(all.length);
    for (const [i, { topic: name, data, encoding }] of all.entries()) {
      const { length } = Buffer.from(data, encoding ?? 'utf8');
      if (name === refused || /\p{Surrogate}/u.test(name + data)) return refuse(`line ${i + 1}: refused`);
      if (length > messageMax) return refuse(`line ${i + 1}: the payload is too large`);
    }
    const said = all.map(({ topic: name, data, event, encoding, producer, n, key, op }) => (
      this.#once(name, encoding ? new Uint8Array(Buffer.from(data, 'base64')) : data, event, producer, n, { key, op })));
    if (this.#loses('answer')) return request.socket.destroy();
    const wrong = said.filter(({ expected }) => expected);
    if (wrong.length) return answer.writeHead(409).end(JSON.stringify({ published: all.length - wrong.length, error: 'out of order', expected: wrong[0].expected }));
    return answer.writeHead(200).end(JSON.stringify({ published: all.length }));
  }

  #upgrade(request, socket, head) {
    this.shown.push(request.headers['sec-websocket-protocol'] ?? '');
    this.requests.push('UPGRADE');
    if (this.faults.blocked?.includes('websocket')) return socket.destroy();
    return this.#ws.handleUpgrade(request, socket, head, (ws) => {
      if (this.faults.silent?.includes('websocket')) return;
      ws.send('HI corecast.v1 0123456789abcdef');
      const ends = new Map();
      ws.on('close', () => ends.forEach((end) => end()));
      ws.on('message', (bytes) => {
        const end = bytes.indexOf(10);
        const line = bytes.subarray(0, end < 0 ? bytes.length : end).toString();
        const [verb, name, ...words] = line.split(' ');
        const topic = decodeURIComponent(name ?? '');
        const option = Object.fromEntries(words.map((word) => [word.replace(/=.*/, ''), word.replace(/^[^=]*=?/, '')]));
        this.requests.push(line);
        const { code, text = 'the topic is refused' } = this.refusals.get(topic) ?? {};
        if (code && verb !== 'PUB') return ws.send(`ERR ${option.id ?? '-'} ${code} ${text}`);
        if (verb === 'SUB') {
          ends.get(topic)?.();
          const { epoch, next } = this.#topic(topic);
          ws.send(`OK ${option.id} ${/[+#]/.test(topic) ? this.#after(topic, 'live').next : `${epoch}-${next - 1}`}`);
          const until = { on: (_, end) => ends.set(topic, end), destroy: () => ws.terminate() };
          this.#follow(until, 'websocket', [topic], [option.since ?? 'latest'], (item) => this.#line(ws, item), words.includes('delta'));
        } else if (verb === 'UNSUB') {
          ends.get(topic)?.();
          ws.send(`OK ${option.id}`);
        }
        if (verb === 'PUB') {
          const data = bytes.subarray(end + 1);
          const isText = Buffer.from(data.toString()).equals(data);
          if (this.faults.mute) return;
          if (ws.readyState !== 1 || this.#loses('request')) return ws.terminate();
          const { producer, n, event } = option;
          if (this.faults.busy?.()) return ws.send(`ERR ${option.id} full the engine is full; try again in 1s`);
          if (bytes.length > (this.faults.messageMax ?? Infinity)) return ws.send(`ERR ${option.id} too-large the payload is too large`);
          if (producer) {
            const { cursor, repeated, expected } = this.#once(topic, isText ? data.toString() : new Uint8Array(data), event, producer, Number(n), { key: option.key && decodeURIComponent(option.key), op: option.op });
            if (this.#loses('answer')) return ws.terminate();
            return ws.send(expected ? `ERR ${option.id} out-of-order ${expected} is next` : `OK ${option.id} ${cursor}${repeated ? ' repeated' : ''}`);
          }
          if (topic === this.faults.refused) ws.send(`ERR ${option.id} forbidden refused`);
          else ws.send(`OK ${option.id} ${this.publish(topic, isText ? data.toString() : new Uint8Array(data), option.event, { key: option.key && decodeURIComponent(option.key), op: option.op })}`);
        } else if (verb === 'PING') ws.send('PONG');
        else if (verb === 'SET') ws.send(`OK ${/id=(\S+)/.exec(line)[1]}`);
        else if (verb === 'STAT') ws.send(`STAT ${name} waiting=5000 messages=12 blocked=1 bandwidth=0 later=7`);
      });
    });
  }

  #line(ws, item) {
    if (item.gap) {
      const { topic, from, to, count, reason } = item.gap;
      return ws.send(`GAP ${topic.replaceAll(' ', '%20')} ${from} ${to} ${count} ${reason}`);
    }
    if (item.end) return ws.send(`EOS ${item.topic.replaceAll(' ', '%20')} ${item.end}`);
    const words = [item.event && `event=${item.event}`, item.key && `key=${item.key.replace(/[% ]/g, encodeURIComponent)}`, item.op && `op=${item.op}`, item.of && `of=${item.of} at=${item.at}`];
    const head = `${['MSG', item.topic.replaceAll(' ', '%20'), item.cursor, ...words.filter(Boolean)].join(' ')}\n`;
    return ws.send(typeof item.data === 'string' ? head + item.data : Buffer.concat([Buffer.from(head), item.data]));
  }
}
