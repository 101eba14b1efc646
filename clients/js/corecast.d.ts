/** Where a subscription starts. A cursor: behind it. `-N`: with the newest N messages. */
export type Since = 'latest' | 'live' | 'earliest' | `-${number}` | number | (string & {});

export type Transport = 'websocket' | 'sse' | 'stream' | 'long-poll' | 'poll';

/** One message of a topic. */
export interface Message {
  readonly topic: string;
  /** The pattern that it was read by, if it was one. */
  readonly of?: string;
  /** Names the message; `since: cursor` goes on behind it. Opaque: compare for equality only. */
  readonly cursor: string;
  /** The name it was published with, if any. */
  readonly event?: string;
  /** Of which key of its topic it is the value, if the topic has keys. */
  readonly key?: string;
  /**
   * `put`: `data` is all of it. `merge`: it was told as what changed (`delta`); `data` is all of it, `changes` what changed. `delete`: the
   * key has no value any more; without a key, no key has.
   */
  readonly op: 'put' | 'merge' | 'delete';
  /** Text if the payload is valid UTF-8, whatever it was published as; bytes otherwise. */
  readonly data: string | Uint8Array;
  /** With `op` `merge`: a JSON merge patch (RFC 7396), which is in `data` already. */
  readonly changes?: { readonly [member: string]: unknown };
}

/** Messages that were not delivered. What follows are the messages after `to`. */
export interface Gap {
  readonly topic: string;
  readonly from: string;
  readonly to: string;
  readonly count: number;
  readonly reason: 'overflow' | 'expired' | 'epoch' | 'conflated';
}

/** Why the engine ended a stream (`sse`, `stream`). The client comes back by itself, with its cursors. */
export interface Refused {
  /** What the engine calls it: `draining`, `too-slow`, `full` ... */
  readonly name: string;
  /** The same for people. */
  readonly text: string;
  /** When it wants to be asked again, in milliseconds; the client waits for so long. */
  readonly retryMs?: number;
}

/** What a subscriber wants to see, how often, and where it starts. */
export interface SubscribeOptions {
  /** Default `latest`: the newest message, if there is one, then what comes. */
  since?: Since;
  /** If more than one message waits for this client, only the newest comes. Of the topic: the newest subscription that is left decides. */
  conflate?: boolean;
  /** At most one message in so many whole milliseconds, the newest. Of the topic: the newest subscription that is left decides. */
  every?: number;
  /** Of each record these members only; `a.b` inside of others. A list, or one text with commas. */
  fields?: string | readonly string[];
  /** Only messages that this condition (a message selector of JMS) is true of: `bid > 1.08 AND name LIKE 'EUR%'`. */
  where?: string;
  /** Only what changed travels; the client makes whole values of it. Of the topic, as `conflate` is. */
  delta?: boolean;
  /** All that comes in so many whole milliseconds travels together. Of the topic, as `conflate` is. */
  batch?: number;
  /** At most so many bytes a second. Of the topic, as `conflate` is. */
  rate?: number;
  /** So many messages wait for this client at most. Of the topic, as `conflate` is. */
  queue?: number;
  /** Hears of the gaps of this subscription; all gaps come as the client's `gap` event, too. */
  onGap?: (gap: Gap) => void;
  /**
   * Of a topic with values: all that there was when it began has been handed out. Once, and again behind each gap that is not `conflated`.
   * Of another topic it may never be told.
   */
  onSnapshotEnd?: (cursor: string | undefined) => void;
}

export interface PublishOptions {
  event?: string;
  /** Of which key this is the value. */
  key?: string;
  /** What it does to the value. Default as the rule of the topic says. A `delete` needs no payload: publish `undefined`. */
  op?: 'put' | 'merge' | 'delete';
}

