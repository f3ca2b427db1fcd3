-- ARGV[3] and ARGV[4]: most keys and bytes, or nothing. ARGV[5] and ARGV[6]: name and token of the fence, the token in 20
-- digits, or nothing; texts of one length compare like numbers. From 7 on seven for each write: `put`, `delete` or `check`; the
-- condition and its revision; key and value; the expiry and its milliseconds.
local function writes()
  local i = 0
  return function()
    i = i + 7
    if i <= #ARGV then
      return unpack(ARGV, i, i + 6)
    end
  end
end

local fence, token = ARGV[5], ARGV[6]
if token ~= '' then
  local seen = redis.call('HGET', FENCES, fence)
  if seen and seen > token then return { 'stale', seen } end
end
local function pass()
  if token ~= '' then redis.call('HSET', FENCES, fence, token) end
end

local keys, bytes, changes = 0, 0, 0
for action, condition, at, key, value in writes() do
  local revision = live(key)
  local holds = condition == 'always' or (condition == 'absent' and not revision)
    or (condition == 'present' and revision) or (condition == 'at' and revision == tonumber(at))
  if not holds then return { 'conflict', key, revision or 0 } end
  local old = revision and #key + redis.call('STRLEN', value_key(key)) or 0
  if action == 'put' then
    keys, bytes, changes = keys + (revision and 0 or 1), bytes + #key + #value - old, changes + 1
  elseif action == 'delete' and revision then
    keys, bytes, changes = keys - 1, bytes - old, changes + 1
  end
end
if changes == 0 then
  pass()
  return { 'made', number(REVISION), 0 }
end

local most_keys, most_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local held_keys, held_bytes = redis.call('ZCARD', INDEX) + keys, number(BYTES) + bytes
if most_keys and keys > 0 and held_keys > most_keys then return { 'quota', 'keys', held_keys } end
if most_bytes and bytes > 0 and held_bytes > most_bytes then return { 'quota', 'bytes', held_bytes } end

local made, place = redis.call('INCR', REVISION), 0
for action, _, _, key, value, expiry, ms in writes() do
  local revision, expires = live(key)
  if action == 'put' then
    if expiry == 'never' then
      expires = nil
    elseif expiry == 'after' then
      expires = now + tonumber(ms)
    end
    local old = revision and #key + redis.call('STRLEN', value_key(key)) or 0
    redis.call('SET', value_key(key), value)
    redis.call('HSET', META, key, text(made) .. ' ' .. (expires and text(expires) or ''))
    redis.call('ZADD', INDEX, 0, key)
    if expires then
      redis.call('ZADD', DUE, text(expires), key)
    else
      redis.call('ZREM', DUE, key)
    end
    redis.call('INCRBY', BYTES, #key + #value - old)
    place = place + 1
    note(made, place, key, value, expires)
  elseif action == 'delete' and revision then
    place = place + 1
    remove(key, made, place)
  end
end
pass()
trim()
return { 'made', made, changes }
