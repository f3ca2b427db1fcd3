// Helpers for plugins in C: text, settings, the log.
//
// Everything is `static inline`, so that what a plugin does not use is not in its component. `plugin.h` is generated from
// `plugin.wit` by `platform plugin build`, which leaves a copy in `target/bindings` to be read.
//
// Who frees what: arguments of an exported function are the plugin's to free, and what it answers with has to be allocated
// (`text_own`, `text_join`, `malloc`), because the host frees it. A policy whose instances serve one call each may leave all
// of that to the end of the call.
#ifndef PLATFORM_H
#define PLATFORM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

// A text: UTF-8 of a certain length, with no zero at its end.
typedef plugin_string_t text;
// What is wrong with settings.
typedef exports_platform_plugin_lifecycle_problem_t problem;

// Memory, or the end of the call: there is nothing that a plugin could do without.
static inline void *platform_alloc(size_t size) {
  void *memory = malloc(size > 0 ? size : 1);
  if (memory == NULL) __builtin_trap();
  return memory;
}

// --- text ---

// The bytes of a C string; nothing is copied.
static inline text text_of(const char *words) {
  return (text){(uint8_t *)words, strlen(words)};
}

// A copy, to answer with.
static inline text text_copy(text from) {
  text copy = {platform_alloc(from.len), from.len};
  if (from.len > 0) memcpy(copy.ptr, from.ptr, from.len);
  return copy;
}

// A copy of a C string, to answer with.
static inline text text_own(const char *words) { return text_copy(text_of(words)); }

// Less than 0, 0 or greater than 0, by bytes.
static inline int text_compare(text one, text other) {
  size_t least = one.len < other.len ? one.len : other.len;
  int order = least > 0 ? memcmp(one.ptr, other.ptr, least) : 0;
  return order != 0 ? order : (one.len > other.len) - (one.len < other.len);
}

static inline bool text_is(text one, const char *words) { return text_compare(one, text_of(words)) == 0; }

static inline bool text_begins(text one, text prefix) {
  return one.len >= prefix.len && (prefix.len == 0 || memcmp(one.ptr, prefix.ptr, prefix.len) == 0);
}

// Several texts as one, to answer with.
static inline text text_join(size_t count, const text parts[]) {
  size_t length = 0;
  for (size_t at = 0; at < count; at++) length += parts[at].len;
  text all = {platform_alloc(length), 0};
  for (size_t at = 0; at < count; at++) {
    if (parts[at].len > 0) memcpy(all.ptr + all.len, parts[at].ptr, parts[at].len);
    all.len += parts[at].len;
  }
  return all;
}

// A number in decimal, in a buffer of the caller's.
static inline text text_number(int64_t number, char buffer[static 24]) {
  char *at = buffer + 24;
  uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
  do *--at = (char)('0' + rest % 10);
  while ((rest /= 10) > 0);
  if (number < 0) *--at = '-';
  return (text){(uint8_t *)at, (size_t)(buffer + 24 - at)};
}

// Reads digits, with `-` before them if negative; whether that is all there is, and fits.
static inline bool text_to_number(text digits, int64_t *number) {
  bool negative = digits.len > 0 && digits.ptr[0] == '-';
  if (digits.len == (size_t)negative) return false;
  int64_t sum = 0;
  for (size_t at = negative; at < digits.len; at++) {
    int digit = digits.ptr[at] - '0';
    if (digit < 0 || digit > 9 || __builtin_mul_overflow(sum, 10, &sum)) return false;
    // Down for negative ones: there is one more of them.
    if (__builtin_add_overflow(sum, negative ? -digit : digit, &sum)) return false;
  }
  *number = sum;
  return true;
}

// --- settings ---
// The host has checked that settings are JSON, and that they match the `settings_schema` of `manifest.json`.

// Members of an object or elements of an array, one after the other.
typedef struct {
  text rest;
} json_items;

static inline text json_trimmed(text json) {
  while (json.len > 0 && (json.ptr[0] == ' ' || json.ptr[0] == '\n' || json.ptr[0] == '\t' || json.ptr[0] == '\r' ||
                          json.ptr[0] == ',' || json.ptr[0] == ':')) {
    json.ptr++, json.len--;
  }
  return json;
}

