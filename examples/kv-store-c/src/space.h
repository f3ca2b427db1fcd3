// The entries of one namespace, when they end, and what changed lately. It knows no clock: the time is told.
//
// Every commit that changes something has its own revision, one above the last.
#ifndef SPACE_H
#define SPACE_H

#include "platform_kv.h"

// A value, shared by an entry and the change that made it.
typedef struct {
  size_t holders;
  plugin_list_u8_t bytes;
} value;

// What a key holds; without a value, that it went.
typedef struct {
  text key;
  value *held;
  uint64_t revision;
  // 0 where it stays.
  uint64_t ends_ms;
} entry;

// Entries by key or by age.
typedef struct {
  entry *items;
  size_t count, room;
} entries;

typedef struct {
  text name;
  // Entries by key, and changes of the latest commits, oldest first, from `first` on.
  entries held, kept;
  size_t first;
  uint64_t revision, now_ms;
  size_t held_bytes, kept_bytes;
  // Greatest tokens of fences, by name.
  platform_plugin_context_fence_t *fences;
  size_t fence_count;
} space;

// What may be kept in a namespace.
typedef struct {
  size_t bytes, changes;
} limits;

// Lets time pass: what has ended goes, each with a revision of its own.
void space_advance(space *in, uint64_t now_ms);

// What a key holds, or `NULL`.
entry *space_get(space *in, text key);

// Makes all of the writes or none. Values are taken over, and are then no longer those of the writes.
bool space_commit(space *in, kv_writes *writes, limits most, kv_error *why);

// Where the first entry is whose key is not before another.
size_t space_find(space *in, text key);

#endif
