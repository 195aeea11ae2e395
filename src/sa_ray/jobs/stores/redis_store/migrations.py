"""The steps that bring an older layout of ``RedisJobStore`` up to date, in order."""

from sa_ray.jobs.stores.redis_store.scripts import PRELUDE

MIGRATE_TO_2 = (
    PRELUDE
    + """
-- Leases of workers instead of an expiry for each job, and no sets that only variants needed.
if call('GET', key('schema')) ~= '1' then return end
for _, status in ipairs({'queued', 'running'}) do
  for _, id in ipairs(call('ZRANGE', key('age:' .. status), 0, -1)) do
    local job = key('job:' .. id)
    local old = cjson.decode(call('HGET', job, 'body'))
    local stop_at = call('HGET', job, 'deadline')
    local worker = ''
    if status == 'running' then
      worker = old.lease.worker
      stop_at = type(old.deadline) == 'number' and string.format('%.17g', old.deadline) or ''
      if old.cancel_requested then stop_at = '0.0' end
      call('SADD', key('running:' .. old.request.model), id)
      call('SADD', key('leases:' .. worker), id)
      call('HSET', key('workers'), worker, '0.0')
    end
    call('HSET', job, 'stop_at', stop_at, 'worker', worker)
    call('HDEL', job, 'deadline', 'lease')
  end
end
call('DEL', key('leases'))
for _, variant in ipairs({'small-sfx', 'small-music', 'medium'}) do
  call('DEL', key('age:' .. variant))
  for _, status in ipairs({'queued', 'running', 'succeeded', 'failed', 'cancelled'}) do
    call('DEL', key('age:' .. variant .. ':' .. status))
  end
end
call('SET', key('schema'), 2)
"""
)

MIGRATE_TO_3 = (
    PRELUDE
    + """
-- Owners. Jobs without the field have none.
if call('GET', key('schema')) == '2' then call('SET', key('schema'), 3) end
"""
)

MIGRATE_TO_4 = (
    PRELUDE
    + """
-- Fair shares. Those who wait keep their order; later jobs of the same owner come behind them.
if call('GET', key('schema')) ~= '3' then return end
for _, variant in ipairs({'small-sfx', 'small-music', 'medium'}) do
  local first
  local function live(ids, queued)
    for _, id in ipairs(ids) do
      local job = cjson.decode(call('HGET', key('job:' .. id), 'body'))
      local priority = job.priority or 'normal'
      local order = job.created_at - heads[priority]
      call('HSET', key('job:' .. id), 'queue_order', exact(order))
      if queued then
        first = math.min(first or order, order)
        local shares = key('shares:' .. variant .. ':' .. priority)
        call('ZADD', shares, 'GT', exact(job.created_at + 0.001), job.owner or '')
      else
        first = math.max(first or order, order)
      end
    end
  end
  live(call('SMEMBERS', key('running:' .. variant)), false)
  local waiting = call('ZRANGE', key('queue:' .. variant), 0, -1)
  if #waiting > 0 then first = nil end
  live(waiting, true)
  if first then call('HSET', key('positions:' .. variant), 'normal', exact(first)) end
end
call('SET', key('schema'), 4)
"""
)

MIGRATIONS = (MIGRATE_TO_2, MIGRATE_TO_3, MIGRATE_TO_4)
