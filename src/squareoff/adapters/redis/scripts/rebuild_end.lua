-- All is there: now, and only now, the new epoch.   KEYS: epoch events   ARGV: epoch server_run_id
if redis.call('HGET', KEYS[1], 'building') ~= ARGV[1] then return 'busy' end
tell(KEYS[2], 'kind', 'rebuild')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'server_run_id', ARGV[2], 'script_version', SCRIPT_VERSION)
return 'ok'
