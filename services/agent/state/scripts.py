"""Lua scripts: what must happen in one step at Redis. Each touches keys of one hash tag, and may be repeated.

Keys of a call come in this order: record, lease, conversation, resume, heard.
"""

# ARGV: agent, lease in ms, digest of the resume token or nothing, fields of the record. Gives what became of the call,
# and the conversation's last number.
HOLD = """
local moved = redis.call('HGET', KEYS[1], 'continued_by')
if moved then return {'moved', 0} end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('HDEL', KEYS[1], 'ended', 'reason')
if ARGV[3] ~= '' then redis.call('SET', KEYS[4], ARGV[3]) end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
for _, at in ipairs({1, 3, 4}) do redis.call('PERSIST', KEYS[at]) end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
local number = last[1] and tonumber(string.match(last[1][1], '^%d+')) or 0
return {redis.call('HEXISTS', KEYS[1], 'wanted_by') == 1 and 'wanted' or 'held', number}
"""

# ARGV: seconds to keep it, seconds to keep the resume token (0: not at all), fields of the record.
FINISH = """
if redis.call('HEXISTS', KEYS[1], 'continued_by') == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('HDEL', KEYS[1], 'wanted_by')
redis.call('DEL', KEYS[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[1])
redis.call('EXPIRE', KEYS[4], ARGV[2])
return 1
"""

# ARGV: seconds to keep it, seconds to keep the resume token, Unix time, reason.
BURY = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 'held' end
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'ended' then return 'over' end
redis.call('HSET', KEYS[1], 'state', 'ended', 'ended', ARGV[3], 'reason', ARGV[4])
redis.call('HDEL', KEYS[1], 'wanted_by')
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[1])
redis.call('EXPIRE', KEYS[4], ARGV[2])
return 'lost'
"""

# ARGV: per entry its number, the least number before it, how many fields follow, and these. Gives the last number.
APPEND = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local top = last[1] and tonumber(string.match(last[1][1], '^%d+')) or 0
local at = 1
while at <= #ARGV do
  local number, after, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if number > top then
    if top < after then return top end
    redis.call('XADD', KEYS[1], ARGV[at] .. '-0', unpack(ARGV, at + 3, at + 2 + count))
    top = number
  end
  at = at + 3 + count
end
return top
"""

# ARGV: id of the call that goes on with this one. Gives the id of the one that does: whoever asks first.
CLAIM = """
local first = redis.call('HGET', KEYS[1], 'continued_by')
if first then return first end
if redis.call('HGET', KEYS[1], 'state') ~= 'ended' then return '' end
redis.call('HSET', KEYS[1], 'continued_by', ARGV[1])
return ARGV[1]
"""

# ARGV: as for CLAIM, which is undone.
UNCLAIM = """
if redis.call('HGET', KEYS[1], 'continued_by') ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], 'continued_by')
"""

# ARGV: an agent that would take the call over. Nothing for a call that has ended.
WANT = """
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'ended' then return 0 end
redis.call('HSET', KEYS[1], 'wanted_by', ARGV[1])
return 1
"""
