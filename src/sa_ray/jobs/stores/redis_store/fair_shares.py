"""The order of the queues in Redis: start tags, as ``jobs.stores.port`` says, in Lua."""

from sa_ray.jobs.lifecycle import HEAD_START_S

_HEADS = ", ".join(f"{name} = {seconds!r}" for name, seconds in HEAD_START_S.items())

FAIR_SHARES = (
    f"""
local heads = {{{_HEADS}}}
"""
    """
local function exact(number) return string.format('%.17g', number) end

-- Where a job of an owner that has nothing in the queue starts.
local function floor(variant, priority)
  local found = 0
  for other, head in pairs(heads) do
    local start = tonumber(call('HGET', key('positions:' .. variant), other) or 0)
    if other ~= priority then start = start - math.max(0, head) end
    found = math.max(found, start)
  end
  return found
end

-- Gives a new job its place: see ``JobStore``.
local function take_share(c)
  local shares = key('shares:' .. c.variant .. ':' .. c.priority)
  local finish = call('ZSCORE', shares, c.owner)
  local start = math.max(floor(c.variant, c.priority), tonumber(finish or 0))
  call('ZADD', shares, exact(start + tonumber(c.work)), c.owner)
  call('HSET', key('job:' .. c.id), 'queue_order', exact(start - heads[c.priority]))
end

-- Counts the jobs of an owner in a queue. Without any, it is charged for those alone that were
-- claimed.
local function wait(variant, owner, change)
  local waiting = key('waiting:' .. variant)
  if call('HINCRBY', waiting, owner, change) > 0 then return end
  call('HDEL', waiting, owner)
  for priority in pairs(heads) do
    local claimed = call('ZSCORE', key('claimed:' .. variant .. ':' .. priority), owner)
    local shares = key('shares:' .. variant .. ':' .. priority)
    if claimed then
      call('ZADD', shares, 'XX', claimed, owner)
    else
      call('ZREM', shares, owner)
    end
  end
end

-- Notes that a job is claimed.
local function advance(c)
  local positions = key('positions:' .. c.variant)
  local start = tonumber(call('HGET', key('job:' .. c.id), 'queue_order')) + heads[c.priority]
  if start > tonumber(call('HGET', positions, c.priority) or '-inf') then
    call('HSET', positions, c.priority, exact(start))
  end
  local claimed = key('claimed:' .. c.variant .. ':' .. c.priority)
  call('ZADD', claimed, 'GT', exact(start + tonumber(c.work)), c.owner)
end

-- Forgets owners whose shares make no difference any more.
local function forget_idle(variant)
  for priority in pairs(heads) do
    for _, name in ipairs({'shares:', 'claimed:'}) do
      local until_there = exact(floor(variant, priority))
      call('ZREMRANGEBYSCORE', key(name .. variant .. ':' .. priority), '-inf', until_there)
    end
  end
end
"""
)
