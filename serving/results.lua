-- What Redis holds of one output, changed in one step: history, published document, hold, tail.
--
-- KEYS   1 meta (hash)   2 hold (hash)   3 times (sorted set)   4 tail (stream)   5 staged rows (list)
-- ARGV   1 'publish' or 'hold'   2 prefix of the hashes of one event time   3 start of the document
--        4 the moment of writing, as JSON   5… the verb's own, see publish() and hold()
--
-- times: an event time's text scored by its milliseconds; `prefix .. text` is the hash of its rows, row
-- key to body. An output without event time is kept by batch: `batch:<id>`, scored by order of arrival.
-- Bodies are JSON texts that are only ever joined, never decoded, so no number changes on its way.
-- The published key and the hashes of event times are known to the script alone: one Redis, no cluster.

local META, HOLD, TIMES, TAIL, STAGED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local PREFIX, HEAD, NOW = ARGV[2], ARGV[3], ARGV[4]

local function meta(name)
  return redis.call('HGET', META, name) or nil
end

local function drop(member)
  redis.call('ZREM', TIMES, member)
  redis.call('DEL', PREFIX .. member)
end

-- The newest event time not later than `score` ('+inf' for any), or nil.
local function newest(score)
  return redis.call('ZREVRANGEBYSCORE', TIMES, score, '-inf', 'LIMIT', 0, 1)[1]
end

-- The event time to show: the newest, or while a verdict withholds, the newest that had passed.
local function visible()
  if redis.call('HGET', HOLD, 'held') ~= '1' then
    return newest('+inf')
  end
  local passed = redis.call('HGET', HOLD, 'passed')
  return passed and newest(passed) or nil
end

