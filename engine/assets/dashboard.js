// The dashboard of the admin listener: what the engine does, second by second.
//
// Owns: what the page shows, and the newest five minutes of figures. Touches: the topics `$sys/...`, and the topic that is looked at, through the client; lists
// and single things through the admin listener's paths. Never: publishes; puts what others wrote (topics, payloads, peers) into the page as anything but
// text; asks another origin. All its URLs are relative: it may stand under a path of a proxy.

const root = new URL('.', location.href).href.replace(/[?#].*/, '');
/** Seconds that charts show; a figure comes each second. */
const POINTS_MAX = 300;
/** Without figures for so long, those that are shown may be wrong. */
const STALE_MS = 3000;
/** How often lists are asked for: the engine walks its connections and topics for them. */
const LIST_MS = 2000;
const EVENTS_MAX = 100;
const MESSAGES_MAX = 20;
/** Of a payload, so much is shown, in characters. */
const PAYLOAD_MAX = 1024;
/** More messages in a second than anybody can read: from there on the newest of each SAMPLE_MS is enough, until it is calm again. */
const READABLE_MAX = 50;
const SAMPLE_MS = 200;
/** For so long at least: what is known of the rate is older than what has just come. */
const SAMPLED_MS_MIN = 2500;
/** A limit of which so much is used is near. */
const NEAR = 0.8;
/** More shards than a table shows well. */
const SHARD_ROWS_MAX = 16;
const NONE = '–';

const { min, max, round, floor } = Math;
const find = (id, within = document) => within.querySelector(within === document ? `#${id}` : `[data-id="${id}"]`);
const sleep = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener('abort', () => resolve(clearTimeout(timer)));
});

// ---- Figures as text. The same in every language: no commas, and units that say what they are.

