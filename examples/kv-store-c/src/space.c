// How entries are kept; see space.h.
#include "space.h"

// What an entry or a kept change takes besides its key and value.
enum { OVERHEAD = 128 };

static size_t size_of(const entry *of) { return of->key.len + (of->held ? of->held->bytes.len : 0) + OVERHEAD; }

// Room for one more at a place.
static void insert(entries *in, size_t at, entry new) {
  if (in->count == in->room) {
    in->room = in->room * 2 + 8;
    in->items = realloc(in->items, in->room * sizeof *in->items);
    if (in->items == NULL) __builtin_trap();
  }
  memmove(in->items + at + 1, in->items + at, (in->count - at) * sizeof *in->items);
  in->items[at] = new;
  in->count++;
}

static void let_go(entry *of) {
  if (of->held != NULL && --of->held->holders == 0) {
    free(of->held->bytes.ptr);
    free(of->held);
  }
  free(of->key.ptr);
}

size_t space_find(space *in, text key) {
  size_t from = 0, to = in->held.count;
  while (from < to) {
    size_t middle = from + (to - from) / 2;
    if (text_compare(in->held.items[middle].key, key) < 0) {
      from = middle + 1;
    } else {
      to = middle;
    }
  }
  return from;
}

entry *space_get(space *in, text key) {
  size_t at = space_find(in, key);
  bool found = at < in->held.count && text_compare(in->held.items[at].key, key) == 0;
  return found ? &in->held.items[at] : NULL;
}

// Makes a key hold a value, or nothing for `NULL`, and remembers that it did.
static void change(space *in, text key, value *held, uint64_t ends_ms, uint64_t revision) {
  in->revision = revision;
  entry told = {text_copy(key), held, revision, ends_ms};
  size_t at = space_find(in, key);
  bool was = at < in->held.count && text_compare(in->held.items[at].key, key) == 0;
  entry new = {text_copy(key), held, revision, ends_ms};
  if (was) {
    in->held_bytes -= size_of(&in->held.items[at]);
    let_go(&in->held.items[at]);
  }
  if (held != NULL) {
    held->holders = 2;
    in->held_bytes += size_of(&new);
    if (was) {
      in->held.items[at] = new;
    } else {
      insert(&in->held, at, new);
    }
  } else {
    free(new.key.ptr);
    if (was) memmove(in->held.items + at, in->held.items + at + 1, (--in->held.count - at) * sizeof *in->held.items);
  }
  insert(&in->kept, in->kept.count, told);
  in->kept_bytes += size_of(&told);
}

void space_advance(space *in, uint64_t now_ms) {
  if (now_ms > in->now_ms) in->now_ms = now_ms;
  for (size_t at = 0; at < in->held.count;) {
    entry *here = &in->held.items[at];
    if (here->ends_ms == 0 || here->ends_ms > in->now_ms) {
      at++;
      continue;
    }
    text key = text_copy(here->key);
    change(in, key, NULL, 0, in->revision + 1);
    free(key.ptr);
  }
}

// Drops the changes of the oldest commits that have no room, each commit as a whole.
static void trim(space *in, limits most) {
  uint64_t dropped = 0;
  while (in->first < in->kept.count) {
    entry *oldest = &in->kept.items[in->first];
    bool over = in->kept.count - in->first > most.changes || in->held_bytes + in->kept_bytes > most.bytes;
    if (!over && oldest->revision != dropped) break;
    dropped = oldest->revision;
    in->kept_bytes -= size_of(oldest);
    let_go(oldest);
    in->first++;
  }
  // The room before the first is used again once it is half of all.
  if (in->first > in->kept.count / 2) {
    in->kept.count -= in->first;
    memmove(in->kept.items, in->kept.items + in->first, in->kept.count * sizeof *in->kept.items);
    in->first = 0;
  }
}

static bool check(space *in, const kv_write *write, kv_error *why) {
  entry *old = space_get(in, write->key);
  uint64_t revision = old != NULL ? old->revision : 0;
  bool holds = true;
  switch (write->condition.tag) {
    case EXPORTS_PLATFORM_KV_STORE_CONDITION_ABSENT: holds = revision == 0; break;
    case EXPORTS_PLATFORM_KV_STORE_CONDITION_PRESENT: holds = revision > 0; break;
    case EXPORTS_PLATFORM_KV_STORE_CONDITION_AT: holds = revision > 0 && revision == write->condition.val.at; break;
  }
  return holds || kv_conflict(why, write->key, revision);
}

static uint64_t ends(space *in, text key, const kv_expiry *expiry) {
  entry *old = space_get(in, key);
  uint64_t at;
  switch (expiry->tag) {
    case EXPORTS_PLATFORM_KV_STORE_EXPIRY_KEEP: return old != NULL ? old->ends_ms : 0;
    case EXPORTS_PLATFORM_KV_STORE_EXPIRY_AFTER_MS:
      return __builtin_add_overflow(in->now_ms, expiry->val.after_ms, &at) ? UINT64_MAX : at;
    default: return 0;
  }
}

bool space_commit(space *in, kv_writes *writes, limits most, kv_error *why) {
  size_t bytes = in->held_bytes;
  for (size_t at = 0; at < writes->len; at++) {
    const kv_write *write = &writes->ptr[at];
    if (!check(in, write, why)) return false;
    entry *old = space_get(in, write->key);
    if (write->action.tag != EXPORTS_PLATFORM_KV_STORE_ACTION_CHECK && old != NULL) bytes -= size_of(old);
    if (write->action.tag == EXPORTS_PLATFORM_KV_STORE_ACTION_PUT) {
      bytes += write->key.len + write->action.val.put.value.len + OVERHEAD;
    }
  }
  if (bytes > most.bytes && bytes > in->held_bytes) return kv_quota(why, "memory for entries is used up");
  uint64_t revision = in->revision + 1;
  for (size_t at = 0; at < writes->len; at++) {
    kv_write *write = &writes->ptr[at];
    if (write->action.tag == EXPORTS_PLATFORM_KV_STORE_ACTION_PUT) {
      exports_platform_kv_store_content_t *put = &write->action.val.put;
      value *held = platform_alloc(sizeof *held);
      *held = (value){0, put->value};
      put->value = (plugin_list_u8_t){NULL, 0};
      change(in, write->key, held, ends(in, write->key, &put->expiry), revision);
    } else if (write->action.tag == EXPORTS_PLATFORM_KV_STORE_ACTION_DELETE && space_get(in, write->key) != NULL) {
      change(in, write->key, NULL, 0, revision);
    }
  }
  trim(in, most);
  return true;
}
