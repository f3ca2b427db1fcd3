// Builds policy.js into a component. Usage: node build.mjs OUTPUT
// The WIT is the repository's own: the package of the world, with what it depends on beside it as jco expects it.
import { execFileSync } from 'node:child_process';
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const output = resolve(process.argv[2] ?? join(here, 'auth-policy-js.wasm'));
const wit = mkdtempSync(join(tmpdir(), 'auth-policy-js-'));
try {
  cpSync(join(here, '../../wit/auth'), wit, { recursive: true });
  cpSync(join(here, '../../wit/plugin'), join(wit, 'deps/plugin'), { recursive: true });
  // QuickJS rather than a larger engine: 1.6 MB instead of 12, and no imports but those of the world.
  const options = ['--backend', 'qjs', '--backend-qjs-stub-wasi', '--backend-qjs-disable-async'];
  const source = ['componentize', join(here, 'policy.js'), '--wit', wit, '--world-name', 'policy-plugin'];
  execFileSync(join(here, 'node_modules/.bin/jco'), [...source, ...options, '--out', output], { stdio: 'inherit' });
} finally {
  rmSync(wit, { recursive: true });
}
appendFileSync(output, customSection('platform:manifest', JSON.stringify(JSON.parse(readFileSync(join(here, 'manifest.json'))))));

// A custom section: 0, its size, then its name and content; sizes are LEB128.
function customSection(name, content) {
  const title = Buffer.from(name);
  const body = Buffer.concat([leb128(title.length), title, Buffer.from(content)]);
  return Buffer.concat([Buffer.from([0]), leb128(body.length), body]);
}

function leb128(value) {
  const bytes = [];
  for (; value >= 0x80; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return Buffer.from([...bytes, value]);
}
