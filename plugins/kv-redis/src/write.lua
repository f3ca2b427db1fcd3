-- What the scripts that write begin with, after the space: the fence, the quota, and how a key gets a value.
--
-- ARGV[3] and ARGV[4]: most keys and bytes, or nothing. ARGV[5] and ARGV[6]: name and token of the fence, the token in 20
-- digits, or nothing; texts of one length compare like numbers.
local fence, token = ARGV[5], ARGV[6]
if token ~= '' then
  local seen = redis.call('HGET', FENCES, fence)
  if seen and seen > token then return { 'stale', seen } end
end

-- To be called with a write that is made: from now on smaller tokens are stale.
local function pass()
  if token ~= '' then redis.call('HSET', FENCES, fence, token) end
end

local function size(key)
  return #key + redis.call('STRLEN', value_key(key))
end

-- The refusal of so many more keys and bytes, if the quota has no room for them.
local function excess(keys, bytes)
  local most_keys, most_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
  local held_keys, held_bytes = redis.call('ZCARD', INDEX) + keys, number(BYTES) + bytes
  if most_keys and keys > 0 and held_keys > most_keys then return { 'quota', 'keys', held_keys } end
  if most_bytes and bytes > 0 and held_bytes > most_bytes then return { 'quota', 'bytes', held_bytes } end
end

local function put(key, value, expires, is_there, revision, place)
  local old = is_there and size(key) or 0
  redis.call('SET', value_key(key), value)
  redis.call('HSET', META, key, text(revision) .. ' ' .. (expires and text(expires) or ''))
  redis.call('ZADD', INDEX, 0, key)
  if expires then
    redis.call('ZADD', DUE, text(expires), key)
  else
    redis.call('ZREM', DUE, key)
  end
  redis.call('INCRBY', BYTES, #key + #value - old)
  note(revision, place, key, value, expires)
end
