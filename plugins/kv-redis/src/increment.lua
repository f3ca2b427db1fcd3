-- ARGV[7]: the key; ARGV[8]: what is added to its number. Answers the sum as text, or that the value is no number, or that the sum
-- does not fit. Numbers of scripts hold 53 bits, so the server adds, at a place of its own.
local SUM = P .. 'sum'
local key = ARGV[7]
local revision, expires = live(key)
local sign, digits = string.match(revision and redis.call('GET', value_key(key)) or '0', '^(-?)0*(%d+)$')
local most = sign == '-' and '9223372036854775808' or '9223372036854775807'
if not digits or #digits > #most or (#digits == #most and digits > most) then return { 'number' } end
local old = digits == '0' and digits or sign .. digits
redis.call('SET', SUM, old)
local fits = type(redis.pcall('INCRBY', SUM, ARGV[8])) == 'number'
local sum = redis.call('GET', SUM)
redis.call('DEL', SUM)
if not fits then return { 'beyond', old } end

local refusal = excess(revision and 0 or 1, #key + #sum - (revision and size(key) or 0))
if refusal then return refusal end
put(key, sum, expires, revision, redis.call('INCR', REVISION), 1)
pass()
trim()
return { 'made', sum }
