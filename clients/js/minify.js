// Makes corecast.min.js of corecast.js: `npm run minify`, after every change; a test says if it was forgotten. It stands in the tree
// because the engine serves it, and is built with cargo alone.
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { minify } from 'terser';

const at = (name) => new URL(name, import.meta.url);

export async function minified() {
  const preamble = '// The corecast client. The form for people is corecast.js beside it. MIT OR Apache-2.0';
  const { code } = await minify(await readFile(at('corecast.js'), 'utf8'), {
    module: true, ecma: 2020, compress: { passes: 2 }, format: { preamble },
  });
  return `${code}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeFile(at('corecast.min.js'), await minified());
