"""The scripts of the log: each runs alone and whole, so that no reader sees a row without its indexes."""

from service.store.redis_client import Script

DIGEST_LENGTH = 32
GROUP = "settlers"

# KEYS: impressions, displayed, at, forgotten, the user's set of each; ARGV: request id, impression, displayed, at of
# each.
SHOW = Script("""
local new = 0
for n = 1, #ARGV, 4 do
    local user = KEYS[4 + (n + 3) / 4]
    local forgotten = redis.call('ZSCORE', KEYS[4], user)
    local gone = forgotten and tonumber(forgotten) >= tonumber(ARGV[n + 3])
    if not gone and redis.call('HSETNX', KEYS[1], ARGV[n], ARGV[n + 1]) == 1 then
        redis.call('HSET', KEYS[2], ARGV[n], ARGV[n + 2])
        redis.call('ZADD', KEYS[3], ARGV[n + 3], ARGV[n])
        redis.call('SADD', user, 'i' .. ARGV[n])
        new = new + 1
    end
end
return new
""")

# KEYS: forgotten; ARGV: a user's set, at. A full Redis cannot note it, and is to remove all the same.
NOTE_FORGOTTEN = Script("""
redis.pcall('ZADD', KEYS[1], ARGV[2], ARGV[1])
""")

# KEYS: feedback, at, unsettled, places, then of each event the user's and the request's set, or the first key for none;
# ARGV: event id, digest and event, at of each. Answers 0 for a new event, 1 for the same again, 2 for another.
TAKE = Script(f"""
local taken = {{}}
for n = 1, #ARGV, 3 do
    local id, said, event = ARGV[n], ARGV[n + 1], (n + 2) / 3
    local kept = redis.call('HGET', KEYS[1], id)
    if kept then
        taken[event] = string.sub(kept, 1, {DIGEST_LENGTH}) == string.sub(said, 1, {DIGEST_LENGTH}) and 1 or 2
    else
        redis.call('HSET', KEYS[1], id, said)
        redis.call('ZADD', KEYS[2], ARGV[n + 2], id)
        redis.call('HSET', KEYS[4], id, redis.call('XADD', KEYS[3], '*', 'id', id))
        local user, request = KEYS[3 + 2 * event], KEYS[4 + 2 * event]
        if user ~= KEYS[1] then redis.call('SADD', user, 'e' .. id) end
        if request ~= KEYS[1] then redis.call('SADD', request, id) end
        taken[event] = 0
    end
end
return taken
""")

# KEYS: unsettled, feedback, places; ARGV: group, consumer, count, milliseconds that a claim lasts, and now. The group
# keeps when each was handed out, by the caller's clock: what XAUTOCLAIM is asked for is turned into Redis' own.
CLAIM = Script("""
local stream, group, consumer, count, now = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5]
if redis.call('EXISTS', stream) == 0 then return {} end
local claimed = {}
local function hand_out(entries)
    for _, entry in ipairs(entries) do
        local place, id = entry[1], entry[2][2]
        local event = redis.call('HGET', KEYS[2], id)
        if event then
            redis.call('XCLAIM', stream, group, consumer, 0, place, 'TIME', now, 'JUSTID')
            claimed[#claimed + 1] = event
        else
            redis.call('XACK', stream, group, place)
            redis.call('XDEL', stream, place)
            redis.call('HDEL', KEYS[3], id)
        end
    end
end
local time = redis.call('TIME')
local idle = math.max(0, time[1] * 1000 + math.floor(time[2] / 1000) - (tonumber(now) - tonumber(ARGV[4])))
local cursor = '0-0'
repeat
    local left = redis.pcall('XAUTOCLAIM', stream, group, consumer, idle, cursor, 'COUNT', count - #claimed)
    if left.err then
        if not string.find(left.err, 'NOGROUP') then return left end
        redis.call('XGROUP', 'CREATE', stream, group, '0')
        break
    end
    cursor = left[1]
    hand_out(left[2])
until cursor == '0-0' or #claimed >= count
if #claimed < count then
    local new = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count - #claimed, 'STREAMS', stream, '>')
    if new then hand_out(new[1][2]) end
end
return claimed
""")

# KEYS: unsettled, places; ARGV: group, event ids.
SETTLE = Script("""
for n = 2, #ARGV do
    local place = redis.call('HGET', KEYS[2], ARGV[n])
    if place then
        redis.call('XACK', KEYS[1], ARGV[1], place)
        redis.call('XDEL', KEYS[1], place)
        redis.call('HDEL', KEYS[2], ARGV[n])
    end
end
""")

# KEYS: unsettled; ARGV: group, milliseconds. Forgets consumers that hold nothing and did not ask for so long.
FORGET_CONSUMERS = Script("""
if redis.call('EXISTS', KEYS[1]) == 0 then return end
local known = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if known.err then return end
for _, one in ipairs(known) do
    if one[4] == 0 and one[6] > tonumber(ARGV[2]) then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], one[2]) end
end
""")