/** Three digits that matter. */
const three = (value) => value.toFixed(value >= 99.95 || value === 0 ? 0 : value >= 9.995 ? 1 : 2);
function scaled(value, step, units) {
  if (!Number.isFinite(value)) return NONE;
  let unit = 0;
  for (; value >= step * 0.9995 && unit < units.length - 1; unit += 1) value /= step;
  return `${unit === 0 && Number.isInteger(value) ? value : three(value)}${units[unit]}`;
}
const bytes = (value) => (value < 1023.5 ? `${round(value)} B` : scaled(value, 1024, [' B', ' KiB', ' MiB', ' GiB', ' TiB']));
const many = (value) => scaled(value, 1000, ['', ' k', ' M', ' G', ' T']);
const perSecond = (value) => (Number.isFinite(value) ? `${many(value)}/s` : NONE);
const bytesPerSecond = (value) => (Number.isFinite(value) ? `${bytes(value)}/s` : NONE);
const micros = (value) => scaled(value, 1000, [' µs', ' ms', ' s']);
const percent = (share) => (Number.isFinite(share) ? `${three(share * 100)} %` : NONE);
/** A whole number, in groups of three. */
const whole = (value) => (Number.isFinite(value) ? String(round(value)).replace(/\B(?=(\d{3})+$)/g, '\u202f') : NONE);
function span(seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  const s = floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${floor(s / 3600)} h ${floor((s % 3600) / 60)} min`;
  return `${floor(s / 86_400)} d ${floor((s % 86_400) / 3600)} h`;
}
function clock(ms) {
  const at = new Date(ms);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, '0')).join(':');
}

// ---- The page. What stays the same is not touched, so that focus and selections stay.

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, traits = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(traits)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function drawBar(element, share, isNear = false) {
  element.classList.add('bar');
  element.classList.toggle('near', isNear);
  element.style.setProperty('--share', `${round(1000 * min(1, max(0, share || 0))) / 10}%`);
}

/** Shows a value in a cell: text, or `{ text, href, share, isNear }`, where a share is a bar under its row. */
function put(cell, value) {
  const { text = '', href, share, isNear } = typeof value === 'object' ? value : { text: value };
  let link = cell.querySelector('a');
  if (href && !link) cell.replaceChildren(link = make('a'));
  if (!href && link) link.remove();
  set(href ? link : cell, text);
  if (href && link.getAttribute('href') !== href) link.setAttribute('href', href);
  if (share !== undefined) drawBar(cell.parentElement, share, isNear);
  cell.classList.toggle('near', isNear === true);
  if (cell.title !== text && text.length > 10) cell.title = text; // Where it is cut off, all of it can be seen.
}

/** Keeps rows that are links where they are while somebody points at them or is there with the keyboard: a link must not change under a finger. */
function steady(body, rows) {
  const isHeld = body.matches(':hover') || body.contains(document.activeElement);
  if (!isHeld || !rows[0]?.[0].href) return rows;
  const places = new Map([...body.rows].map((line, n) => [line.querySelector('a')?.getAttribute('href'), n]));
  const kept = [];
  const others = [];
  for (const row of rows) {
    const n = places.get(row[0].href);
    if (n < rows.length && !(n in kept)) kept[n] = row;
    else others.push(row);
  }
  return rows.map((_, n) => kept[n] ?? others.shift());
}

/** Brings a table to these rows. Columns look as their heads say. */
function fill(table, rows) {
  const [body] = table.tBodies;
  const heads = [...table.tHead.rows[0].cells];
  const wanted = rows.length ? steady(body, rows) : [[table.dataset.empty ?? '']];
  while (body.rows.length > wanted.length) body.deleteRow(-1);
  wanted.forEach((row, n) => {
    const line = body.rows[n] ?? body.insertRow();
    if (line.cells.length !== row.length) {
      line.className = '';
      line.replaceChildren(...(rows.length ? heads.map((head) => {
        const isRow = 'row' in head.dataset;
        return make(isRow ? 'th' : 'td', { className: head.className, ...(isRow && { scope: 'row' }) });
      }) : [make('td', { className: 'empty', colSpan: heads.length })]));
    }
    row.forEach((value, column) => put(line.cells[column], value));
  });
}

/** Brings a list of terms to these: `[term, text]`. */
function facts(list, rows) {
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach(([term, value], n) => {
    const row = list.children[n] ?? list.appendChild(make('div', {}, make('dt'), make('dd')));
    set(row.firstChild, term);
    put(row.lastChild, value);
  });
}

const topicLink = (topic) => ({ text: topic, href: `#/topic/${encodeURIComponent(topic).replaceAll('%2F', '/')}` });
const slotLink = ({ shard, slot }, text) => ({ text: text ?? `${shard}/${slot}`, href: `#/connection/${shard}/${slot}` });

// ---- Charts.

const charts = new Set();
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
/** Returns the places of values that no line goes through, as nothing is known before and behind them. */
const alone = (values) => values.flatMap((value, n) => (value !== null && (values[n - 1] ?? values[n + 1] ?? null) === null ? [n] : []));
const DASHES = [undefined, [7, 4], [2, 3]];

/**
 * Makes a chart in `place`, of series `[key, label]` of columns. Drawings cannot be read aloud: what it shows now stands below it as text, and its
 * extremes are its name.
 */
function newChart(place, title, series, format, { isLog = false, isBytes = false } = {}) {
  const box = make('div', { className: 'chart', role: 'img', 'aria-label': title });
  const legend = make('ul', { className: 'legend' });
  const values = series.map(([, label], n) => {
    const value = make('b');
    const mark = make('span', { className: `mark dash-${n}` });
    mark.style.setProperty('--colour', `var(--series-${n + 1})`);
    legend.append(make('li', {}, mark, `${label} `, value));
    return value;
  });
  place.append(box, legend);
  let plot;
  let columns = { at: [] };
  const chart = {};

  const say = () => {
    const at = plot.cursor.idx ?? columns.at.length - 1;
    series.forEach(([key], n) => set(values[n], format(columns[key]?.[at] ?? undefined)));
  };
  const linear = (_, low, high) => [0, high > 0 ? high * 1.12 : 1];
  const decadesOf = (_, splits) => splits.map((at) => (at && Math.log10(at) % 1 === 0 ? at : null));
  const decades = (_, low, high) => {
    const from = floor(Math.log10(max(1, low ?? 10)));
    return [10 ** from, 10 ** max(from + 1, Math.ceil(Math.log10(max(1, high ?? 1000))))];
  };
  const data = () => [columns.at, ...series.map(([key]) => (isLog ? columns[key]?.map((value) => (value === null ? null : max(1, value))) : columns[key]) ?? [])];
  chart.make = () => {
    plot?.destroy();
    const axis = { stroke: colour('--soft'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: '12px system-ui, sans-serif' };
    plot = new globalThis.uPlot({
      width: max(120, box.clientWidth),
      height: box.clientHeight,
      legend: { show: false },
      padding: [8, 20, 0, 0],
      cursor: { drag: { x: false, y: false }, y: false },
      scales: {
        x: { time: false, range: (_, low, high) => [(high ?? 0) - POINTS_MAX, high ?? 0] },
        y: isLog ? { distr: 3, log: 10, range: decades } : { range: linear },
      },
      axes: [
        { ...axis, size: 26, incrs: [60, 120, 300], values: (_, splits) => splits.map((at) => clock(at * 1000).slice(0, 5)) },
        {
          ...axis,
          size: 72,
          space: 34,
          ...(isBytes && { incrs: Array.from({ length: 50 }, (_, power) => 2 ** power) }),
          // A logarithmic axis has lines at its decades only, or they would stand in each other.
          ...(isLog && { filter: decadesOf, grid: { ...axis.grid, filter: decadesOf } }),
          values: (_, splits) => splits.map((at) => (at === null ? '' : format(at).replace(/(\.\d*?)0+(?=\D)/, '$1').replace(/\.(?=\D)/, ''))),
        },
      ],
      series: [{}, ...series.map(([, label], n) => ({
        label,
        stroke: colour(`--series-${n + 1}`),
        width: 1.75,
        dash: DASHES[n],
        points: { show: true, size: 4, fill: colour(`--series-${n + 1}`), filter: (drawn, which) => alone(drawn.data[which]) },
      }))],
      hooks: { setCursor: [say] },
    }, data(), box);
  };
  chart.draw = (newest) => {
    columns = newest;
    plot.setData(data());
    say();
    const [[key, label]] = series;
    const known = (columns[key] ?? []).filter(Number.isFinite);
    const extremes = known.length ? `${label}: now ${format(known.at(-1))}, least ${format(min(...known))}, most ${format(max(...known))}` : 'nothing yet';
    box.setAttribute('aria-label', `${title}, of the last five minutes. ${extremes}`);
  };
  const sized = new ResizeObserver(() => plot.setSize({ width: max(120, box.clientWidth), height: box.clientHeight }));
  chart.close = () => {
    charts.delete(chart);
    sized.disconnect();
    plot.destroy();
  };
  chart.make();
  sized.observe(box);
  charts.add(chart);
  return chart;
}
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => charts.forEach((chart) => chart.make()));

// ---- What the engine says of itself.

/** The newest message of `$sys/stats`, and what was made of it and of the one before. */
const now = { stats: undefined, rates: {}, shards: undefined, shardRates: undefined };
const columns = { at: [], published: [], delivered: [], received: [], sent: [], p50: [], p99: [], p999: [] };
let events = []; // the newest first: { at, name, count }

function append(into, row) {
  for (const key in into) {
    into[key].push(row[key] ?? null);
    if (into[key].length > POINTS_MAX) into[key].shift();
  }
}

/** Reads a message that has to be JSON; what is not is no reason to stop. */
function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    return undefined;
  }
}

