-- Create the keys of a started run, or write them anew after an edit. Its lock and fence stay.
-- KEYS: epoch runtime timers events done strategy symbol
-- ARGV: epoch request id run_id version known sent state  n n*strategy  m m*runtime  (score member)*
local epoch, runtime, timers, events, done, strategy, symbol = unpack(KEYS)
local request, id, run_id, version = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if not is_epoch(epoch, ARGV[1]) then return 'damaged' end
if redis.call('ZSCORE', done, request) then return 'ok' end

local known, fence = tonumber(ARGV[6]), '0'
local saved = redis.call('HMGET', runtime, unpack(SAVED))
if not saved[1] then
  if known > 0 then return 'damaged' end
elseif saved[1] == run_id then
  fence = saved[3]
  local no = objection(saved, run_id, tonumber(version), tonumber(fence) or -1, known, tonumber(ARGV[7]))
  if no == 'stale' then return 'ok' end
  if no then return no end
elseif (tonumber(saved[1]) or 0) > tonumber(run_id) then
  return 'busy'
end

local now = now_ms()
local n = tonumber(ARGV[9])
local m = tonumber(ARGV[10 + n])
write_strategy(strategy, 10, n)
write_runtime(runtime, fence, version, now, 11 + n, m)
set_timers(timers, id, 11 + n + m, #ARGV)
redis.call('SADD', symbol, id)
tell(events, 'kind', 'arm', 'strategy_id', id, 'run_id', run_id, 'state', ARGV[8], 'version', version)
remember(done, request, now)
return 'ok'
