// Denies requests outside business hours (UTC), except to people on call: the policy of ../auth-policy-rust, in JavaScript.
// The settings are {"opens": 8, "closes": 18}.

import { timeNs } from 'platform:plugin/context@0.1.0';
import { abstain, deny, problem, settings } from 'platform-sdk';

const HOUR_NS = 3_600_000_000_000;
let hours;

export const lifecycle = {
  configure(text) {
    const { opens, closes } = settings(text, { opens: null, closes: null });
    const sensible = Number.isInteger(opens) && Number.isInteger(closes) && 0 <= opens && opens < closes && closes <= 24;
    if (!sensible) {
      throw problem('opens before closes, and both are 0 to 24', '/closes');
    }
    hours = { opens, closes };
  },
  selfTest() {},
};

export const policy = {
  authorize(_subject, _action, _target, request) {
    // Numbers of 64 bits come as JavaScript's own, which are exact up to 2^53.
    const hour = Math.floor(timeNs() / HOUR_NS) % 24;
    const open = (hours.opens <= hour && hour < hours.closes) || request.hasRole('on-call');
    return open ? abstain() : deny('closed at this hour');
  },
};
