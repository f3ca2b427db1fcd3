-- What every script begins with: the names of a namespace's keys, time, and the steps that keep them consistent.
--
-- KEYS[1] is the prefix of the namespace; its hash tag keeps all of it on one node of a cluster. ARGV[1] and ARGV[2] say how
-- many changes are kept, and how many bytes of them. Redis runs a script as one step, so what holds before holds after:
-- INDEX and META name exactly the keys that have a value, DUE those of them that expire, BYTES is their size with their
-- keys, LOG holds all changes after revision GONE in order, and LOGGED is its size. FENCES holds the greatest token of each
-- lock that a commit was fenced with.
local P = KEYS[1]
local REVISION, INDEX, META, DUE = P .. 'revision', P .. 'index', P .. 'meta', P .. 'due'
local BYTES, LOG, LOGGED, GONE = P .. 'bytes', P .. 'log', P .. 'logged', P .. 'gone'
local FENCES = P .. 'fences'
local MOST_BYTES, OVERHEAD = 16777216, 64
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function number(key)
  return tonumber(redis.call('GET', key) or '0')
end

local function text(value)
  return string.format('%.0f', value)
end

local function value_key(key)
  return P .. 'v:' .. key
end

local function note(revision, place, key, value, expires)
  local id = text(revision) .. '-' .. place
  if value then
    redis.call('XADD', LOG, id, 'k', key, 'v', value, 'e', expires and text(expires) or '')
  else
    redis.call('XADD', LOG, id, 'k', key)
  end
  redis.call('INCRBY', LOGGED, #key + #(value or '') + OVERHEAD)
end

local function trim()
  local logged, gone = number(LOGGED), nil
  while redis.call('XLEN', LOG) > tonumber(ARGV[1]) or logged > tonumber(ARGV[2]) do
    local oldest = redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
    if not oldest then break end
    redis.call('XDEL', LOG, oldest[1])
    logged = logged - #oldest[2][2] - #(oldest[2][4] or '') - OVERHEAD
    gone = string.match(oldest[1], '^%d+')
  end
  if gone then
    redis.call('SET', GONE, gone)
    redis.call('SET', LOGGED, text(logged))
  end
end

local function forget(key)
  local size = #key + redis.call('STRLEN', value_key(key))
  redis.call('DEL', value_key(key))
  redis.call('HDEL', META, key)
  redis.call('ZREM', INDEX, key)
  redis.call('ZREM', DUE, key)
  redis.call('INCRBY', BYTES, -size)
end

local function remove(key, revision, place)
  forget(key)
  note(revision, place, key)
end

-- The revision of a key and when it expires; nothing when it is absent or has just expired.
local function live(key)
  local meta = redis.call('HGET', META, key)
  if not meta then return nil end
  local revision, expires = string.match(meta, '^(%d+) (%d*)$')
  revision, expires = tonumber(revision), tonumber(expires)
  if expires and expires <= now then
    remove(key, redis.call('INCR', REVISION), 1)
    return nil
  end
  return revision, expires
end

for _, key in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', text(now), 'LIMIT', 0, 256)) do
  remove(key, redis.call('INCR', REVISION), 1)
end
trim()
