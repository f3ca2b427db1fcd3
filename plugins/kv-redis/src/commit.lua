-- From ARGV[7] on seven for each write: `put`, `delete` or `check`; the condition and its revision; key and value; the expiry and
-- its milliseconds.
local function writes()
  local i = 0
  return function()
    i = i + 7
    if i <= #ARGV then
      return unpack(ARGV, i, i + 6)
    end
  end
end

local keys, bytes, changes = 0, 0, 0
for action, condition, at, key, value in writes() do
  local revision = live(key)
  local holds = condition == 'always' or (condition == 'absent' and not revision)
    or (condition == 'present' and revision) or (condition == 'at' and revision == tonumber(at))
  if not holds then return { 'conflict', key, revision or 0 } end
  local old = revision and size(key) or 0
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
local refusal = excess(keys, bytes)
if refusal then return refusal end

local made, place = redis.call('INCR', REVISION), 0
for action, _, _, key, value, expiry, ms in writes() do
  local revision, expires = live(key)
  if action == 'put' then
    if expiry == 'never' then
      expires = nil
    elseif expiry == 'after' then
      expires = now + tonumber(ms)
    end
    place = place + 1
    put(key, value, expires, revision, made, place)
  elseif action == 'delete' and revision then
    place = place + 1
    remove(key, made, place)
  end
end
pass()
trim()
return { 'made', made, changes }
