-- Delete what was there, unless another rebuild has begun since.   KEYS: epoch key*   ARGV: epoch
if redis.call('HGET', KEYS[1], 'building') ~= ARGV[1] then return 'busy' end
redis.call('DEL', unpack(KEYS, 2))
return 'ok'
