// Helpers for providers of `kv.store`: shorter names, errors, and the limits that all of them keep.
#ifndef PLATFORM_KV_H
#define PLATFORM_KV_H

#include "platform.h"

typedef exports_platform_kv_store_error_t kv_error;
typedef exports_platform_kv_store_entry_t kv_entry;
typedef exports_platform_kv_store_condition_t kv_condition;
typedef exports_platform_kv_store_expiry_t kv_expiry;
typedef exports_platform_kv_store_write_t kv_write;
typedef exports_platform_kv_store_list_write_t kv_writes;

enum { KV_KEY_BYTES = 1024, KV_VALUE_BYTES = 8 << 20, KV_COMMIT_BYTES = 16 << 20, KV_MOST = 1000 };

// Fails a call: `return kv_invalid(why, "the key is empty");`
static inline bool kv_invalid(kv_error *why, const char *words) {
  why->tag = PLATFORM_KV_TYPES_ERROR_INVALID;
  why->val.invalid = text_own(words);
  return false;
}

static inline bool kv_too_large(kv_error *why, const char *words) {
  why->tag = PLATFORM_KV_TYPES_ERROR_TOO_LARGE;
  why->val.too_large = text_own(words);
  return false;
}

static inline bool kv_quota(kv_error *why, const char *words) {
  why->tag = PLATFORM_KV_TYPES_ERROR_QUOTA;
  why->val.quota = text_own(words);
  return false;
}

static inline bool kv_conflict(kv_error *why, text key, uint64_t revision) {
  why->tag = PLATFORM_KV_TYPES_ERROR_CONFLICT;
  why->val.conflict.key = text_copy(key);
  why->val.conflict.revision = revision;
  return false;
}

static inline bool kv_compacted(kv_error *why, uint64_t oldest) {
  why->tag = PLATFORM_KV_TYPES_ERROR_COMPACTED;
  why->val.compacted = oldest;
  return false;
}

static inline bool kv_stale(kv_error *why, uint64_t token) {
  why->tag = PLATFORM_KV_TYPES_ERROR_STALE;
  why->val.stale = token;
  return false;
}

// Keys are 1 to 1024 bytes without control characters.
static inline bool kv_check_key(text key, kv_error *why) {
  if (key.len == 0) return kv_invalid(why, "the key is empty");
  if (key.len > KV_KEY_BYTES) return kv_too_large(why, "the key is longer than 1024 bytes");
  for (size_t at = 0; at < key.len; at++) {
    uint8_t byte = key.ptr[at];
    // In UTF-8 those from U+0080 on are two bytes.
    bool second = byte == 0xc2 && at + 1 < key.len && key.ptr[at + 1] < 0xa0;
    if (byte < 0x20 || byte == 0x7f || second) return kv_invalid(why, "the key has a control character");
  }
  return true;
}

// 1 to 1000 at a time.
static inline bool kv_check_count(size_t count, kv_error *why) {
  if (count == 0) return kv_invalid(why, "there are no keys, the least is 1");
  return count <= KV_MOST || kv_too_large(why, "there are more than 1000 keys");
}

static inline bool kv_check_limit(uint32_t *limit, kv_error *why) {
  if (*limit == 0) return kv_invalid(why, "the limit is 0, the least is 1");
  if (*limit > KV_MOST) *limit = KV_MOST;
  return true;
}

// 1 to 1000 writes, each of a key of its own, with at most 16 MiB of keys and values.
static inline bool kv_check_writes(const kv_writes *writes, kv_error *why) {
  if (!kv_check_count(writes->len, why)) return false;
  size_t bytes = 0;
  for (size_t at = 0; at < writes->len; at++) {
    const kv_write *write = &writes->ptr[at];
    if (!kv_check_key(write->key, why)) return false;
    for (size_t before = 0; before < at; before++) {
      if (text_compare(writes->ptr[before].key, write->key) == 0) return kv_invalid(why, "a key is written twice in one commit");
    }
    bytes += write->key.len;
    if (write->action.tag != EXPORTS_PLATFORM_KV_STORE_ACTION_PUT) continue;
    const exports_platform_kv_store_content_t *put = &write->action.val.put;
    bytes += put->value.len;
    if (put->value.len > KV_VALUE_BYTES) return kv_too_large(why, "the value is longer than 8 MiB");
    if (put->expiry.tag == EXPORTS_PLATFORM_KV_STORE_EXPIRY_AFTER_MS && put->expiry.val.after_ms == 0) {
      return kv_invalid(why, "the time to live is 0 ms, the least is 1");
    }
  }
  return bytes <= KV_COMMIT_BYTES || kv_too_large(why, "the commit is larger than 16 MiB");
}

#endif
