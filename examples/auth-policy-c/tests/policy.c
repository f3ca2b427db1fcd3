// The policy around the clock, as a program of this machine: what it asks of the host is defined here.
#undef NDEBUG
#include <assert.h>
#include <stdio.h>

#include "platform_auth.h"

static uint64_t hour;
static bool on_call;

uint64_t platform_plugin_context_time_ns(void) { return hour * 3600000000000; }

bool platform_auth_types_method_request_has_role(request of, plugin_string_t *name) {
  (void)of;
  return on_call && text_is(*name, "on-call");
}

static bool configured(const char *settings, problem *why) {
  text given = text_of(settings);
  return exports_platform_plugin_lifecycle_configure(&given, why);
}

static bool is_open(void) {
  text nothing = text_of("");
  decision answer;
  exports_platform_auth_policy_authorize(&nothing, &nothing, &nothing, (request){0}, &answer);
  return answer.tag == PLATFORM_AUTH_TYPES_DECISION_ABSTAIN;
}

int main(void) {
  problem why;
  assert(configured("{\"opens\": 8, \"closes\": 18}", &why));
  for (hour = 0; hour < 24; hour++) {
    on_call = false;
    assert(is_open() == (8 <= hour && hour < 18));
    on_call = true;
    assert(is_open());
  }
  assert(!configured("{\"opens\": 9, \"closes\": 9}", &why) && text_is(why.at.val, "/closes"));
  assert(!configured("{\"opens\": 8, \"closes\": 25}", &why) && text_is(why.at.val, "/closes"));
  puts("opens and closes on the hour, and refuses hours that make no sense");
}
