// The entries of one namespace, when they end, and what changed lately. It knows no clock: the time is told.
//
// Every commit that changes something has its own revision, one above the last.

// What an entry or a kept change takes besides its key and value.
const OVERHEAD = 128;
export const COMMIT_BYTES = 16 << 20;

const bytes = new TextEncoder();
export const lengthOf = (text) => bytes.encode(text).length;
const sizeOf = (key, entry) => lengthOf(key) + (entry ? entry.value.length : 0) + OVERHEAD;

// Why a call failed, to be thrown.
export function error(tag, val) {
  return Object.assign(new Error(tag), { payload: { tag, val } });
}

// The order of bytes is that of code points, and not that of JavaScript's halves of them.
function compare(one, other) {
  for (let at = 0; at < one.length && at < other.length; at++) {
    const [a, b] = [one.charCodeAt(at), other.charCodeAt(at)];
    if (a !== b) {
      const [high, low] = [a, b].map((unit) => unit >= 0xd800 && unit < 0xe000);
      return high === low ? a - b : high - low;
    }
  }
  return one.length - other.length;
}

// Where a key is among others, or would be.
function place(keys, key) {
  let [from, to] = [0, keys.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (compare(keys[middle], key) < 0) from = middle + 1;
    else to = middle;
  }
  return from;
}

export class Space {
  keys = [];
  entries = new Map();
  ending = new Set();
  kept = [];
  fences = new Map();
  revision = 0n;
  nowMs = 0n;
  entryBytes = 0;
  keptBytes = 0;

  // Lets time pass: what has ended goes, each with a revision of its own.
  advance(nowMs) {
    if (nowMs > this.nowMs) this.nowMs = nowMs;
    const ended = [...this.ending].filter((key) => this.entries.get(key).expiresMs <= this.nowMs);
    for (const key of ended) {
      this.revision += 1n;
      this.change(key, undefined);
    }
  }

  many(keys) {
    const found = keys.map((key) => this.entries.get(key));
    const size = found.reduce((sum, entry, at) => sum + (entry ? lengthOf(keys[at]) + entry.value.length : 0), 0);
    if (size > COMMIT_BYTES) throw error('too-large', `the keys hold ${size} bytes, the limit is ${COMMIT_BYTES}`);
    return found;
  }

  // All of the writes or none; their shared revision, or the current one when nothing was there to change.
  commit(writes, limits) {
    let size = this.entryBytes;
    for (const { key, condition, action } of writes) {
      const old = this.entries.get(key);
      this.check(key, condition, old);
      if (action.tag !== 'check') size -= old ? sizeOf(key, old) : 0;
      if (action.tag === 'put') size += sizeOf(key, action.val);
    }
    if (size > limits.max_bytes && size > this.entryBytes) {
      throw error('quota', `memory is used up: ${size} bytes would be needed, ${limits.max_bytes} are there`);
    }
    const revision = this.revision + 1n;
    for (const { key, action } of writes) {
      if (action.tag === 'put') {
        this.revision = revision;
        this.change(key, { value: action.val.value, revision, expiresMs: this.ends(key, action.val.expiry) });
      } else if (action.tag === 'delete' && this.entries.has(key)) {
        this.revision = revision;
        this.change(key, undefined);
      }
    }
    this.trim(limits);
    return this.revision;
  }

  check(key, { tag, val }, old) {
    const revision = old ? old.revision : 0n;
    const holds = { always: true, absent: !old, present: !!old, at: !!old && revision === val };
    if (!holds[tag]) throw error('conflict', { key, revision });
  }

  ends(key, { tag, val }) {
    const most = (1n << 64n) - 1n;
    if (tag === 'after-ms') return this.nowMs + val < most ? this.nowMs + val : most;
    return tag === 'keep' ? this.entries.get(key)?.expiresMs : undefined;
  }

  // Makes a key hold something or nothing, and remembers that it did.
  change(key, entry) {
    const old = this.entries.get(key);
    if (old) this.entryBytes -= sizeOf(key, old);
    this.ending.delete(key);
    if (entry) {
      this.entryBytes += sizeOf(key, entry);
      this.entries.set(key, entry);
      if (entry.expiresMs !== undefined) this.ending.add(key);
    } else {
      this.entries.delete(key);
    }
    if (entry && !old) this.keys.splice(place(this.keys, key), 0, key);
    if (old && !entry) this.keys.splice(place(this.keys, key), 1);
    this.kept.push({ key, entry, revision: this.revision });
    this.keptBytes += sizeOf(key, entry);
  }

  // Drops the changes of the oldest commits that have no room, each commit as a whole.
  trim(limits) {
    let [count, dropped] = [0, 0n];
    for (const { key, entry, revision } of this.kept) {
      const many = this.kept.length - count > limits.max_changes;
      if (!many && this.entryBytes + this.keptBytes <= limits.max_bytes && revision !== dropped) break;
      dropped = revision;
      this.keptBytes -= sizeOf(key, entry);
      count += 1;
    }
    this.kept.splice(0, count);
  }

  used() {
    return { keys: BigInt(this.keys.length), bytes: BigInt(this.entryBytes - OVERHEAD * this.keys.length) };
  }

  scan(prefix, after, limit) {
    let at = place(this.keys, prefix);
    if (after !== undefined && compare(after, prefix) >= 0) {
      at = place(this.keys, after);
      if (this.keys[at] === after) at += 1;
    }
    const found = [];
    for (; found.length < limit && at < this.keys.length && this.keys[at].startsWith(prefix); at++) {
      found.push([this.keys[at], this.entries.get(this.keys[at])]);
    }
    return found;
  }

  changes(prefix, after, limit) {
    const oldest = this.kept.length > 0 ? this.kept[0].revision - 1n : this.revision;
    if (after > 0n && after < oldest) throw error('compacted', oldest);
    const found = [];
    for (const change of this.kept) {
      if (change.revision <= after || !change.key.startsWith(prefix)) continue;
      // Who resumes after a revision is not asked twice for it, so its changes come together.
      if (found.length >= limit && found.at(-1).revision !== change.revision) break;
      found.push(change);
    }
    return found;
  }
}
