// Helpers for policies of `auth.policy`: the three answers, and facts of the request.
#ifndef PLATFORM_AUTH_H
#define PLATFORM_AUTH_H

#include "platform.h"

typedef exports_platform_auth_policy_decision_t decision;
typedef exports_platform_auth_policy_borrow_request_t request;

// This policy has nothing to say; the rest of the chain decides.
static inline void answer_abstain(decision *answer) { answer->tag = PLATFORM_AUTH_TYPES_DECISION_ABSTAIN; }

// This policy has nothing against it. `reason` is for the audit trail, and may be empty.
static inline void answer_allow(decision *answer, const char *reason) {
  memset(answer, 0, sizeof *answer);
  answer->tag = PLATFORM_AUTH_TYPES_DECISION_ALLOW;
  answer->val.allow.reason = text_own(reason);
}

// This policy forbids it; the caller is shown the reason. Status 0 is the usual one: 401 without a verified caller, else 403.
static inline void answer_deny(decision *answer, const char *reason, uint16_t status) {
  memset(answer, 0, sizeof *answer);
  answer->tag = PLATFORM_AUTH_TYPES_DECISION_DENY;
  answer->val.deny.reason = text_own(reason);
  answer->val.deny.status = status;
}

// Adds a header: to the request that goes on where it is allowed, to the answer where it is denied.
static inline void answer_header(decision *answer, const char *name, text value) {
  if (answer->tag == PLATFORM_AUTH_TYPES_DECISION_ABSTAIN) return;
  plugin_list_tuple2_string_string_t *headers = answer->tag == PLATFORM_AUTH_TYPES_DECISION_ALLOW
                                                    ? &answer->val.allow.set_headers
                                                    : &answer->val.deny.headers;
  headers->ptr = realloc(headers->ptr, (headers->len + 1) * sizeof *headers->ptr);
  if (headers->ptr == NULL) __builtin_trap();
  headers->ptr[headers->len++] = (plugin_tuple2_string_string_t){text_own(name), text_copy(value)};
}

// Whether the verified token of the caller carries a role.
static inline bool has_role(request of, const char *role) {
  text name = text_of(role);
  return platform_auth_types_method_request_has_role(of, &name);
}

// A header of the request, its name in lowercase; whether there is one.
static inline bool header(request of, const char *name, text *value) {
  text wanted = text_of(name);
  return platform_auth_types_method_request_header(of, &wanted, value);
}

// What the gateway adds, such as `host` or `source-address`; whether there is one.
static inline bool attribute(request of, const char *name, text *value) {
  text wanted = text_of(name);
  return platform_auth_types_method_request_attribute(of, &wanted, value);
}

// A claim of the verified token, as JSON; whether there is one.
static inline bool claim(request of, const char *name, text *value) {
  text wanted = text_of(name);
  return platform_auth_types_method_request_claim(of, &wanted, value);
}

#endif
