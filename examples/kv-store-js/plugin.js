// Values under keys in the memory of one instance: the provider of `kv.store` that a project in JavaScript begins with.
//
// The settings are {"max_bytes": 16777216, "max_changes": 10000}. It never waits: `changes` answers at once.

import { fencing, namespace, timeNs } from 'platform:plugin/context@0.1.0';
import { COMMIT_BYTES, Space, error, lengthOf } from './space.js';

const KEY_BYTES = 1024;
const VALUE_BYTES = 8 << 20;
const MOST = 1000;

const spaces = new Map();
let limits = { max_bytes: 16 << 20, max_changes: 10_000 };

export const lifecycle = {
  // They match the schema of `manifest.json`, which says all that there is to them.
  configure(settings) {
    limits = { ...limits, ...JSON.parse(settings) };
  },
  selfTest() {},
};

// That of the call's namespace, with what has ended gone.
function space() {
  const found = spaces.get(namespace()) ?? new Space();
  found.advance(timeNs() / 1_000_000n);
  return found;
}

// What a write returns that is behind the fence of the call; the namespace stays only if something was written.
function written(write) {
  const [found, fence] = [space(), fencing()];
  const seen = fence ? found.fences.get(fence.name) : undefined;
  if (seen !== undefined && seen > fence.token) throw error('stale', seen);
  const result = write(found);
  if (fence) found.fences.set(fence.name, fence.token);
  if (found.revision > 0n || found.fences.size > 0) spaces.set(namespace(), found);
  return result;
}

function checkKey(key) {
  if (key === '') throw error('invalid', 'the key is empty');
  const length = lengthOf(key);
  if (length > KEY_BYTES) throw error('too-large', `the key has ${length} bytes, the limit is ${KEY_BYTES}`);
  if (/[\u0000-\u001f\u007f-\u009f]/.test(key)) throw error('invalid', 'the key has a control character');
}

function checkKeys(keys) {
  if (keys.length < 1 || keys.length > MOST) {
    throw error(keys.length < 1 ? 'invalid' : 'too-large', `there are ${keys.length} keys; 1 to ${MOST} are allowed`);
  }
  keys.forEach(checkKey);
}

function checkWrites(writes) {
  const keys = writes.map(({ key }) => key);
  checkKeys(keys);
  if (new Set(keys).size < keys.length) throw error('invalid', 'a key is written twice in one commit');
  let size = 0;
  for (const { key, action } of writes) {
    size += lengthOf(key);
    if (action.tag === 'put') {
      const { value, expiry } = action.val;
      if (value.length > VALUE_BYTES) throw error('too-large', `the value has ${value.length} bytes, the limit is ${VALUE_BYTES}`);
      if (expiry.tag === 'after-ms' && expiry.val === 0n) throw error('invalid', 'the time to live is 0 ms, the least is 1');
      size += value.length;
    }
  }
  if (size > COMMIT_BYTES) throw error('too-large', `the commit has ${size} bytes, the limit is ${COMMIT_BYTES}`);
}

function limitOf(limit) {
  if (limit === 0) throw error('invalid', 'the limit is 0, the least is 1');
  return Math.min(limit, MOST);
}

function fitting(number) {
  if (BigInt.asIntN(64, number) !== number) throw error('invalid', 'the number does not fit in 64 bits');
  return number;
}

function numberOf(value) {
  const text = value.length <= 64 ? String.fromCharCode(...value) : '';
  if (!/^-?[0-9]+$/.test(text)) throw error('invalid', 'the value is no decimal number');
  return fitting(BigInt(text));
}

function commit(writes) {
  checkWrites(writes);
  return written((space) => space.commit(writes, limits));
}

export const store = {
  get(key) {
    checkKey(key);
    return space().entries.get(key);
  },
  getMany(keys) {
    checkKeys(keys);
    return space().many(keys);
  },
  put(key, value, condition, expiry) {
    return commit([{ key, condition, action: { tag: 'put', val: { value, expiry } } }]);
  },
  delete(key, condition) {
    const before = space().revision;
    const revision = commit([{ key, condition, action: { tag: 'delete' } }]);
    return revision > before ? revision : undefined;
  },
  commit,
  increment(key, by) {
    checkKey(key);
    return written((space) => {
      const old = space.entries.get(key);
      // Negative numbers come as what their bits are without a sign.
      const sum = fitting((old ? numberOf(old.value) : 0n) + BigInt.asIntN(64, by));
      const value = Uint8Array.from(String(sum), (digit) => digit.charCodeAt(0));
      const content = { value, expiry: { tag: 'keep' } };
      space.commit([{ key, condition: { tag: 'always' }, action: { tag: 'put', val: content } }], limits);
      return sum;
    });
  },
  used: () => space().used(),
  scan: (prefix, after, limit) => space().scan(prefix, after ?? undefined, limitOf(limit)),
  changes: (prefix, after, limit, _waitMs) => space().changes(prefix, after, limitOf(limit)),
  revision: () => space().revision,
};
