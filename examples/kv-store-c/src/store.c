// Values under keys in the memory of one instance: the provider of `kv.store` that a project in C begins with.
//
// The settings are {"max_bytes": 16777216, "max_changes": 10000}. It never waits: `changes` answers at once.
#include "space.h"

static limits most = {16 << 20, 10000};
static space *spaces;
static size_t space_count;

bool exports_platform_plugin_lifecycle_configure(text *settings, problem *why) {
  text json;
  int64_t number;
  if (json_member(*settings, "max_bytes", &json)) {
    if (!json_integer(json, &number) || number < 4096 || number > 32 << 20) {
      return refuse(why, "the bytes kept are 4096 to 33554432", "/max_bytes");
    }
    most.bytes = (size_t)number;
  }
  if (json_member(*settings, "max_changes", &json)) {
    if (!json_integer(json, &number) || number < 0 || number > 100000) {
      return refuse(why, "the changes kept are 0 to 100000", "/max_changes");
    }
    most.changes = (size_t)number;
  }
  return true;
}

bool exports_platform_plugin_lifecycle_self_test(problem *why) {
  (void)why;
  return true;
}

// That of the call's namespace, with what has ended gone. One that was never written is not kept.
static space *here(void) {
  static space none;
  text name;
  platform_plugin_context_namespace(&name);
  space *found = &none;
  for (size_t at = 0; at < space_count; at++) {
    if (text_compare(spaces[at].name, name) == 0) found = &spaces[at];
  }
  plugin_string_free(&name);
  space_advance(found, platform_plugin_context_time_ns() / 1000000);
  return found;
}

// The same, where something is written.
static space *here_to_write(void) {
  space *found = here();
  for (size_t at = 0; at < space_count; at++) {
    if (found == &spaces[at]) return found;
  }
  spaces = realloc(spaces, (space_count + 1) * sizeof *spaces);
  if (spaces == NULL) __builtin_trap();
  space *new = &spaces[space_count++];
  *new = (space){0};
  platform_plugin_context_namespace(&new->name);
  new->now_ms = platform_plugin_context_time_ns() / 1000000;
  return new;
}

// Makes writes that were checked, behind the fence of the call.
static bool commit(kv_writes *writes, uint64_t *revision, kv_error *why) {
  space *in = here_to_write();
  platform_plugin_context_fence_t fence, *seen = NULL;
  bool fenced = platform_plugin_context_fencing(&fence);
  for (size_t at = 0; fenced && at < in->fence_count; at++) {
    if (text_compare(in->fences[at].name, fence.name) == 0) seen = &in->fences[at];
  }
  if (seen != NULL && seen->token > fence.token) {
    plugin_string_free(&fence.name);
    return kv_stale(why, seen->token);
  }
  bool done = space_commit(in, writes, most, why);
  if (done && fenced && seen == NULL) {
    in->fences = realloc(in->fences, (in->fence_count + 1) * sizeof *in->fences);
    if (in->fences == NULL) __builtin_trap();
    in->fences[in->fence_count++] = (platform_plugin_context_fence_t){text_copy(fence.name), fence.token};
  } else if (done && fenced) {
    seen->token = fence.token;
  }
  if (fenced) plugin_string_free(&fence.name);
  *revision = in->revision;
  return done;
}

static kv_entry answer(const entry *found) {
  plugin_list_u8_t bytes = {platform_alloc(found->held->bytes.len), found->held->bytes.len};
  if (bytes.len > 0) memcpy(bytes.ptr, found->held->bytes.ptr, bytes.len);
  return (kv_entry){bytes, found->revision, {found->ends_ms > 0, found->ends_ms}};
}

bool exports_platform_kv_store_get(text *key, exports_platform_kv_store_option_entry_t *ret, kv_error *why) {
  bool good = kv_check_key(*key, why);
  entry *found = good ? space_get(here(), *key) : NULL;
  ret->is_some = found != NULL;
  if (found != NULL) ret->val = answer(found);
  plugin_string_free(key);
  return good;
}

bool exports_platform_kv_store_get_many(plugin_list_string_t *keys, exports_platform_kv_store_list_option_entry_t *ret,
                                        kv_error *why) {
  bool good = kv_check_count(keys->len, why);
  size_t bytes = 0;
  for (size_t at = 0; good && at < keys->len; at++) {
    good = kv_check_key(keys->ptr[at], why);
    entry *found = good ? space_get(here(), keys->ptr[at]) : NULL;
    if (found != NULL) bytes += found->key.len + found->held->bytes.len;
  }
  if (good && bytes > KV_COMMIT_BYTES) good = kv_too_large(why, "the keys hold more than 16 MiB");
  if (good) {
    ret->len = keys->len;
    ret->ptr = platform_alloc(ret->len * sizeof *ret->ptr);
    for (size_t at = 0; at < keys->len; at++) {
      entry *found = space_get(here(), keys->ptr[at]);
      ret->ptr[at].is_some = found != NULL;
      if (found != NULL) ret->ptr[at].val = answer(found);
    }
  }
  plugin_list_string_free(keys);
  return good;
}

bool exports_platform_kv_store_commit(kv_writes *writes, uint64_t *ret, kv_error *why) {
  bool good = kv_check_writes(writes, why) && commit(writes, ret, why);
  exports_platform_kv_store_list_write_free(writes);
  return good;
}

