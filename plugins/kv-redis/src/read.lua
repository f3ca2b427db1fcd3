-- ARGV from 3: keys. Answers for each `{value, revision, expires}`, or nothing; a number when it is too much.
local size = 0
for i = 3, #ARGV do
  local held = redis.call('STRLEN', value_key(ARGV[i]))
  if held > 0 then size = size + #ARGV[i] + held end
end
if #ARGV > 3 and size > MOST_BYTES then return size end
local found = {}
for i = 3, #ARGV do
  local revision, expires = live(ARGV[i])
  if revision then
    found[i - 2] = { redis.call('GET', value_key(ARGV[i])), revision, expires or false }
  else
    found[i - 2] = false
  end
end
return found