function hearStats({ data }) {
  const stats = parse(data);
  if (!stats?.total) return;
  const before = now.stats;
  const seconds = (stats.at - before?.at) / 1000;
  const isNew = before && stats.uptime_seconds < before.uptime_seconds;
  now.rates = {};
  // Counters of another process begin anew: what lies between is unknown, and certainly not negative.
  if (seconds > 0 && !isNew) {
    for (const name in stats.total) {
      const more = stats.total[name] - before.total[name];
      if (more >= 0) now.rates[name] = more / seconds;
    }
  }
  if (isNew) note([{ at: stats.at - 1000 * stats.uptime_seconds, name: 'started', count: 1 }]);
  // What the engine tells of itself is nobody's message.
  if ('news' in now.rates) now.rates.published = max(0, now.rates.published - now.rates.news);
  const { published, delivered, bytes_received: received, bytes_sent: sent } = now.rates;
  const { p50, p99, p999 } = stats.latency_us ?? {};
  if (seconds < 0) for (const key in columns) columns[key].length = 0; // Its clock was set back.
  if (before && (isNew || seconds > STALE_MS / 1000)) append(columns, { at: before.at / 1000 + 0.5 }); // The line ends where nothing is known.
  if (!before || seconds) append(columns, { at: stats.at / 1000, published, delivered, received, sent, p50, p99, p999 });
  now.stats = stats;
  heard();
}

function hearShards({ data }) {
  const shards = parse(data);
  if (!shards?.shards) return;
  const before = now.shards;
  const seconds = (shards.at - before?.at) / 1000;
  const at = Object.fromEntries(shards.names.map((name, n) => [name, n]));
  now.shardRates = shards.shards.map((row, n) => (name) => {
    const more = row[at[name]] - before?.shards[n]?.[at[name]];
    return seconds > 0 && more >= 0 ? more / seconds : undefined;
  });
  now.shards = { ...shards, of: (n, name) => shards.shards[n][at[name]] };
}

function note(rows) {
  events = [...rows, ...events].sort((a, b) => b.at - a.at).slice(0, EVENTS_MAX);
}

function hearEvents({ data }) {
  const told = parse(data);
  note(Object.entries(told?.events ?? {}).map(([name, count]) => ({ at: told.at, name, count })));
}

/** What events mean, in plain words; others are shown by their names. */
const EVENTS = {
  started: 'The engine was started again: its counters begin anew',
  refused_full: 'Refused: no memory, no topic or no slot was left',
  refused_too_fast: 'Refused: a peer asked for more in a time than it may',
  refused_too_many: 'Refused: a peer had as many subscriptions or connections as it may have',
  refused_too_large: 'Refused: a payload was too large',
  refused_too_slow: 'Closed: subscribers fell behind, and lag = close',
  refused_lost: 'Closed: raw WebSockets had lost messages',
  refused_forbidden: 'Refused: a peer, or the page it is, may not do that',
  refused_unauthorized: 'Refused: a peer has not said who it is',
  refused_invalid_token: 'Refused: a token or key was not valid',
  refused_unavailable: 'Refused: nobody could say in time whether the peer may',
  refused_expired: 'Refused: a permission has expired or was revoked',
  refused_moved: 'Refused: it is served elsewhere',
  refused_overloaded: 'Refused: turns took too long for newcomers',
  refused_changed: 'Refused: a condition of a request did not hold',
  refused_bad_record: 'Refused: no record, and its topic takes nothing else',
  refused_no_key: 'Refused: a message without its key',
  refused_not_keyed: 'Refused: a key, and its topic has none',
  refused_too_many_rows: 'Refused: a topic has as many keys as it may',
  refused_too_many_views: 'Refused: too many different views of a topic',
  refused_draining: 'Refused or closed: the engine is shutting down',
  refused_disconnected: 'Closed: an operator disconnected them',
  limited_connections: 'Refused: an address, a subject or all have as many connections as may be',
  limited_connects: 'Refused: too many connections came in a second',
  limited_subscriptions: 'Refused: an address, a subject or all have as many subscriptions as may be',
  limited_publishes: 'Refused: too many publications, or too many bytes, in a second',
  limited_topics: 'Refused: too many new topics in a second',
  overloads: 'Newcomers had to wait: turns took too long',
  tls_broken: 'Connections broke in their TLS handshake or PROXY header',
  violations: 'Closed: peers broke a rule of their protocol',
  gaps: 'Gaps were told: subscribers have lost messages',
  dropped: 'Messages that subscribers lost, and were told about',
  behind: 'A ring between shards was full: messages were asked for again',
  parked: 'Connections had to wait for room in a ring',
  log_lines_dropped: 'Log lines were dropped: stderr is not read fast enough',
  log_lines_left_out: 'Log lines were left out: one place logged too many',
};

