// Denies requests outside business hours (UTC), except to people on call: the policy of ../auth-policy-rust, in JavaScript.
// The settings are {"opens": 8, "closes": 18}.

import { timeNs } from 'platform:plugin/context@0.1.0';

const HOUR_NS = 3_600_000_000_000n;
let hours;

// What the platform shows to whoever made the binding; `at` points to the setting at fault.
function problem(message, at) {
  return Object.assign(new Error(message), { payload: { message, at } });
}

function read(settings) {
  const { opens, closes, ...unknown } = settings;
  const [extra] = Object.keys(unknown);
  if (extra !== undefined) {
    throw problem(`unknown setting \`${extra}\`; there are \`opens\` and \`closes\``, `/${extra}`);
  }
  const sensible = Number.isInteger(opens) && Number.isInteger(closes) && 0 <= opens && opens < closes && closes <= 24;
  if (!sensible) {
    throw problem('opens before closes, and both are 0 to 24', '/closes');
  }
  return { opens, closes };
}

export const lifecycle = {
  configure(settings) {
    hours = read(JSON.parse(settings));
  },
  selfTest() {},
};

export const policy = {
  authorize(_subject, _action, _target, request) {
    const hour = Number((timeNs() / HOUR_NS) % 24n);
    const open = (hours.opens <= hour && hour < hours.closes) || request.hasRole('on-call');
    // Status 0 leaves it to the platform: 401 without a verified caller, else 403.
    return open ? { tag: 'abstain' } : { tag: 'deny', val: { reason: 'closed at this hour', status: 0, headers: [] } };
  },
};
