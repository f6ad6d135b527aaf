-- From here on nobody's epoch is right, so nobody believes what is half written. Returns the epoch to come: it
-- names this script version, this server process and this instant.   KEYS: epoch   ARGV: server_run_id
local time = redis.call('TIME')
local epoch = SCRIPT_VERSION .. '-' .. ARGV[1] .. '-' .. time[1] .. '.' .. time[2]
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'building', epoch)
return epoch
