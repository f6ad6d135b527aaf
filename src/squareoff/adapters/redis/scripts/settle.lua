-- Write the run as it is now and give the lock back if this token holds it.
-- KEYS: epoch runtime timers events done lock
-- ARGV: epoch request id run_id version known sent state fence token  m m*runtime  (score member)*
local epoch, runtime, timers, events, done, lock = unpack(KEYS)
local request, id, run_id, version, fence, token = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[9], ARGV[10]
if not is_epoch(epoch, ARGV[1]) then return 'damaged' end
if redis.call('ZSCORE', done, request) then return 'ok' end

local saved = redis.call('HMGET', runtime, unpack(SAVED))
local no = objection(saved, run_id, tonumber(version), tonumber(fence), tonumber(ARGV[6]), tonumber(ARGV[7]))
if no and no ~= 'stale' then return no end

if redis.call('GET', lock) == token then redis.call('DEL', lock) end
if no == 'stale' then return 'ok' end  -- what is there is newer, and ours

local now = now_ms()
local m = tonumber(ARGV[11])
write_runtime(runtime, fence, version, now, 12, m)
set_timers(timers, id, 12 + m, #ARGV)
tell(events, 'kind', 'settle', 'strategy_id', id, 'run_id', run_id, 'state', ARGV[8], 'version', version,
  'fence', fence)
remember(done, request, now)
return 'ok'
