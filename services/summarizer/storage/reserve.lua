-- `reserved` is a sorted set of calls, `id:tokens`, by the time from which each may be made, some
-- of it yet to come. A call gets the first time after the last one's that keeps every window within
-- the limits, so none asks twice and the first come are the first served.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', reserved, '-inf', now - window)
local at = now + math.max(0, redis.call('PTTL', paused))
local last = redis.call('ZRANGE', reserved, -1, -1, 'WITHSCORES')
if last[2] then at = math.max(at, tonumber(last[2])) end
if most_calls > 0 then
  local full = redis.call('ZRANGE', reserved, -most_calls, -most_calls, 'WITHSCORES')
  if full[2] then at = math.max(at, tonumber(full[2]) + window) end
end
if most_tokens > 0 then
  tokens = math.min(tokens, most_tokens)
  local room = most_tokens - tokens
  local taken = redis.call('ZREVRANGE', reserved, 0, -1, 'WITHSCORES')
  for i = 1, #taken, 2 do
    room = room - tonumber(string.match(taken[i], ':(%d+)$'))
    if room < 0 then
      at = math.max(at, tonumber(taken[i + 1]) + window)
      break
    end
  end
end
if at - now > within then return {0, at - now, 0} end
redis.call('ZADD', reserved, at, id .. ':' .. tokens)
redis.call('PEXPIRE', reserved, at - now + window)
return {1, at - now, tokens}
