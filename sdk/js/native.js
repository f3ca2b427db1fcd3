// What the platform gives a plugin, as a test says it: for tests that Node.js runs, `node --test`.
import { register } from 'node:module';

// The stand-ins, where the modules that `hooks.js` writes find them.
const given = (globalThis.platformNative ??= {});

// Stands in for interfaces that a plugin imports, by their names, such as `{ 'platform:plugin/context@0.1.0': { timeNs: () => 0 } }`.
// It has to be called before the plugin is imported: `const { policy } = await import('../plugin.js')`.
export function stand(interfaces) {
  Object.assign(given, interfaces);
  const data = Object.fromEntries(Object.entries(interfaces).map(([name, functions]) => [name, Object.keys(functions)]));
  register('./hooks.js', import.meta.url, { data });
}
