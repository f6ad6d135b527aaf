-- Write some runs, unless another rebuild has begun since.
-- KEYS: epoch timers (strategy runtime symbol)*   ARGV: epoch (id version  n n*strategy  m m*runtime  t t*(score|member))*
if redis.call('HGET', KEYS[1], 'building') ~= ARGV[1] then return 'busy' end
local now = now_ms()
local at = 2
for key = 3, #KEYS, 3 do
  local id, version, n = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local m = tonumber(ARGV[at + 3 + n])
  local t = tonumber(ARGV[at + 4 + n + m])
  write_strategy(KEYS[key], at + 3, n)
  write_runtime(KEYS[key + 1], '0', version, now, at + 4 + n, m)
  redis.call('SADD', KEYS[key + 2], id)
  if t > 0 then redis.call('ZADD', KEYS[2], unpack(ARGV, at + 5 + n + m, at + 4 + n + m + t)) end
  at = at + 5 + n + m + t
end
return 'ok'
