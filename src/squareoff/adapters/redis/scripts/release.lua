-- Give the lock back if this token holds it.   KEYS: epoch lock   ARGV: epoch token
if not is_epoch(KEYS[1], ARGV[1]) then return 'damaged' end
if redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[2]) end
return 'ok'
