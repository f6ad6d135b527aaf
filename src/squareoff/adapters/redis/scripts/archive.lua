-- Delete the keys of this run, never those of a later run of the same strategy.
-- KEYS: epoch runtime timers events strategy symbol lock   ARGV: epoch id run_id state version
local epoch, runtime, timers, events, strategy, symbol, lock = unpack(KEYS)
local id, run_id = ARGV[2], ARGV[3]
if not is_epoch(epoch, ARGV[1]) then return 'damaged' end
local saved = redis.call('HGET', runtime, 'run_id') or redis.call('HGET', strategy, 'run_id')
if saved ~= run_id then return 'ok' end

redis.call('DEL', runtime, strategy, lock)
redis.call('SREM', symbol, id)
drop_timers(timers, id)
tell(events, 'kind', 'archive', 'strategy_id', id, 'run_id', run_id, 'state', ARGV[4], 'version', ARGV[5])
return 'ok'
