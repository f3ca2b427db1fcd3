-- ARGV[3]: where to begin; ARGV[4]: where to end; ARGV[5]: most entries. Answers `{key, value, revision, expires}` for each.
local from, found, size = ARGV[3], {}, 0
while true do
  local page = redis.call('ZRANGEBYLEX', INDEX, from, ARGV[4], 'LIMIT', 0, 256)
  if #page == 0 then return found end
  for _, key in ipairs(page) do
    from = '(' .. key
    local revision, expires = live(key)
    if revision then
      local value = redis.call('GET', value_key(key))
      size = size + #key + #value
      if size > MOST_BYTES and #found > 0 then return found end
      found[#found + 1] = { key, value, revision, expires or false }
      if #found >= tonumber(ARGV[5]) then return found end
    end
  end
end
