"""Values under keys in the memory of one instance: the provider of `kv.store` that a project in Python begins with.

The settings are {"max_bytes": 16777216, "max_changes": 10000}. It never waits: `changes` answers at once."""

import re
import unicodedata

from platform_sdk import kv_error, settings
from space import COMMIT_BYTES, Space
from wit_world import exports
from wit_world.exports import store
from wit_world.imports import context

KEY_BYTES = 1024
VALUE_BYTES = 8 << 20
MOST = 1000
NUMBER = re.compile(r"-?[0-9]+", re.ASCII)

limits = {}
spaces = {}


class Lifecycle(exports.Lifecycle):
    def configure(self, text):
        limits.update(settings(text, max_bytes=16 << 20, max_changes=10_000))

    def self_test(self):
        pass


def space():
    """That of the call's namespace, with what has ended gone."""
    found = spaces.get(context.namespace()) or Space()
    found.advance(context.time_ns() // 1_000_000)
    return found


def written(write):
    """What a write returns that is behind the fence of the call; the namespace stays only if something was written."""
    found, fence = space(), context.fencing()
    if fence and found.fences.get(fence.name, 0) > fence.token:
        raise kv_error("Stale", found.fences[fence.name])
    result = write(found)
    if fence:
        found.fences[fence.name] = fence.token
    if found.revision or found.fences:
        spaces[context.namespace()] = found
    return result


def check_key(key):
    if not key:
        raise kv_error("Invalid", "the key is empty")
    if len(key.encode()) > KEY_BYTES:
        raise kv_error("TooLarge", f"the key has {len(key.encode())} bytes, the limit is {KEY_BYTES}")
    if any(unicodedata.category(one) == "Cc" for one in key):
        raise kv_error("Invalid", "the key has a control character")


def check_keys(keys):
    if not 1 <= len(keys) <= MOST:
        raise kv_error("TooLarge" if keys else "Invalid", f"there are {len(keys)} keys; 1 to {MOST} are allowed")
    for key in keys:
        check_key(key)


def check_writes(writes):
    check_keys([write.key for write in writes])
    if len({write.key for write in writes}) < len(writes):
        raise kv_error("Invalid", "a key is written twice in one commit")
    size = 0
    for write in writes:
        size += len(write.key.encode())
        if isinstance(write.action, store.Action_Put):
            check_content(write.action.value)
            size += len(write.action.value.value)
    if size > COMMIT_BYTES:
        raise kv_error("TooLarge", f"the commit has {size} bytes, the limit is {COMMIT_BYTES}")


def check_content(content):
    if len(content.value) > VALUE_BYTES:
        raise kv_error("TooLarge", f"the value has {len(content.value)} bytes, the limit is {VALUE_BYTES}")
    if isinstance(content.expiry, store.Expiry_AfterMs) and content.expiry.value == 0:
        raise kv_error("Invalid", "the time to live is 0 ms, the least is 1")


def check_limit(limit):
    if limit == 0:
        raise kv_error("Invalid", "the limit is 0, the least is 1")
    return min(limit, MOST)


def number(value):
    text = bytes(value).decode("ascii", "replace")
    if len(text) > 64 or not NUMBER.fullmatch(text) or not fits(int(text)):
        raise kv_error("Invalid", "the value is no decimal number of 64 bits")
    return int(text)


def fits(sum):
    return -(1 << 63) <= sum < 1 << 63


class Store(exports.Store):
    def get(self, key):
        check_key(key)
        return space().entries.get(key)

    def get_many(self, keys):
        check_keys(keys)
        return space().many(keys)

    def put(self, key, value, condition, expiry):
        content = store.Content(value, expiry)
        check_key(key)
        check_content(content)
        return self.commit([store.Write(key, condition, store.Action_Put(content))])

    def delete(self, key, condition):
        before = space().revision
        revision = self.commit([store.Write(key, condition, store.Action_Delete())])
        return revision if revision > before else None

    def commit(self, writes):
        check_writes(writes)
        return written(lambda space: space.commit(writes, limits))

    def increment(self, key, by):
        check_key(key)

        def add(space):
            old = space.entries.get(key)
            sum = (number(old.value) if old else 0) + by
            if not fits(sum):
                raise kv_error("Invalid", "the sum does not fit in 64 bits")
            content = store.Content(str(sum).encode(), store.Expiry_Keep())
            space.commit([store.Write(key, store.Condition_Always(), store.Action_Put(content))], limits)
            return sum

        return written(add)

    def used(self):
        return space().used()

    def scan(self, prefix, after, limit):
        return space().scan(prefix, after, check_limit(limit))

    def changes(self, prefix, after, limit, wait_ms):
        return space().changes(prefix, after, check_limit(limit))

    def revision(self):
        return space().revision
