-- Answers names and tokens of all fences.
return redis.call('HGETALL', FENCES)
