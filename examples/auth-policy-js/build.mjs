// Builds policy.js into a component. Usage: node build.mjs OUTPUT
// The WIT is the repository's own: the package of the world, with what it depends on beside it as jco expects it.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const output = resolve(process.argv[2] ?? join(here, 'auth-policy-js.wasm'));
const wit = mkdtempSync(join(tmpdir(), 'auth-policy-js-'));
try {
  cpSync(join(here, '../../wit/auth'), wit, { recursive: true });
  cpSync(join(here, '../../wit/plugin'), join(wit, 'deps/plugin'), { recursive: true });
  // QuickJS rather than a larger engine: 1.6 MB instead of 12, and no import but those of the world.
  const options = ['--backend', 'qjs', '--backend-qjs-stub-wasi', '--backend-qjs-disable-async'];
  const jco = join(here, 'node_modules/.bin/jco');
  execFileSync(jco, ['componentize', join(here, 'policy.js'), '--wit', wit, '--world-name', 'policy-plugin', ...options, '--out', output], { stdio: 'inherit' });
} finally {
  rmSync(wit, { recursive: true });
}
