"""Denies requests outside business hours (UTC), except to people on call: the policy of ../auth-policy-rust, in Python.
The settings are {"opens": 8, "closes": 18}."""

from platform_sdk import abstain, deny, problem, settings
from wit_world import exports
from wit_world.imports import context

HOUR_NS = 3_600_000_000_000
hours = range(0)


class Lifecycle(exports.Lifecycle):
    def configure(self, text):
        global hours
        given = settings(text, opens=None, closes=None)
        opens, closes = given["opens"], given["closes"]
        if not (isinstance(opens, int) and isinstance(closes, int) and 0 <= opens < closes <= 24):
            raise problem("opens before closes, and both are 0 to 24", "/closes")
        hours = range(opens, closes)

    def self_test(self):
        pass


class Policy(exports.Policy):
    def authorize(self, subject, action, target, request):
        hour = context.time_ns() // HOUR_NS % 24
        if hour in hours or request.has_role("on-call"):
            return abstain()
        return deny("closed at this hour")