// How long the value is that the text begins with.
static inline size_t json_length(text json) {
  size_t at = 0, depth = 0;
  bool quoted = false;
  for (; at < json.len; at++) {
    uint8_t byte = json.ptr[at];
    if (quoted) {
      if (byte == '\\') at++;
      if (byte != '"') continue;
      quoted = false;
      if (depth == 0) return at + 1;
    } else if (byte == '"') {
      quoted = true;
    } else if (byte == '{' || byte == '[') {
      depth++;
    } else if (byte == '}' || byte == ']') {
      if (depth == 0) return at;
      if (--depth == 0) return at + 1;
    } else if (depth == 0 && (byte == ',' || byte == ':' || byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r')) {
      return at;
    }
  }
  return json.len < at ? json.len : at;
}

// The items of an object or an array; none of anything else.
static inline json_items json_begin(text json) {
  json = json_trimmed(json);
  bool has = json.len > 1 && (json.ptr[0] == '{' || json.ptr[0] == '[');
  return has ? (json_items){{json.ptr + 1, json.len - 1}} : (json_items){{json.ptr, 0}};
}

// The next value as it is written; false when there is none. In an object names and values come in turns.
static inline bool json_next(json_items *items, text *value) {
  text rest = json_trimmed(items->rest);
  size_t length = json_length(rest);
  if (length == 0) return false;
  *value = (text){rest.ptr, length};
  items->rest = (text){rest.ptr + length, rest.len - length};
  return true;
}

// The value of a member as it is written. `name` is taken literally: one that needs escapes is not found.
static inline bool json_member(text object, const char *name, text *value) {
  json_items items = json_begin(object);
  text key;
  while (json_next(&items, &key) && json_next(&items, value)) {
    if (key.len >= 2 && text_is((text){key.ptr + 1, key.len - 2}, name)) return true;
  }
  return false;
}

static inline bool json_integer(text json, int64_t *number) { return text_to_number(json, number); }

static inline bool json_boolean(text json, bool *value) {
  *value = text_is(json, "true");
  return *value || text_is(json, "false");
}

static inline int json_hex(text digits, size_t at) {
  int value = 0;
  for (size_t end = at + 4; at < end; at++) {
    int byte = at < digits.len ? digits.ptr[at] : 0;
    int digit = byte >= '0' && byte <= '9' ? byte - '0' : (byte | 32) >= 'a' && (byte | 32) <= 'f' ? (byte | 32) - 'a' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

// A copy of a string without its quotes and escapes.
static inline bool json_text(text json, text *value) {
  if (json.len < 2 || json.ptr[0] != '"') return false;
  text out = {platform_alloc(json.len), 0};
  for (size_t at = 1; at + 1 < json.len; at++) {
    uint32_t code = json.ptr[at];
    if (code != '\\') {
      out.ptr[out.len++] = (uint8_t)code;
      continue;
    }
    code = json.ptr[++at];
    if (code != 'u') {
      static const char names[] = "nrtbf", codes[] = "\n\r\t\b\f";
      const char *name = strchr(names, (int)code);
      out.ptr[out.len++] = (uint8_t)(code != 0 && name != NULL ? codes[name - names] : (char)code);
      continue;
    }
    int unit = json_hex(json, at + 1), low = unit >= 0xd800 && unit < 0xdc00 ? json_hex(json, at + 7) : -1;
    at += 4;
    code = unit < 0 ? 0xfffd : (uint32_t)unit;
    if (low >= 0xdc00 && low < 0xe000) {
      code = 0x10000 + ((code - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
      at += 6;
    } else if (code >= 0xd800 && code < 0xe000) {
      code = 0xfffd;
    }
    if (code < 0x80) {
      out.ptr[out.len++] = (uint8_t)code;
    } else if (code < 0x800) {
      out.ptr[out.len++] = (uint8_t)(0xc0 | code >> 6);
    } else {
      if (code < 0x10000) {
        out.ptr[out.len++] = (uint8_t)(0xe0 | code >> 12);
      } else {
        out.ptr[out.len++] = (uint8_t)(0xf0 | code >> 18);
        out.ptr[out.len++] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
      }
      out.ptr[out.len++] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    }
    if (code >= 0x80) out.ptr[out.len++] = (uint8_t)(0x80 | (code & 0x3f));
  }
  *value = out;
  return true;
}

// Refuses settings: `return refuse(problem, "what is wrong", "/pointer/to/it");`. Without a pointer give `NULL`.
static inline bool refuse(problem *why, const char *message, const char *at) {
  why->message = text_own(message);
  why->at.is_some = at != NULL;
  if (at != NULL) why->at.val = text_own(at);
  return false;
}

// --- the log ---

typedef platform_plugin_log_level_t log_level;

// Writes a line: `log_line(PLATFORM_PLUGIN_LOG_LEVEL_INFO, "took over");`
static inline void log_line(log_level level, const char *message) {
  text words = text_of(message);
  plugin_list_tuple2_string_string_t fields = {NULL, 0};
  platform_plugin_log_write(level, &words, &fields);
}

#endif
