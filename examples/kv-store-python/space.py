"""The entries of one namespace, when they end, and what changed lately. It knows no clock: the time is told.

Every commit that changes something has its own revision, one above the last."""

from bisect import bisect_left, bisect_right, insort
from collections import deque

from platform_sdk import kv_error
from wit_world.exports import store
from wit_world.imports import types

# What an entry or a kept change takes besides its key and value.
OVERHEAD = 128
COMMIT_BYTES = 16 << 20


class Space:
    def __init__(self):
        self.keys = []
        self.entries = {}
        self.due = []
        self.kept = deque()
        self.fences = {}
        self.revision = self.now_ms = self.entry_bytes = self.kept_bytes = 0

    def advance(self, now_ms):
        """Lets time pass: what has ended goes, each with a revision of its own."""
        self.now_ms = max(self.now_ms, now_ms)
        while self.due and self.due[0][0] <= self.now_ms:
            self.revision += 1
            self.change(self.due[0][1], None)

    def many(self, keys):
        found = [self.entries.get(key) for key in keys]
        size = sum(len(key.encode()) + len(entry.value) for key, entry in zip(keys, found) if entry)
        if size > COMMIT_BYTES:
            raise kv_error("TooLarge", f"the keys hold {size} bytes, the limit is {COMMIT_BYTES}")
        return found

    def commit(self, writes, limits):
        """All of the writes or none; their shared revision, or the current one when nothing was there to change."""
        size = self.entry_bytes
        for write in writes:
            old = self.entries.get(write.key)
            self.check(write, old)
            if not isinstance(write.action, store.Action_Check):
                size -= entry_size(write.key, old) if old else 0
            if isinstance(write.action, store.Action_Put):
                size += entry_size(write.key, write.action.value)
        if size > limits["max_bytes"] and size > self.entry_bytes:
            raise kv_error("Quota", f"memory is used up: {size} bytes would be needed, {limits['max_bytes']} are there")
        revision = self.revision + 1
        for write in writes:
            if isinstance(write.action, store.Action_Put):
                self.revision = revision
                self.change(write.key, types.Entry(write.action.value.value, revision, self.ends(write)))
            elif isinstance(write.action, store.Action_Delete) and write.key in self.entries:
                self.revision = revision
                self.change(write.key, None)
        self.trim(limits)
        return self.revision

    def check(self, write, old):
        held = old.revision if old else 0
        match write.condition:
            case store.Condition_Absent():
                holds = held == 0
            case store.Condition_Present():
                holds = held > 0
            case store.Condition_At(value=wanted):
                holds = held > 0 and held == wanted
            case _:
                holds = True
        if not holds:
            raise kv_error("Conflict", types.Conflict(write.key, held))

    def ends(self, write):
        match write.action.value.expiry:
            case store.Expiry_AfterMs(value=after):
                return min(self.now_ms + after, (1 << 64) - 1)
            case store.Expiry_Keep():
                old = self.entries.get(write.key)
                return old.expires_ms if old else None
        return None

    def change(self, key, entry):
        """Makes a key hold something or nothing, and remembers that it did."""
        old = self.entries.pop(key, None)
        if old:
            self.entry_bytes -= entry_size(key, old)
            if old.expires_ms is not None:
                del self.due[bisect_left(self.due, (old.expires_ms, key))]
        if entry:
            self.entry_bytes += entry_size(key, entry)
            self.entries[key] = entry
            if entry.expires_ms is not None:
                insort(self.due, (entry.expires_ms, key))
        if entry and not old:
            insort(self.keys, key)
        elif old and not entry:
            del self.keys[bisect_left(self.keys, key)]
        self.kept.append(store.Change(key, entry, self.revision))
        self.kept_bytes += entry_size(key, entry)

    def trim(self, limits):
        """Drops the changes of the oldest commits that have no room, each commit as a whole."""
        dropped = 0
        while self.kept:
            over = len(self.kept) > limits["max_changes"] or self.entry_bytes + self.kept_bytes > limits["max_bytes"]
            if not over and self.kept[0].revision != dropped:
                break
            oldest = self.kept.popleft()
            dropped = oldest.revision
            self.kept_bytes -= entry_size(oldest.key, oldest.entry)

    def used(self):
        return store.Usage(len(self.keys), self.entry_bytes - OVERHEAD * len(self.keys), None, None)

    def scan(self, prefix, after, limit):
        # Texts are in the order of their code points, which is that of their bytes.
        start = bisect_right(self.keys, after) if after is not None and after >= prefix else bisect_left(self.keys, prefix)
        found = []
        for key in self.keys[start : start + limit]:
            if not key.startswith(prefix):
                break
            found.append((key, self.entries[key]))
        return found

    def changes(self, prefix, after, limit):
        oldest = self.kept[0].revision - 1 if self.kept else self.revision
        if 0 < after < oldest:
            raise kv_error("Compacted", oldest)
        found = []
        for change in self.kept:
            if change.revision <= after or not change.key.startswith(prefix):
                continue
            # Who resumes after a revision is not asked twice for it, so its changes come together.
            if len(found) >= limit and found[-1].revision != change.revision:
                break
            found.append(change)
        return found


def entry_size(key, entry):
    return len(key.encode()) + (len(entry.value) if entry else 0) + OVERHEAD