local function rows_of(member)
  local flat = redis.call('HGETALL', PREFIX .. member)
  local names, bodies = {}, {}
  for i = 1, #flat, 2 do
    names[#names + 1] = flat[i]
    bodies[flat[i]] = flat[i + 1]
  end
  table.sort(names)
  for i, name in ipairs(names) do
    names[i] = bodies[name]
  end
  return table.concat(names, ',')
end

local function republish()
  local target = meta('published_key')
  if not target then
    return
  end
  local member = visible()
  if not member then
    redis.call('DEL', target)
    return
  end
  local event_time = meta('mode') == 'event' and '"' .. member .. '"' or 'null'
  redis.call('SET', target, table.concat({
    HEAD, ',"event_time":', event_time, ',"rows":[', rows_of(member), '],"batch_id":', meta('batch_id'),
    ',"epoch":', meta('epoch'), ',"watermark":', meta('watermark'),
    ',"window_seconds":', meta('window_seconds'), ',"published_at":', NOW, '}',
  }))
end

local function raise_horizon(score)
  local before = tonumber(meta('horizon') or '') or -math.huge
  if tonumber(score) > before then
    redis.call('HSET', META, 'horizon', score)
  end
end

-- Keep the last `keep` event times and, beside them, the one that is shown when a verdict withholds.
local function trim(keep)
  local excess = redis.call('ZCARD', TIMES) - keep
  if excess <= 0 then
    return
  end
  local passed = redis.call('HGET', HOLD, 'passed')
  local pinned = passed and newest(passed) or nil
  local oldest = redis.call('ZRANGE', TIMES, 0, excess - 1, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    if oldest[i] ~= pinned then
      raise_horizon(oldest[i + 1])
      drop(oldest[i])
    end
  end
end

local function forget()
  for _, member in ipairs(redis.call('ZRANGE', TIMES, 0, -1)) do
    drop(member)
  end
  redis.call('HDEL', META, 'horizon')
  redis.call('HDEL', HOLD, 'passed')
end

-- An event time that was dropped once comes back in part only, so it does not come back at all.
local function admit(score, member)
  local horizon = meta('horizon')
  if horizon and tonumber(score) <= tonumber(horizon) and not redis.call('ZSCORE', TIMES, member) then
    return false
  end
  redis.call('ZADD', TIMES, score, member)
  return true
end

-- A batch without event times replaces itself when it is written again, and is the newest otherwise.
local function arrival(member)
  local last = redis.call('ZREVRANGE', TIMES, 0, 0, 'WITHSCORES')
  local score = '1'
  if last[1] then
    score = last[1] == member and last[2] or string.format('%.0f', tonumber(last[2]) + 1)
  end
  drop(member)
  return score
end

-- ARGV 5 epoch, 6 batch id, 7 keep, 8 mode, 9 watermark (JSON), 10 window_seconds (JSON),
--      11 published key, 12 score of the newest row left out or '', 13 tail's length,
--      14 how many rows follow, each as score, event time, key, body; then the tail's entries.
local function publish()
  local epoch, batch_id, keep, mode = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
  local seen_epoch, seen_batch = tonumber(meta('epoch') or ''), tonumber(meta('batch_id') or '')
  if seen_epoch and epoch < seen_epoch then
    redis.call('DEL', STAGED)
    return 'fenced'
  end
  if seen_epoch == epoch and batch_id < seen_batch then
    redis.call('DEL', STAGED)
    return 'stale'
  end
  local again = seen_epoch == epoch and seen_batch == batch_id
  local first, count, staged = 15, tonumber(ARGV[14]), redis.call('LLEN', STAGED)

  if count + staged == 0 then
    mode = meta('mode') or mode -- what is served stays until there are rows to replace it
  elseif (meta('mode') or mode) ~= mode then
    forget()
  end
  local target = meta('published_key')
  if target and target ~= ARGV[11] and redis.call('TYPE', target).ok == 'string'
    and redis.call('GETRANGE', target, 0, #HEAD - 1) == HEAD then
    redis.call('DEL', target)
  end
  redis.call('HSET', META, 'epoch', ARGV[5], 'batch_id', ARGV[6], 'keep', ARGV[7], 'mode', mode,
    'watermark', ARGV[9], 'window_seconds', ARGV[10], 'published_key', ARGV[11])

  local current, admitted
  local function take(source, from, to) -- rows of one event time stand together
    for i = from, to, 4 do
      local member = source[i + 1]
      if member ~= current then
        current = member
        admitted = admit(mode == 'arrival' and arrival(member) or source[i], member)
      end
      if admitted then
        redis.call('HSET', PREFIX .. member, source[i + 2], source[i + 3])
      end
    end
  end
  take(ARGV, first, first + 4 * count - 1)
  for from = 0, staged - 1, 4000 do
    local slice = redis.call('LRANGE', STAGED, from, from + 3999)
    take(slice, 1, #slice)
  end
  redis.call('DEL', STAGED)
  if ARGV[12] ~= '' then
    raise_horizon(ARGV[12])
  end
  trim(keep)

  if not again then
    for i = first + 4 * count, #ARGV do
      redis.call('XADD', TAIL, 'MAXLEN', '~', ARGV[13], '*', 'row', ARGV[i])
    end
  end
  republish()
  return 'written'
end

-- ARGV 5 status, 6 '1' when it withholds, '0' when it releases, '' when it changes nothing,
--      7 greatest event time that was checked, or '' for all there is, 8 when it was checked.
local function hold()
  local before = tonumber(redis.call('HGET', HOLD, 'at') or '') or -math.huge
  if tonumber(ARGV[8]) < before then
    return 'stale'
  end
  redis.call('HSET', HOLD, 'status', ARGV[5], 'at', ARGV[8])
  if ARGV[6] == '1' then
    redis.call('HSET', HOLD, 'held', '1')
  elseif ARGV[6] == '0' then
    local score = ARGV[7]
    if score == '' or meta('mode') == 'arrival' then
      score = redis.call('ZREVRANGE', TIMES, 0, 0, 'WITHSCORES')[2]
    end
    redis.call('HSET', HOLD, 'held', '0')
    if score then
      redis.call('HSET', HOLD, 'passed', score)
    end
    trim(tonumber(meta('keep') or '1'))
  end
  republish()
  return 'written'
end

if ARGV[1] == 'publish' then
  return publish()
end
return hold()
