// The policy around the clock, run by Node.js: what it asks of the host is what a test says.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stand } from 'platform-sdk/native';

const HOUR_NS = 3_600_000_000_000;
let hour = 0;
stand({ 'platform:plugin/context@0.1.0': { timeNs: () => hour * HOUR_NS } });
const { lifecycle, policy } = await import('../plugin.js');

const isOpen = (...roles) =>
  policy.authorize('alice', 'GET', '/', { hasRole: (name) => roles.includes(name) }).tag === 'abstain';

test('opens and closes on the hour', () => {
  lifecycle.configure('{"opens": 8, "closes": 18}');
  for (hour = 0; hour < 24; hour++) {
    assert.equal(isOpen(), 8 <= hour && hour < 18, `${hour}:00`);
    assert.ok(isOpen('on-call'));
  }
});

test('hours that make no sense are refused', () => {
  for (const text of ['{"opens": 9, "closes": 9}', '{"opens": 8, "closes": 25}', '{"opens": 8}']) {
    assert.throws(() => lifecycle.configure(text), { at: '/closes' });
  }
});
