-- Append one message to a room's history, or find the place it already has; with an empty id, only make sure that the
-- room has an epoch, so that even its very first entry can be resumed to. Called by history.py.
--
-- KEYS  1 head   2 log   3 once   4 activity
-- ARGV  1 id   2 frame head   3 to (JSON or '')   4 expires_at or ''   5 an epoch for a new life   6 entries to keep
--       7 ms to keep them   8 ms to remember the id   9 ms to keep the head   10 length of the activity stream   11 room
--       12 ms at which SQS took it or ''   13 traceparent or ''
-- Returns {status: 'new' | 'dup' | 'open', epoch, seq, id of the entry before (of the last one for 'open'), ms of a new one}
local head = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'id')
local epoch, seq, prev = head[1], tonumber(head[2] or '0'), head[3] or ''
local now = redis.call('TIME')
-- Numbers cost most where they become text (a double's digits, printed); what came as text stays text.
local now_ms = now[1] .. string.format('%03d', math.floor(tonumber(now[2]) / 1000))

local function begin_life()
  redis.call('DEL', KEYS[2])
  epoch, seq, prev = ARGV[5], 0, ''
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', '0', 'id', '')
  redis.call('PEXPIRE', KEYS[1], ARGV[9])  -- also where nothing comes of the entry
end

if not epoch then begin_life() end
if ARGV[1] == '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[9])
  return {'open', epoch, seq, prev}
end

-- A key from a dead epoch does not count: that entry is gone with its history.
local once = redis.call('GET', KEYS[3])
if once and string.sub(once, 1, #epoch + 1) == epoch .. ':' then
  redis.call('PEXPIRE', KEYS[1], ARGV[9])
  -- Renewing it is also the write that WAIT needs: without one on this connection, WAIT proves nothing.
  redis.call('PEXPIRE', KEYS[3], ARGV[8])
  return {'dup', epoch, tonumber(string.sub(once, #epoch + 2)), ''}
end

local place  -- its seq, as text
local function add()
  place = string.format('%.0f', seq + 1)
  return redis.pcall('XADD', KEYS[2], 'MAXLEN', '=', ARGV[6], place .. '-0', 'id', ARGV[1], 'prev', prev,
    'frame', ARGV[2], 'to', ARGV[3], 'expires', ARGV[4], 'at', now_ms, 'sent', ARGV[12], 'trace', ARGV[13])
end
local added = add()
if type(added) == 'table' and added.err then
  -- The log is ahead of its head: one of the two was restored, evicted or edited by hand. The chain is broken, so this
  -- is a new life, and clients are told so.
  if not string.find(added.err, 'equal or smaller', 1, true) then return redis.error_reply(added.err) end
  epoch = nil
  begin_life()
  added = add()
  if type(added) == 'table' and added.err then return redis.error_reply(added.err) end
end
seq = seq + 1
redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', place, 'id', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[9])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
redis.call('SET', KEYS[3], epoch .. ':' .. place, 'PX', ARGV[8])

-- Age: a few of the oldest at a time, so that no append is slow; readers filter what is still there. Most of the time
-- the oldest is young, and one entry is all that is looked at: to make a table of 32 takes longer than the append.
if seq % 16 == 0 then
  local cutoff = tonumber(now_ms) - tonumber(ARGV[7])
  local function is_old(item) return tonumber(item[2][12]) < cutoff end
  local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  if first and is_old(first) then
    local keep
    for _, item in ipairs(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 32)) do
      if not is_old(item) then keep = item[1] break end
      keep = string.format('%.0f-0', tonumber(string.match(item[1], '^%d+')) + 1)
    end
    redis.call('XTRIM', KEYS[2], 'MINID', '=', keep)
  end
end

redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[10], '*', 'room', ARGV[11], 'epoch', epoch, 'seq', place, 'id', ARGV[1])
redis.call('PEXPIRE', KEYS[4], ARGV[9])
return {'new', epoch, seq, prev, now_ms}
