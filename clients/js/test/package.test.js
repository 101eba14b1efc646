// The package as npm makes it: what is in it, that it can be imported, and that its types are right.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'corecast-package-'));
after(() => rmSync(folder, { recursive: true }));
const run = (program, words, options) => execFileSync(program, words, { cwd: folder, encoding: 'utf8', ...options });

const SAMPLE = `
import { connect, CorecastError, type Client, type Gap, type Message, type Refused, type Subscription } from 'corecast';

const client: Client = connect('http://127.0.0.1:1', { transport: ['sse', 'poll'], shared: true, backoffMs: [1, 2], waitS: 5 });
const sub: Subscription = client.subscribe('a', { since: -5, conflate: true, every: 100, onGap: (gap: Gap) => gap.count }, (message: Message, self) => {
  const text: string = typeof message.data === 'string' ? message.data : new TextDecoder().decode(message.data);
  if (text) self.unsubscribe();
});
client.subscribe('a', ({ cursor }) => cursor.length);
const off: () => void = client.on('state', ({ state, waitMs }) => [state === 'waiting', waitMs?.toFixed()]);
client.on('gap', ({ reason }) => reason === 'expired');
client.on('refused', ({ name, text }: Refused) => name === 'draining' && text.length);
client.on('error', (error) => error instanceof CorecastError && error.retryMs);
async function all(): Promise<string | null> {
  for await (const { data, event } of client.messages('a', { since: 'earliest' })) console.log(data, event, sub.cursor);
  off();
  return client.publish('a', { any: 'thing' }, { event: 'e' });
}
void all;
// @ts-expect-error a transport that there is not
connect('http://127.0.0.1:1', { transport: 'pigeon' });
// @ts-expect-error an event that there is not
client.on('nonsense', () => {});
client.close();
`;

test('npm pack makes a package that holds what it needs and no more, can be imported, and has strict types', { timeout: 60_000 }, () => {
  const [{ filename, files }] = JSON.parse(run('npm', ['pack', root, '--json', '--pack-destination', folder]));
  assert.deepEqual(files.map(({ path }) => path).sort(), ['README.md', 'corecast.d.ts', 'corecast.js', 'package.json']);
  writeFileSync(join(folder, 'package.json'), '{ "name": "sample", "private": true, "type": "module" }');
  run('npm', ['install', '--silent', '--offline', '--no-audit', join(folder, filename)]);
  const names = run('node', ['--input-type=module', '-e', "import * as all from 'corecast'; console.log(Object.keys(all).join())"]);
  assert.equal(names.trim(), 'CorecastError,connect');
  writeFileSync(join(folder, 'sample.ts'), SAMPLE);
  const words = ['--strict', '--noEmit', '--target', 'es2022', '--module', 'nodenext', '--lib', 'es2022,dom', 'sample.ts'];
  try {
    run('node', [join(root, 'node_modules/typescript/lib/tsc.js'), ...words]);
  } catch (error) {
    assert.fail(error.stdout);
  }
});
