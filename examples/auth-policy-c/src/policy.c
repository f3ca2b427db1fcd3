// Denies requests outside business hours (UTC), except to people on call: the policy of ../auth-policy-rust, in C.
// The settings are {"opens": 8, "closes": 18}.
#include "platform_auth.h"

static const uint64_t HOUR_NS = 3600000000000;
static int64_t opens, closes;

// Reads the settings, which match the schema of `manifest.json`: what it can't say is checked here.
bool exports_platform_plugin_lifecycle_configure(text *settings, problem *why) {
  text value;
  bool told = json_member(*settings, "opens", &value) && json_integer(value, &opens) &&
              json_member(*settings, "closes", &value) && json_integer(value, &closes);
  if (!told || opens < 0 || opens >= closes || closes > 24) {
    return refuse(why, "opens before closes, and both are 0 to 24", "/closes");
  }
  return true;
}

bool exports_platform_plugin_lifecycle_self_test(problem *why) {
  (void)why;
  return true;
}

void exports_platform_auth_policy_authorize(text *subject, text *action, text *target, request asked, decision *answer) {
  (void)subject, (void)action, (void)target;
  int64_t hour = (int64_t)(platform_plugin_context_time_ns() / HOUR_NS % 24);
  if ((opens <= hour && hour < closes) || has_role(asked, "on-call")) {
    answer_abstain(answer);
  } else {
    // Status 0 leaves it to the platform: 401 without a verified caller, else 403.
    answer_deny(answer, "closed at this hour", 0);
  }
}
