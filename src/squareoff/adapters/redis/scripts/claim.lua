-- Lock the run and write where it is moving to. A lock of an older fence is taken over: its holder can send nothing.
-- KEYS: epoch runtime timers events done lock
-- ARGV: epoch request id run_id version known sent state fence token ttl_ms event  m m*runtime  (score member)*
local epoch, runtime, timers, events, done, lock = unpack(KEYS)
local request, id, run_id, version, fence, token = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[9], ARGV[10]
if not is_epoch(epoch, ARGV[1]) then return 'damaged' end
if redis.call('ZSCORE', done, request) then return 'ok' end

local saved = redis.call('HMGET', runtime, unpack(SAVED))
local no = objection(saved, run_id, tonumber(version), tonumber(fence), tonumber(ARGV[6]), tonumber(ARGV[7]))
if no == 'stale' then return 'busy' end
if no then return no end

local holder = redis.call('GET', lock)
if holder and holder ~= token and (tonumber(string.match(holder, '^%d+')) or -1) >= tonumber(fence) then
  return 'busy'
end

local now = now_ms()
local m = tonumber(ARGV[13])
redis.call('SET', lock, token, 'PX', ARGV[11])
write_runtime(runtime, fence, saved[4], now, 14, m)
set_timers(timers, id, 14 + m, #ARGV)
tell(events, 'kind', 'claim', 'strategy_id', id, 'run_id', run_id, 'state', ARGV[8], 'version', version,
  'fence', fence, 'event', ARGV[12])
remember(done, request, now)
return 'ok'