/** The values of a topic by their keys, kept as they are. Values are what JSON says; text and bytes that are no JSON as they are. */
export interface Table<Row = any> extends Iterable<[string, Row]> {
  readonly topic: string;
  readonly size: number;
  /** All that there was is in it; not between a gap and all that follows it. */
  readonly isReady: boolean;
  get(key: string): Row | undefined;
  has(key: string): boolean;
  keys(): IterableIterator<string>;
  values(): IterableIterator<Row>;
  entries(): IterableIterator<[string, Row]>;
  forEach(then: (value: Row, key: string, table: Table<Row>) => void): void;
  /** A value is new, another one (then `old` is what it was), or gone (`undefined`). */
  on(type: 'change', listener: (key: string, value: Row | undefined, old: Row | undefined) => void): () => void;
  on(type: 'ready', listener: () => void): () => void;
  close(): void;
}

/** How the engine sees a connection. An engine may tell more than this one does. */
export interface ConnectionStat {
  /** Bytes that wait for it at the engine, besides what the kernel has. */
  readonly waiting: number;
  /** Messages that wait for it. */
  readonly messages: number;
  /** 1: its socket is full. */
  readonly blocked: number;
  /** Bytes a second that it may take; 0 is no limit. */
  readonly bandwidth: number;
  readonly [name: string]: number;
}

export interface Subscription {
  readonly topic: string;
  /** The last message delivered, if there was one; of a pattern its places, which are a `since`, too. */
  readonly cursor: string | undefined;
  unsubscribe(): void;
}

export interface StateEvent {
  readonly state: 'connecting' | 'open' | 'waiting' | 'closed';
  /** `tab`: another tab of this browser holds the connection; `open` then says that it has one. */
  readonly transport?: Transport | 'tab';
  /** Why the last connection ended. */
  readonly error?: CorecastError;
  /** The pause until the next attempt, in milliseconds. */
  readonly waitMs?: number;
}

/** What went wrong with a connection, a subscription or a publication. */
export class CorecastError extends Error {
  /** HTTP status, if there was one. */
  readonly status?: number;
  /** A code of the line protocol, whatever the transport, if the engine said no; or of a closed WebSocket. */
  readonly code?: string | number;
  /** Of a refused subscription. */
  readonly topic?: string;
  /** When the engine wants to be asked again, in milliseconds; a day at most. */
  readonly retryMs?: number;
  /** Of a publication: it left, and may have been published. */
  readonly isSent?: boolean;
}

/** What stands under a name globally, where this is compiled; without the DOM and the types of Node there may be nothing. */
type Global<Name extends string, Otherwise> = typeof globalThis extends { [Key in Name]: infer Found } ? Found : Otherwise;

/** Times are not negative; what is longer than a timer can be (24 days) is cut. */
export interface ConnectOptions {
  /** One transport, or the ones to choose from, best first. Default `auto`: all, in the order of the type. */
  transport?: 'auto' | Transport | Transport[];
  /**
   * A token to show, or a function that fetches one: it is asked before each connection, and when the engine says that a token is
   * not valid or over. With a token that never changes, a client whose connection ends because of it reports that, and stops.
   */
  token?: string | (() => string | Promise<string>);
  /**
   * Numbers what is published, so that each message is published once and in order, whatever becomes of connections: what was not answered is
   * sent again. The client draws a name of its own; text of 1 to 24 visible ASCII characters stands before it. Default false.
   */
  producer?: boolean | string;
  /** Shares one connection among the tabs of this browser (needs Web Locks and BroadcastChannel). */
  shared?: boolean;
  /** Stand-in for the global one: Node 20 has none; the class of npm `ws` will do. `null`: do without. */
  WebSocket?: unknown;
  /** Stand-in for the global one, for instance to add headers or credentials. */
  fetch?: Global<'fetch', (url: any, init?: any) => Promise<any>>;
  /**
   * First and longest pause before a reconnect: it doubles with every failure in a row, and a random part of up to half of it is
   * taken off. After a connection that was of use, or held for a second, a random part of the first. If the engine says when, that
   * is it. Default [500, 30000].
   */
  backoffMs?: [number, number];
  /** Bytes a second that a connection may take; 0, the default, is no limit. */
  bandwidth?: number;
  /** Pause between polls. Default 2000. */
  pollMs?: number;
  /** How long a long poll waits, in seconds, 1 to 120. Default 25. */
  waitS?: number;
  /** How long a connection may take to open. Default 5000. */
  openMs?: number;
  /** A connection that opened but says nothing for so long is held back by somebody: the next transport. Default 2000. */
  silenceMs?: number;
  /** A stream without even a heartbeat for so long is dead. Default 90000. */
  idleMs?: number;
  /** Silence after which a WebSocket is asked whether it lives. Default 40000. */
  pingMs?: number;
  /** Where the transport that worked is remembered for a day. Default `localStorage`, if there is one. */
  storage?: { getItem(key: string): string | null; setItem(key: string, value: string): void };
  /** Stand-in for `navigator.locks`. */
  locks?: unknown;
}

