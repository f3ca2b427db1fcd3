-- ARGV[3]: the revision after which; ARGV[4]: most changes; ARGV[5]: what their keys start with. Answers
-- `{revision, key, value, expires}` for each, without a value where the key went; else the oldest revision that can be asked for, or
-- the last revision and the time in milliseconds until a key expires.
local after, limit, prefix = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local gone, last = number(GONE), number(REVISION)
if after > 0 and after < gone then return { 'compacted', gone } end
if after > last then return { 'none', last, -1 } end

local found, size, revision = {}, 0, nil
local from = text(math.max(after, gone) + 1) .. '-0'
repeat
  local page = redis.call('XRANGE', LOG, from, '+', 'COUNT', 256)
  for _, entry in ipairs(page) do
    local id, fields = entry[1], entry[2]
    from = '(' .. id
    local at = tonumber(string.match(id, '^%d+'))
    -- Changes of one commit come together.
    if at ~= revision and (#found >= limit or size > MOST_BYTES) then return { 'changes', found } end
    revision = at
    if string.sub(fields[2], 1, #prefix) == prefix then
      size = size + #fields[2] + #(fields[4] or '')
      found[#found + 1] = { at, fields[2], fields[4] or false, tonumber(fields[6] or '') or false }
    end
  end
until #page == 0
if #found > 0 then return { 'changes', found } end
local due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
return { 'none', last, due and math.max(tonumber(due) - now, 1) or -1 }