// ---- The connection: the client for topics, requests for lists.

const link = { client: undefined, state: 'loading', heardAt: undefined, openedAt: undefined, error: undefined, token: stored('read') };
let isPaused = false;
let pausedAt;
let asking; // for the token, by whoever was refused first

/** The admin token lives as long as the tab; a browser may forbid even that. */
function stored(what, token) {
  try {
    return what === 'read' ? sessionStorage.getItem('corecast admin token') ?? undefined : sessionStorage.setItem('corecast admin token', token);
  } catch {
    return undefined;
  }
}

/** What may stand in a subprotocol, which is where a page shows its token to a WebSocket (RFC 9110 section 5.6.2). */
const SHOWABLE = /^[\w!#$%&'*+.^`|~-]+$/;

function askToken() {
  asking ??= new Promise((resolve) => {
    const dialog = find('token');
    const [form] = dialog.querySelectorAll('form');
    set(find('token-wrong'), link.token === undefined ? '' : 'The engine does not take this token. Perhaps it was changed.');
    form.reset();
    dialog.oncancel = (event) => event.preventDefault(); // There is nothing to see without it.
    form.onsubmit = (event) => {
      const token = form.elements.token.value.trim();
      if (!SHOWABLE.test(token)) {
        event.preventDefault();
        set(find('token-wrong'), 'A browser can show a token to a WebSocket only if it is of letters, digits and - . _ ~ + alone. Let the file have such a one, too.');
        return;
      }
      link.token = token;
      stored('write', token);
      resolve();
    };
    dialog.showModal();
  }).then(() => {
    asking = undefined;
    start();
  });
  return asking;
}

/** Asks the admin listener, and returns what it says as JSON. */
async function ask(path, init = {}) {
  const shown = link.token;
  const headers = { ...init.headers, ...(shown !== undefined && { Authorization: `Bearer ${shown}` }) };
  let answer;
  try {
    answer = await fetch(new URL(path, root), { cache: 'no-store', ...init, headers, signal: AbortSignal.timeout(10_000) });
  } catch (error) {
    throw new Error(`the engine does not answer (${error.message})`);
  }
  if (answer.status === 401) {
    if (shown === link.token) await askToken();
    return ask(path, init);
  }
  const text = await answer.text();
  if (!answer.ok) {
    const why = String(parse(text)?.reason ?? text).trim().slice(0, PAYLOAD_MAX);
    throw Object.assign(new Error(why || `status ${answer.status}`), { status: answer.status });
  }
  return JSON.parse(text);
}
const query = (path, words) => `${path}?${new URLSearchParams(Object.entries(words).filter(([, value]) => value !== ''))}`;

function start() {
  link.client?.close();
  const { token } = link;
  const client = link.client = connect(root, {
    transport: 'websocket', backoffMs: [250, 2000], pingMs: 5000, ...(token !== undefined && { token: () => token }),
  });
  client.on('state', ({ state, error }) => {
    if (client !== link.client) return;
    link.state = state;
    if (error || state === 'open') link.error = error; // While it tries again, that is why.
    link.openedAt = state === 'open' ? Date.now() : undefined;
    // A browser says of a refused WebSocket only that it is closed; a request knows whether a token is missing.
    if (state === 'waiting') ask('stats').catch(() => {});
    showState();
  });
  client.on('error', (error) => {
    link.error = error;
    page?.refused?.(error);
  });
  client.on('gap', () => {}); // A figure that nobody has seen is not missed.
  client.subscribe('$sys/stats', { since: '-1' }, hearStats);
  client.subscribe('$sys/shards', { since: '-1' }, hearShards);
  client.subscribe('$sys/events', { since: `-${EVENTS_MAX}` }, hearEvents);
  page?.reconnected?.();
}

function heard() {
  link.heardAt = Date.now();
  showState();
  const { version, uptime_seconds: seconds } = now.stats;
  if (isPaused) return;
  set(find('version'), `${version ?? ''}${version ? ', ' : ''}up ${span(seconds)}`);
  page?.draw?.();
}

/** Says, when it changes, how true the figures are. */
function showState() {
  const isOpen = link.state === 'open';
  const isFresh = isOpen && Date.now() - link.heardAt <= STALE_MS;
  const isDraining = now.stats?.ready === false;
  const since = link.heardAt ? ` since ${clock(link.heardAt)}` : '';
  let text = isDraining ? 'live, but shutting down' : 'live';
  if (!isOpen && link.state !== 'loading' && (link.error || link.heardAt)) text = since ? `engine gone${since}; trying again` : `no connection: ${link.error.message}; trying again`;
  else if (!isFresh && link.heardAt) text = `stale: no figures${since}`;
  else if (!isFresh) text = Date.now() - link.openedAt > STALE_MS ? `connected, but no figures come${link.error ? `: ${link.error.message}` : ''}` : 'loading';
  else if (isPaused) text = `paused at ${clock(pausedAt)}`;
  const state = find('state');
  set(state, text);
  state.className = text === 'live' ? 'live' : '';
  document.body.classList.toggle('stale', !isFresh && text !== 'loading');
}
setInterval(showState, 500);

function pause(is) {
  const button = find('pause');
  isPaused = is;
  pausedAt = Date.now();
  button.setAttribute('aria-pressed', isPaused);
  set(button, isPaused ? 'Go on' : 'Pause');
  showState();
  if (!isPaused) page?.draw?.();
}
find('pause').onclick = () => pause(!isPaused);

// ---- Pages. Each builds itself into `main`, and returns what is done each second, and when it is left.

let page;

/**
 * Does `task` now and again while a page is open, one at a time, and shows in `place` what it returns, or what is wrong. It is given a function that says
 * whether nobody wants to see any more what it has found.
 */
function again(signal, ms, place, task) {
  let last = Promise.resolve();
  const once = async () => {
    const wasPaused = isPaused; // Then somebody has asked for it all the same.
    const isOver = () => signal.aborted || (isPaused && !wasPaused);
    const [said, isWrong] = await task(isOver).then((text = '') => [text, false], ({ message }) => [`Not known: ${message}.`, true]);
    if (isOver()) return;
    place.classList.toggle('wrong', isWrong);
    set(place, said);
  };
  const attempt = () => last = last.then(once); // What was asked first is not shown last.
  const goOn = async () => {
    await attempt();
    for (; !signal.aborted; await sleep(ms, signal)) if (!isPaused && !document.hidden) await attempt();
  };
  goOn();
  return attempt;
}

const OWNERS = [
  ['pool_history_bytes', 'histories'], ['pool_log_bytes', 'frame logs'], ['pool_private_bytes', 'queues of connections'],
  ['pool_inbound_bytes', 'arriving messages'], ['table_bytes', 'tables'], ['busy_bytes', 'busy connections'],
  ['scratch_bytes', 'scratch'],
];

/** In the order of a turn. */
const PHASES = ['reap', 'obey', 'hear', 'serve', 'expire', 'ask', 'flush', 'submit', 'settle'];

function showMemory(main, { total, limits = [] }) {
  const owners = OWNERS.filter(([name]) => name in total);
  const sum = owners.reduce((bytesOfAll, [name]) => bytesOfAll + total[name], 0);
  const { used = sum, max: budget = total.pool_bytes_max } = limits.find(({ name }) => name === 'memory') ?? {};
  set(find('memory-sum', main), `${bytes(used)} of ${bytes(budget)} in use, ${percent(used / budget)}. Resident blocks: ${bytes(total.resident_bytes)}.`);
  const stack = find('stack', main);
  if (!stack.children.length) {
    owners.forEach((_, n) => {
      const part = stack.appendChild(make('i'));
      part.style.setProperty('--colour', `var(--series-${n + 1})`);
    });
  }
  owners.forEach(([name], n) => {
    const share = min(1, total[name] / budget);
    stack.children[n].style.width = `${(share * 100).toFixed(2)}%`;
    stack.children[n].hidden = share < 0.0005;
  });
  stack.setAttribute('aria-label', `${percent(used / budget)} of the memory budget in use; by owner in the table below`);
  const table = find('memory', main);
  fill(table, owners.map(([name, label]) => [label, bytes(total[name]), percent(total[name] / budget)]));
  owners.forEach((_, n) => {
    const [head] = table.tBodies[0].rows[n].cells;
    if (head.querySelector('.mark')) return;
    const mark = make('span', { className: 'mark block' });
    mark.style.setProperty('--colour', `var(--series-${n + 1})`);
    head.replaceChildren(mark, make('span', {}, head.textContent));
  });
}

function showLimits(main, limits = []) {
  const rows = limits.filter((limit) => limit.max > 0).map((limit) => ({ ...limit, share: limit.used / limit.max })).sort((a, b) => b.share - a.share);
  const near = rows.filter(({ share }) => share >= NEAR);
  set(find('near', main), near.length ? `Near: ${near.map(({ name, share }) => `${name} at ${percent(share)}`).join(', ')}.` : 'None is near: all are below 80 %.');
  find('near', main).classList.toggle('wrong', near.length > 0);
  fill(find('limits', main), rows.map(({ name, used, max: most, share }) => {
    const as = /memory|bytes/.test(name) ? bytes : whole;
    return [name.replaceAll('_', ' '), as(used), as(most), { text: share >= NEAR ? `near: ${percent(share)}` : percent(share), share, isNear: share >= NEAR }];
  }));
}

function showShards(main) {
  if (!now.shards) return;
  const rows = now.shardRates.map((rate, n) => ({ n, rate, of: (name) => now.shards.of(n, name), busy: rate('turn_us_total') / 1e6 }));
  const known = rows.filter(({ busy }) => busy >= 0).sort((a, b) => b.busy - a.busy);
  const isMany = rows.length > SHARD_ROWS_MAX;
  const said = known.length
    ? `Busiest ${known[0].n} at ${percent(known[0].busy)}, median ${percent(known[known.length >> 1].busy)}, least ${percent(known.at(-1).busy)}.` : '';
  const { overloaded = 0 } = now.stats.total;
  const held = overloaded > 0 ? ` On ${overloaded} newcomers wait, as turns take too long.` : '';
  set(find('shards-sum', main), `${rows.length} ${rows.length === 1 ? 'shard' : 'shards'}. ${said}${held}${isMany ? ` The table has the ${SHARD_ROWS_MAX} busiest.` : ''}`);
  const tiles = find('tiles', main);
  const wanted = isMany ? rows.length : 0;
  while (tiles.children.length > wanted) tiles.lastChild.remove();
  while (tiles.children.length < wanted) tiles.append(make('li'));
  for (let n = 0; n < wanted; n += 1) {
    const { busy } = rows[n];
    set(tiles.children[n], busy >= 0 ? String(round(busy * 100)) : NONE);
    drawBar(tiles.children[n], busy, busy >= NEAR);
    tiles.children[n].title = `shard ${n}: ${percent(busy)} busy`;
  }
  const shown = isMany ? known.slice(0, SHARD_ROWS_MAX) : rows;
  fill(find('shards', main), shown.map(({ n, rate, of, busy }) => [
    String(n), { text: percent(busy), share: busy, isNear: busy >= NEAR }, whole(of('connections')), whole(of('subscriptions')), perSecond(rate('published')),
    perSecond(rate('delivered')), bytesPerSecond(rate('bytes_received')), bytesPerSecond(rate('bytes_sent')), bytes(of('pool_bytes')),
  ]));
}

function overview(main, signal) {
  const shown = [
    newChart(find('published', main), 'Messages published', [['published', 'published']], perSecond),
    newChart(find('delivered', main), 'Messages delivered', [['delivered', 'delivered']], perSecond),
    newChart(find('bytes', main), 'Bytes sent and received', [['sent', 'sent'], ['received', 'received']], bytesPerSecond, { isBytes: true }),
    newChart(find('latency', main), 'Latency, from published to sent', [['p50', 'median'], ['p99', 'p99'], ['p999', 'p99.9']], micros, { isLog: true }),
  ];
  again(signal, LIST_MS, find('hottest-note', main), async (isOver) => {
    const rows = await ask(query('topics', { limit: 8, sort: 'rate' }));
    if (isOver()) return;
    fill(find('hottest', main), rows.map(({ topic, rate, bytes: kept, readers }) => [topicLink(topic), perSecond(rate), bytes(kept), whole(readers)]));
  });
  again(signal, LIST_MS, find('slowest-note', main), async (isOver) => {
    const rows = await ask(query('slow', { limit: 8 }));
    if (isOver()) return;
    fill(find('slowest', main), rows.map((row) => [slotLink(row, row.peer), topicLink(row.topic), whole(row.behind)]));
  });
  const times = [['latency_us', 'published to sent'], ['round_us', 'a round of fan-out'], ['turn_us', 'a turn']];
  return {
    draw() {
      const { stats, rates } = now;
      if (!stats) return;
      const { total, kinds = {}, phases = {} } = stats;
      facts(find('now', main), [
        ['Connections', whole(total.connections)], ['Subscriptions', whole(total.subscriptions)], ['Topics', whole(total.homes)],
        ['Messages in', perSecond(rates.published)], ['Messages out', perSecond(rates.delivered)],
        ['Bytes in', bytesPerSecond(rates.bytes_received)], ['Bytes out', bytesPerSecond(rates.bytes_sent)], ['Latency, p99', micros(stats.latency_us?.p99)],
      ]);
      shown.forEach((chart) => chart.draw(columns));
      showMemory(main, stats);
      showLimits(main, stats.limits);
      const open = Object.entries(kinds).filter(([, count]) => count > 0).sort(([, a], [, b]) => b - a);
      const all = open.reduce((sum, [, count]) => sum + count, 0);
      fill(find('kinds', main), open.map(([kind, count]) => [kind, whole(count), { text: percent(count / all), share: count / all }]));
      fill(find('times', main), times.map(([key, label]) => {
        const { count = 0, p50, p90, p99, p999, max: most } = stats[key] ?? {};
        return [label, whole(count), ...[p50, p90, p99, p999, most].map(micros)];
      }));
      const inTurn = ([a], [b]) => PHASES.indexOf(a) - PHASES.indexOf(b);
      fill(find('phases', main), Object.entries(phases).sort(inTurn).map(([phase, share]) => [phase, { text: percent(share), share }]));
      showShards(main);
      fill(find('events', main), events.map(({ at, name, count }) => [clock(at), whole(count), EVENTS[name] ?? name.replaceAll('_', ' '), name]));
    },
    close: () => shown.forEach((chart) => chart.close()),
  };
}

function topics(main, signal) {
  const form = find('form', main);
  const look = again(signal, LIST_MS, find('note', main), async (isOver) => {
    const sort = form.elements.sort.value;
    const limit = form.elements.limit.value;
    const rows = await ask(query('topics', { limit, sort }));
    if (isOver()) return '';
    fill(find('rows', main), rows.map((row) => [
      topicLink(row.topic), perSecond(row.rate), whole(row.readers), whole(row.messages), bytes(row.bytes), whole(row.head), String(row.shard),
    ]));
    if (rows.length === Number(limit)) return `The first ${limit}; there may be more.`;
    return sort === 'rate' ? `${rows.length} that something was published to lately.` : `${rows.length} in all.`;
  });
  form.onchange = look;
  form.onsubmit = (event) => event.preventDefault();
  const open = find('open', main);
  open.onsubmit = (event) => {
    event.preventDefault();
    location.hash = topicLink(open.elements.topic.value).href;
  };
  return {};
}

/** Shows a payload as text: cut, and what is no text as its first bytes. */
function payloadText(data) {
  if (typeof data === 'string') return data.length > PAYLOAD_MAX ? `${data.slice(0, PAYLOAD_MAX)}… (${whole(data.length)} characters)` : data;
  const first = [...data.subarray(0, 64)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return `${whole(data.length)} bytes, no text: ${first}${data.length > 64 ? ' …' : ''}`;
}

const isCalm = (rate) => rate < READABLE_MAX / 2;

function topic(main, signal, name) {
  set(find('name', main), name);
  const rates = { at: [], rate: [] };
  const chart = newChart(find('rate', main), `Messages published to ${name}`, [['rate', 'published']], perSecond);
  let before;
  let messages = [];
  let reading;
  let recent = []; // when messages came, of the last second
  let sampledAt; // if only a part is read

  const show = () => fill(find('messages', main), messages.map(({ at, cursor, event = '', data }) => [
    clock(at), whole(Number(cursor.split('-')[1])), event, payloadText(data),
  ]));
  let isShown = true;
  /** What comes faster than it can be read is shown at the next frame, once. */
  const later = () => {
    if (!isShown || isPaused) return;
    isShown = false;
    requestAnimationFrame(() => {
      isShown = true;
      if (!signal.aborted && !isPaused) show();
    });
  };
  const read = (options) => {
    reading?.unsubscribe();
    sampledAt = 'every' in options ? Date.now() : undefined;
    recent = [];
    set(find('reading', main), sampledAt
      ? `Too many to read: the newest of each ${SAMPLE_MS / 1000} s is shown, of which the last ${MESSAGES_MAX}.` : `The last ${MESSAGES_MAX}, the newest first.`);
    reading = link.client.subscribe(name, options, (message) => {
      const at = Date.now();
      messages = [{ at, ...message }, ...messages].slice(0, MESSAGES_MAX);
      recent = [...recent.filter((then) => then > at - 1000), at];
      later();
      if (!sampledAt && recent.length > READABLE_MAX) read({ since: 'live', every: SAMPLE_MS });
    });
  };
  const begin = () => {
    messages = [];
    read({ since: `-${MESSAGES_MAX}` });
    show();
  };
  try {
    begin();
  } catch (error) {
    set(find('reading', main), `It cannot be read: ${error.message}.`);
  }
  again(signal, 1000, find('note', main), async (isOver) => {
    let found;
    try {
      found = await ask(query('topic', { topic: name }));
    } catch (error) {
      if (error.status !== 404 || isOver()) throw error;
      before = undefined;
      facts(find('facts', main), []);
      facts(find('terms', main), []);
      return 'The engine does not know this topic now: nobody reads it, and nothing of it is remembered.';
    }
    if (isOver()) return '';
    const at = Date.now() / 1000;
    const more = found.epoch === before?.epoch ? found.head - before.head : undefined;
    const rate = more >= 0 ? more / (at - before.at) : undefined;
    // Of two answers that came in one go after a pause nobody could say how much time lies between what they tell.
    if (!(at - before?.at < 0.5)) {
      append(rates, { at, rate });
      chart.draw(rates);
      before = { at, epoch: found.epoch, head: found.head };
    }
    if (Date.now() - sampledAt > SAMPLED_MS_MIN && isCalm(rate)) read({ since: messages[0]?.cursor ?? 'live' }); // Nothing falls between the two.
    const { shard, epoch, head, first, messages: kept, bytes: keptBytes, rate: lately, readers, readers_by_shard: places = [], terms = {} } = found;
    facts(find('facts', main), [
      ['Readers', whole(readers)], ['Where they are', places.map((place) => `shard ${place.shard}: ${whole(place.readers)}`).join(', ') || NONE],
      ['Messages kept', whole(kept)], ['Bytes kept', bytes(keptBytes)], ['Rate lately', perSecond(lately)], ['Newest number', whole(head)],
      ['Oldest kept', first ? whole(first) : NONE], ['Epoch', epoch], ['Shard of its home', whole(shard)],
    ]);
    facts(find('terms', main), Object.entries(terms).map(([key, { value, rule }]) => [key, `${value}${rule ? `, by the rule ${rule}` : ''}`]));
    return '';
  });
  return {
    draw: later,
    reconnected: begin,
    refused(error) {
      if (error.topic === name) set(find('reading', main), `It cannot be read: ${error.message}.`);
    },
    close() {
      chart.close();
      reading?.unsubscribe();
    },
  };
}

const KINDS = ['http', 'long-poll', 'websocket', 'line', 'echo', 'sse', 'ndjson', 'multipart', 'forever-frame', 'closing'];

function connections(main, signal) {
  const form = find('form', main);
  const { kind, peer, limit } = form.elements;
  const offered = new Set([...KINDS, ...Object.keys(now.stats?.kinds ?? {})]);
  kind.append(...[...offered].map((each) => make('option', {}, each)));
  const look = again(signal, LIST_MS, find('note', main), async (isOver) => {
    const rows = await ask(query('connections', { limit: limit.value, kind: kind.value, peer: peer.value.trim() }));
    if (isOver()) return '';
    fill(find('rows', main), rows.map((row) => [
      slotLink(row), row.peer ?? NONE, row.kind, row.subject ?? '', whole(row.subscriptions), bytes(row.queued_bytes), span(row.heard_seconds_ago),
    ]));
    return rows.length === Number(limit.value) ? `The first ${limit.value}; there may be more.` : `${rows.length} in all.`;
  });
  form.onchange = look;
  form.onsubmit = (event) => {
    event.preventDefault();
    look();
  };
  return {};
}

function connection(main, signal, shard, slot) {
  set(find('name', main), `${shard}/${slot}`);
  const button = find('disconnect', main);
  let found;
  let first; // the generation that was there when the page was opened
  const look = again(signal, LIST_MS, find('note', main), async (isOver) => {
    try {
      found = await ask(query('connection', { shard, slot }));
    } catch (error) {
      if (error.status !== 404 || isOver()) throw error;
      found = undefined;
      button.disabled = true;
      return 'Nobody is connected there now. Slots are used again: another connection may come to have this one.';
    }
    if (isOver()) return '';
    button.disabled = false;
    const { peer, kind, listener, tls, subject, generation, subscriptions, subscribed = [], queued_bytes: queued, heard_seconds_ago: silent } = found;
    facts(find('facts', main), [
      ['Peer', peer], ['Kind', kind], ['Listener', listener ?? NONE], ['TLS', tls ? 'yes' : 'no'], ['Subject', subject ?? 'none'],
      ['Heard', Number.isFinite(silent) ? `${span(silent)} ago` : NONE], ['Queued for it', bytes(queued)], ['Subscriptions', whole(subscriptions)],
      ['Generation', String(generation)],
    ]);
    fill(find('rows', main), subscribed.map((row) => [topicLink(row.topic), whole(row.behind)]));
    first ??= generation;
    if (first !== generation) return 'The connection that was here has ended. This is another one, which has its slot.';
    return subscribed.length < subscriptions ? `Of its subscriptions, ${whole(subscribed.length)} are shown.` : '';
  });
  button.onclick = () => {
    const { peer, kind, generation } = found;
    const dialog = find('ask');
    set(find('ask-text'), `${peer ?? 'This connection'} (${kind}) is told that it was disconnected, and ended. Its client may come back.`);
    dialog.returnValue = '';
    dialog.onclose = async () => {
      if (dialog.returnValue !== 'yes' || signal.aborted) return;
      const done = find('done', main);
      try {
        const body = JSON.stringify({ shard: Number(shard), slot: Number(slot), generation });
        const { ended } = await ask('disconnect', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
        set(done, ended ? 'It was disconnected.' : 'It had ended already.');
      } catch (error) {
        set(done, `It was not disconnected: ${error.message}.`);
      }
      await look();
    };
    dialog.showModal();
  };
  return {};
}

const ROUTES = [
  [/^$/, 'overview', overview, () => 'Overview'],
  [/^topics$/, 'topics', topics, () => 'Topics'],
  [/^topic\/(.+)$/, 'topic', topic, (name) => name],
  [/^connections$/, 'connections', connections, () => 'Connections'],
  [/^connection\/(\d+)\/(\d+)$/, 'connection', connection, (shard, slot) => `Connection ${shard}/${slot}`],
  [/^/, 'nowhere', () => ({}), () => 'No such page'],
];

/** Opens what the address says. What was open before is left: its questions, subscriptions and drawings end, and so does a pause to read it. */
function go() {
  page?.end();
  if (isPaused) pause(false);
  const path = location.hash.replace(/^#\/?/, '');
  const [pattern, template, open, title] = ROUTES.find(([each]) => each.test(path));
  let words = pattern.exec(path).slice(1);
  try {
    words = words.map(decodeURIComponent);
  } catch {
    // A percent sign that is none of an escape stands for itself.
  }
  const isFirst = !page;
  const main = find('main');
  const end = new AbortController();
  main.replaceChildren(find(template).content.cloneNode(true));
  const opened = open(main, end.signal, ...words);
  page = {
    ...opened,
    end() {
      end.abort();
      opened.close?.();
      page.draw = page.reconnected = page.refused = undefined;
    },
  };
  document.title = `${title(...words)} – corecast dashboard`;
  for (const each of document.querySelectorAll('nav a')) {
    const isCurrent = each.hash.slice(2).replace(/s$/, '') === template.replace(/^overview$/, '').replace(/s$/, '');
    if (isCurrent) each.setAttribute('aria-current', each.hash.slice(2) === path ? 'page' : 'true');
    else each.removeAttribute('aria-current');
  }
  if (!isFirst) {
    main.querySelector('h1').focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  page.draw?.();
}

find('skip').onclick = (event) => {
  event.preventDefault(); // What is behind # names a page here.
  find('main').focus();
};

const { connect } = await import('./corecast.js').catch((error) => {
  set(find('state'), 'not running');
  set(find('main'), `The client of this page, ${root}corecast.js, cannot be loaded. (${error.message})`);
  return {};
});
if (connect) {
  // Whoever needs a token is asked for it before anything else fails for the lack of it.
  await ask('stats').catch((error) => {
    link.error = error;
  });
  if (!link.client) start();
  addEventListener('hashchange', go);
  go();
}
