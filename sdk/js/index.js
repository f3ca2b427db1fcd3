// Helpers for plugins in JavaScript: settings, problems with them, the answers of a policy.
//
// `platform plugin build` puts this into `node_modules/platform-sdk`, so that it is imported by that name.

// What is wrong with settings, to be thrown; `at` points to the setting at fault.
export function problem(message, at = null) {
  return Object.assign(new Error(message), { message, at, payload: { message, at } });
}

// The settings, with defaults for what is not given. What is not among them is refused.
export function settings(text, defaults) {
  const given = JSON.parse(text);
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(defaults, name)) {
      const there = Object.keys(defaults).map((known) => `\`${known}\``);
      throw problem(`unknown setting \`${name}\`; there are ${there.join(', ')}`, `/${name}`);
    }
  }
  return { ...defaults, ...given };
}

// The request may go on, unless another policy of the chain denies it.
export function allow(reason = '', setHeaders = [], removeHeaders = []) {
  return { tag: 'allow', val: { reason, setHeaders, removeHeaders } };
}

// The request must not go on. Status 0 is the usual one: 401 without a verified caller, else 403.
export function deny(reason, status = 0, headers = []) {
  return { tag: 'deny', val: { reason, status, headers } };
}

// This policy has no opinion.
export function abstain() {
  return { tag: 'abstain' };
}
