-- ARGV[3]: the revision that the store goes on above, 0 for none; ARGV[4]: how many fences follow, name and token each. Then five
-- for each key: `put` or `delete`; key, revision, value, and when it expires in milliseconds or nothing. Nobody is told.
local revision, at = tonumber(ARGV[3]), 5
for _ = 1, tonumber(ARGV[4]) do
  local seen = redis.call('HGET', FENCES, ARGV[at])
  if not seen or seen < ARGV[at + 1] then redis.call('HSET', FENCES, ARGV[at], ARGV[at + 1]) end
  at = at + 2
end
for i = at, #ARGV, 5 do
  local action, key, made, value, expires = unpack(ARGV, i, i + 4)
  local held = redis.call('HEXISTS', META, key) == 1
  local old = held and #key + redis.call('STRLEN', value_key(key)) or 0
  if action == 'put' then
    redis.call('SET', value_key(key), value)
    redis.call('HSET', META, key, made .. ' ' .. expires)
    redis.call('ZADD', INDEX, 0, key)
    if expires ~= '' then
      redis.call('ZADD', DUE, expires, key)
    else
      redis.call('ZREM', DUE, key)
    end
    redis.call('INCRBY', BYTES, #key + #value - old)
  elseif held then
    forget(key)
  end
end
if revision > 0 then
  redis.call('DEL', LOG, LOGGED)
  redis.call('SET', GONE, text(revision))
  if number(REVISION) < revision then redis.call('SET', REVISION, text(revision)) end
end
return 'made'
