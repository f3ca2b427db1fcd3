// How Node.js finds the interfaces that `native.js` stands in for. It runs beside the tests, on a thread of its own, and knows only names.
let interfaces = {};

export function initialize(names) {
  interfaces = names;
}

export function resolve(name, context, next) {
  return Object.hasOwn(interfaces, name) ? { url: name, shortCircuit: true } : next(name, context);
}

export function load(name, context, next) {
  if (!Object.hasOwn(interfaces, name)) return next(name, context);
  const standIn = `globalThis.platformNative[${JSON.stringify(name)}]`;
  const functions = interfaces[name].map((of) => `export const ${of} = (...given) => ${standIn}.${of}(...given);`);
  return { format: 'module', source: functions.join('\n'), shortCircuit: true };
}
