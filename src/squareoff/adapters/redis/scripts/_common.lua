-- Shared by all scripts. `TIMERS` and `SCRIPT_VERSION` are put before this text when it is loaded.
-- The first line of a script is "#!lua": then Redis refuses the whole script when it is out of memory or a
-- replica, before its first write. Without it, half of a script could be applied.

local DONE_FOR_MS = 600000
local EVENTS_KEPT = '20000'

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function is_epoch(key, epoch)
  return redis.call('HGET', key, 'epoch') == epoch
end

local SAVED = {'run_id', 'version', 'fence', 'settled_version'}

-- What the saved fields mean for a writer: nil (may write), 'busy', 'damaged', or 'stale': the writer itself has
-- settled a newer version already. A claim only announces, so it may be taken back to the version settled before.
-- `known` is the writer's last acknowledged version, `sent` the highest it ever sent.
local function objection(saved, run_id, version, fence, known, sent)
  local saved_version, saved_fence, settled = tonumber(saved[2]), tonumber(saved[3]), tonumber(saved[4])
  if saved[1] ~= run_id or not saved_version or not saved_fence or not settled then return 'damaged' end
  if saved_fence > fence then return 'busy' end
  if saved_version < known then return 'damaged' end
  if saved_version > version and saved_version > sent then return 'damaged' end
  if settled > version then return 'stale' end
  return nil
end

local function write_strategy(key, first, count)
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(ARGV, first, first + count - 1))
end

local function write_runtime(key, fence, settled, now, first, count)
  redis.call('DEL', key)
  redis.call('HSET', key, 'fence', fence, 'settled_version', settled, 'updated_at_ms', now,
    unpack(ARGV, first, first + count - 1))
end

local function drop_timers(key, id)
  local members = {}
  for i, name in ipairs(TIMERS) do members[i] = id .. ':' .. name end
  redis.call('ZREM', key, unpack(members))
end

local function set_timers(key, id, first, last)
  drop_timers(key, id)
  if last > first then redis.call('ZADD', key, unpack(ARGV, first, last)) end
end

local function tell(key, ...)
  redis.call('XADD', key, 'MAXLEN', '~', EVENTS_KEPT, '*', ...)
end

local function remember(key, request, now)
  redis.call('ZADD', key, now, request)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - DONE_FOR_MS)
end