// One write, made as a commit is.
static bool write_one(kv_write *write, uint64_t *ret, kv_error *why) {
  kv_writes one = {write, 1};
  bool good = kv_check_writes(&one, why) && commit(&one, ret, why);
  exports_platform_kv_store_write_free(write);
  return good;
}

bool exports_platform_kv_store_put(text *key, plugin_list_u8_t *value, kv_condition *condition, kv_expiry *expiry,
                                   uint64_t *ret, kv_error *why) {
  kv_write write = {*key, *condition, {.tag = EXPORTS_PLATFORM_KV_STORE_ACTION_PUT, .val = {.put = {*value, *expiry}}}};
  return write_one(&write, ret, why);
}

bool exports_platform_kv_store_delete(text *key, kv_condition *condition, plugin_option_u64_t *ret, kv_error *why) {
  uint64_t before = here()->revision;
  kv_write write = {*key, *condition, {.tag = EXPORTS_PLATFORM_KV_STORE_ACTION_DELETE}};
  bool good = write_one(&write, &ret->val, why);
  ret->is_some = good && ret->val > before;
  return good;
}

bool exports_platform_kv_store_increment(text *key, int64_t by, int64_t *ret, kv_error *why) {
  bool good = kv_check_key(*key, why);
  entry *old = good ? space_get(here(), *key) : NULL;
  int64_t sum = 0;
  if (good && old != NULL && !text_to_number((text){old->held->bytes.ptr, old->held->bytes.len}, &sum)) {
    good = kv_invalid(why, "the value is no decimal number of 64 bits");
  }
  if (good && __builtin_add_overflow(sum, by, ret)) good = kv_invalid(why, "the sum does not fit in 64 bits");
  if (!good) {
    plugin_string_free(key);
    return false;
  }
  char digits[24];
  text number = text_copy(text_number(*ret, digits));
  plugin_list_u8_t value = {number.ptr, number.len};
  kv_condition always = {.tag = EXPORTS_PLATFORM_KV_STORE_CONDITION_ALWAYS};
  kv_expiry keep = {.tag = EXPORTS_PLATFORM_KV_STORE_EXPIRY_KEEP};
  uint64_t revision;
  return exports_platform_kv_store_put(key, &value, &always, &keep, &revision, why);
}

bool exports_platform_kv_store_used(exports_platform_kv_store_usage_t *ret, kv_error *why) {
  (void)why;
  space *in = here();
  *ret = (exports_platform_kv_store_usage_t){.keys = in->held.count};
  for (size_t at = 0; at < in->held.count; at++) ret->bytes += in->held.items[at].key.len + in->held.items[at].held->bytes.len;
  return true;
}

bool exports_platform_kv_store_scan(text *prefix, text *maybe_after, uint32_t limit,
                                    exports_platform_kv_store_list_tuple2_string_entry_t *ret, kv_error *why) {
  bool good = kv_check_limit(&limit, why);
  if (good) {
    space *in = here();
    bool later = maybe_after != NULL && text_compare(*maybe_after, *prefix) >= 0;
    size_t at = space_find(in, later ? *maybe_after : *prefix);
    if (later && at < in->held.count && text_compare(in->held.items[at].key, *maybe_after) == 0) at++;
    *ret = (exports_platform_kv_store_list_tuple2_string_entry_t){platform_alloc(limit * sizeof *ret->ptr), 0};
    for (; at < in->held.count && ret->len < limit && text_begins(in->held.items[at].key, *prefix); at++) {
      entry *found = &in->held.items[at];
      ret->ptr[ret->len++] = (exports_platform_kv_store_tuple2_string_entry_t){text_copy(found->key), answer(found)};
    }
  }
  plugin_string_free(prefix);
  if (maybe_after != NULL) plugin_string_free(maybe_after);
  return good;
}

bool exports_platform_kv_store_changes(text *prefix, uint64_t after, uint32_t limit, uint32_t wait_ms,
                                       exports_platform_kv_store_list_change_t *ret, kv_error *why) {
  (void)wait_ms;
  space *in = here();
  uint64_t oldest = in->first < in->kept.count ? in->kept.items[in->first].revision - 1 : in->revision;
  bool good = kv_check_limit(&limit, why) && (after == 0 || after >= oldest || kv_compacted(why, oldest));
  if (good) {
    size_t room = in->kept.count - in->first;
    *ret = (exports_platform_kv_store_list_change_t){platform_alloc(room * sizeof *ret->ptr), 0};
    for (size_t at = in->first; at < in->kept.count; at++) {
      entry *change = &in->kept.items[at];
      if (change->revision <= after || !text_begins(change->key, *prefix)) continue;
      // Who resumes after a revision is not asked twice for it, so its changes come together.
      if (ret->len >= limit && ret->ptr[ret->len - 1].revision != change->revision) break;
      exports_platform_kv_store_change_t *told = &ret->ptr[ret->len++];
      *told = (exports_platform_kv_store_change_t){.key = text_copy(change->key), .revision = change->revision};
      told->entry.is_some = change->held != NULL;
      if (change->held != NULL) told->entry.val = answer(change);
    }
  }
  plugin_string_free(prefix);
  return good;
}

bool exports_platform_kv_store_revision(uint64_t *ret, kv_error *why) {
  (void)why;
  *ret = here()->revision;
  return true;
}
