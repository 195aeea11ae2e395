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

-- Notes that a job is claimed.
local function advance(c)
  local positions = key('positions:' .. c.variant)
  local start = tonumber(call('HGET', key('job:' .. c.id), 'queue_order')) + heads[c.priority]
  if start > tonumber(call('HGET', positions, c.priority) or '-inf') then
    call('HSET', positions, c.priority, exact(start))
  end
end

-- Forgets owners whose shares make no difference any more.
local function forget_idle(variant)
  for priority in pairs(heads) do
    local shares = key('shares:' .. variant .. ':' .. priority)
    call('ZREMRANGEBYSCORE', shares, '-inf', exact(floor(variant, priority)))
  end
end
"""
)
