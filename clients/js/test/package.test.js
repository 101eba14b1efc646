// The package as npm makes it: what is in it, that it can be imported, and that its types are right.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { minified } from '../minify.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'corecast-package-'));
after(() => rmSync(folder, { recursive: true }));
const run = (program, words, options) => execFileSync(program, words, { cwd: folder, encoding: 'utf8', ...options });

// Nothing in it is of a browser, nor of Node.
const SAMPLE = `
import { connect, CorecastError, type Client, type ConnectionStat, type Gap, type Message, type Refused, type Subscription, type Table } from 'corecast';
import { connect as minified } from 'corecast/corecast.min.js';

const client: Client = connect('localhost:1', { transport: ['sse', 'poll'], shared: true, backoffMs: [1, 2], waitS: 5 });
const sub: Subscription = client.subscribe('a', { since: -5, conflate: true, every: 100, onGap: (gap: Gap) => gap.count }, (message: Message, self) => {
  const length: number = typeof message.data === 'string' ? message.data.length : message.data.byteLength;
  if (length) self.unsubscribe();
});
client.subscribe('a', ({ cursor }) => cursor.length);
client.subscribe('a', { fields: ['b', 'c.d'], where: 'b > 1', delta: true, batch: 5, rate: 6, queue: 7, onSnapshotEnd: (cursor) => cursor?.length }, ({ key, op, changes }) => op === 'merge' && changes?.[key ?? '']);
const table: Table<{ bid: number }> = client.table<{ bid: number }>('a', { fields: 'bid' });
const offs: Array<() => void> = [table.on('change', (key, value, old) => [key.length, (value?.bid ?? 0) - (old?.bid ?? 0)]), table.on('ready', () => table.isReady)];
for (const [key, { bid }] of table) key.concat(bid.toFixed(), [...table.keys()].join(), offs.length.toFixed(), table.size.toFixed());
client.stat().then(({ waiting, bandwidth }: ConnectionStat) => client.setBandwidth(waiting + bandwidth));
client.publish('a', undefined, { key: 'k', op: 'delete' });
// @ts-expect-error an op that there is not
client.publish('a', '', { op: 'remove' });
const off: () => void = client.on('state', ({ state, waitMs }) => [state === 'waiting', waitMs?.toFixed()]);
client.on('gap', ({ reason }) => reason === 'expired');
client.on('refused', ({ name, text }: Refused) => name === 'draining' && text.length);
client.on('error', (error) => error instanceof CorecastError && error.retryMs);
async function all(): Promise<string | null> {
  for await (const { data, event } of client.messages('a', { since: 'earliest' })) if (data === event) sub.cursor?.length;
  off();
  return client.publish('a', { any: 'thing' }, { event: 'e' });
}
void all;
minified({ href: 'http://127.0.0.1:1' }, { WebSocket: null, token: async () => 'x', storage: { getItem: () => null, setItem() {} } }).close();
// @ts-expect-error a transport that there is not
connect('http://127.0.0.1:1', { transport: 'pigeon' });
// @ts-expect-error an event that there is not
client.on('nonsense', () => {});
// @ts-expect-error nobody hears the messages
client.subscribe('a', { since: 'live' });
// @ts-expect-error fetch is a function
connect('http://127.0.0.1:1', { fetch: 'fetch' });
client.close();
`;

const IN_NODE = `
import { connect } from 'corecast';
connect('http://127.0.0.1:1', { fetch: (url, init) => Promise.resolve({ url, init }) }).close();
`;

const IN_A_PAGE = `
import { connect } from 'corecast';
connect(location, { fetch: (url, init) => fetch(url, { ...init, credentials: 'include' }), storage: sessionStorage }).close();
connect(new URL('wss://h/rt'), { fetch }).close();
// @ts-expect-error this one answers nothing
connect(location, { fetch: () => 5 }).close();
`;

test('npm pack makes a package that holds what it needs and no more, can be imported, and has strict types', { timeout: 60_000 }, () => {
  const [{ filename, files }] = JSON.parse(run('npm', ['pack', root, '--json', '--pack-destination', folder]));
  assert.deepEqual(files.map(({ path }) => path).sort(), ['README.md', 'corecast.d.ts', 'corecast.js', 'corecast.min.js', 'package.json']);
  writeFileSync(join(folder, 'package.json'), '{ "name": "sample", "private": true, "type": "module" }');
  run('npm', ['install', '--silent', '--offline', '--no-audit', join(folder, filename)]);
  for (const path of ['corecast', 'corecast/corecast.min.js']) {
    const names = run('node', ['--input-type=module', '-e', `import * as all from '${path}'; console.log(Object.keys(all).join())`]);
    assert.equal(names.trim(), 'CorecastError,connect');
  }
  // Because of a bug: the types could not be checked without those of the DOM, which Node has not.
  for (const [lib, ...texts] of [['es2022', SAMPLE, IN_NODE], ['es2022,dom', SAMPLE, IN_A_PAGE]]) {
    const files = texts.map((text, n) => [`sample${n}.ts`, text]);
    for (const [name, text] of files) writeFileSync(join(folder, name), text);
    const words = ['--strict', '--noEmit', '--target', 'es2022', '--module', 'nodenext', '--lib', lib, ...files.map(([name]) => name)];
    try {
      run('node', [join(root, 'node_modules/typescript/lib/tsc.js'), ...words]);
    } catch (error) {
      assert.fail(`${lib}: ${error.stdout}`);
    }
  }
});

test('corecast.min.js was made of corecast.js as it stands; `npm run minify` makes it', async () => {
  assert.equal(readFileSync(join(root, 'corecast.min.js'), 'utf8'), await minified());
});