export interface Client {
  readonly state: StateEvent['state'];
  /** The transport in use while `state` is `open`. */
  readonly transport: Transport | 'tab' | undefined;
  /**
   * Reads a topic, or all topics that match a pattern: `prices/+`, `chat/#`.
   *
   * Another view (`fields`, `where`) of a topic that is read already travels over a connection of its own; eight views of a topic are the most.
   *
   * @throws TypeError at once if an argument makes no sense. What the engine refuses is an `error` event.
   */
  subscribe(topic: string, onMessage: (message: Message, subscription: Subscription) => void): Subscription;
  subscribe(
    topic: string,
    options: SubscribeOptions,
    onMessage: (message: Message, subscription: Subscription) => void,
  ): Subscription;
  /**
   * The messages of a topic; leaving the loop unsubscribes, and the client's end is its end. A loop 4096 messages behind stops
   * reading, and goes on where it stopped when it has caught up: what the engine has forgotten by then is told as a gap.
   */
  messages(topic: string, options?: SubscribeOptions): AsyncIterableIterator<Message>;
  /**
   * The values of a topic with keys, of one record (its key is `''`), or of all topics of a pattern (their names are the keys), kept right over reconnects and gaps.
   *
   * @throws as `subscribe` does.
   */
  table<Row = any>(topic: string, options?: SubscribeOptions): Table<Row>;
  /**
   * Publishes text, bytes, or anything else as JSON. Halves of surrogate pairs become U+FFFD. Waits for a connection if there is none,
   * and for the next one if it has certainly not been sent. Resolves with the cursor, or with null if the message travelled in a batch
   * over HTTP. Rejects with `isSent` if it is not known whether it was published: to try again may publish it twice.
   * With the option `producer` that is so only if the engine has forgotten the client (it was restarted, or was out of reach for long), or the client is closed.
   */
  publish(topic: string, data: unknown, options?: PublishOptions): Promise<string | null>;
  /** Changes how many bytes a second each connection of this client may take from now on; 0 is no limit. */
  setBandwidth(bandwidth: number): Promise<void>;
  /** Over a WebSocket. Rejects where nobody can say. */
  stat(): Promise<ConnectionStat>;
  on(type: 'gap', listener: (gap: Gap) => void): () => void;
  /** In the tab that has the connection. What ends a WebSocket is the `error` of a `state` event. */
  on(type: 'refused', listener: (refused: Refused) => void): () => void;
  on(type: 'state', listener: (event: StateEvent) => void): () => void;
  /** Without a listener, errors go to the console. */
  on(type: 'error', listener: (error: unknown) => void): () => void;
  close(): void;
}

/**
 * Connects to the engine at `url`, which may have a path; in a browser, by default to the root of where the page came from. `localhost:8080`
 * is taken for `http://localhost:8080`. In a page, what begins with `/` or `.`, or is a word, is relative to it.
 *
 * @throws TypeError at once for what can never be the URL of an engine, and for options that make no sense.
 */
export function connect(url?: string | { readonly href: string }, options?: ConnectOptions): Client;
