// Makes a component of plugin.js: `platform plugin build` runs `node build.mjs --wit DIR --world NAME --output FILE`.
//
// The engine is SpiderMonkey: a store counts in all 64 bits, which QuickJS's bindings pass as numbers that are exact to 53.
import { componentize } from '@bytecodealliance/componentize-js';
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

const text = { type: 'string' };
const { wit, world, output } = parseArgs({ options: { wit: text, world: text, output: text } }).values;
// The tool takes one module, so the second is put before the first.
const space = readFileSync('space.js', 'utf8').replaceAll(/^export /gm, '');
const plugin = readFileSync('plugin.js', 'utf8').replace(/^import .* from '\.\/space\.js';$/m, '');
// Nothing of WASI, so that it has no imports but those of the world.
const disableFeatures = ['random', 'stdio', 'clocks', 'http', 'fetch-event'];
const { component } = await componentize(`${space}\n${plugin}`, { witPath: wit, worldName: world, disableFeatures });
writeFileSync(output, component);
