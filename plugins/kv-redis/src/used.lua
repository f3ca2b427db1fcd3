-- Answers how many keys there are, their bytes, and the last revision.
return { redis.call('ZCARD', INDEX), number(BYTES), number(REVISION) }
