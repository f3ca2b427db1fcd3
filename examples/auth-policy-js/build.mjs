// Builds policy.js into a component. Usage: node build.mjs OUTPUT
// The WIT is the platform's: the package of the world, with what it depends on beside it as the tool expects it. It lies in
// `platform/` of a project, or in the repository.
import { componentize } from '@bytecodealliance/componentize-js';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const output = resolve(process.argv[2] ?? join(here, 'out.wasm'));
const platform = [join(here, 'platform/wit'), join(here, '../../wit')].find((folder) => existsSync(folder));
const wit = mkdtempSync(join(tmpdir(), 'platform-plugin-'));
let component;
try {
  cpSync(join(platform, 'auth'), wit, { recursive: true });
  cpSync(join(platform, 'plugin'), join(wit, 'deps/plugin'), { recursive: true });
  // Nothing of WASI, so that it has no imports but those of the world.
  const disableFeatures = ['random', 'stdio', 'clocks', 'http', 'fetch-event'];
  const built = await componentize({ sourcePath: join(here, 'policy.js'), witPath: wit, worldName: 'policy-plugin', disableFeatures });
  component = built.component;
} finally {
  rmSync(wit, { recursive: true });
}
const manifest = JSON.stringify(JSON.parse(readFileSync(join(here, 'manifest.json'))));
writeFileSync(output, Buffer.concat([component, customSection('platform:manifest', manifest)]));

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
