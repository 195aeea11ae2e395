"""The Lua scripts of ``RedisJobStore``: each runs atomically in the server.

``KEYS[1]`` is the prefix of every key. Its hash tag puts them into one slot, so scripts may build
key names on a cluster too. Under the prefix:

``schema``                   version of this layout
``job:<id>``                 hash: ``body`` (JSON) and the columns that scripts look at
``key``                      hash: idempotency key -> job id; a named owner's begin with its name
                             and a line break
``queue:<variant>``          waiting jobs by ``queue_order`` (Redis orders equals by id, as we do)
``positions:<variant>``      hash: priority -> greatest start tag of a job that was claimed
``shares:<variant>:<priority>``  owners by where their jobs finish
``claimed:<variant>:<priority>``  owners by where those finish that were claimed
``waiting:<variant>``        hash: owner -> number of its waiting jobs
``due:<variant>``            waiting jobs by ``not_before``
``deadlines``                waiting jobs by ``deadline``
``running:<variant>``        set: running jobs
``leases:<worker>``          set: running jobs of the worker
``workers``                  hash: worker -> time of its last heartbeat
``ended``                    ended jobs by ``completed_at``
``cleanup``, ``webhooks``    jobs by the time at which that is due
``secrets``                  hash: secrets that the service has drawn for itself
``age``, ``age:<status>``    jobs by ``created_at``
``age/<owner>``, ``age/<owner>:<status>``  those of a named owner
``usage:<day>``              hash: amounts by key, variant and kind; see ``usage``

Numbers are passed and stored as text: Lua's own conversion keeps only 14 digits.
"""

from sa_ray.jobs.stores.redis_store.fair_shares import FAIR_SHARES

PRELUDE = (
    """
local prefix = KEYS[1]
local call = redis.call

local function key(name) return prefix .. name end

"""
    + FAIR_SHARES
    + """
local function place(name, score, id)
  if score then call('ZADD', key(name), score, id) else call('ZREM', key(name), id) end
end

local function index(id, c)
  local queued = c.status == 'queued'
  local queue_order = queued and call('HGET', key('job:' .. id), 'queue_order')
  call(c.status == 'running' and 'SADD' or 'SREM', key('running:' .. c.variant), id)
  if c.worker then call('SADD', key('leases:' .. c.worker), id) end
  place('queue:' .. c.variant, queue_order, id)
  place('due:' .. c.variant, queued and c.not_before, id)
  place('deadlines', queued and c.stop_at, id)
  place('ended', c.completed_at, id)
  place('cleanup', c.cleanup_at, id)
  place('webhooks', c.webhook_at, id)
end

-- The names of the sets by age that have the jobs of an owner.
local function ages(owner)
  -- Jobs of an older layout have no such field.
  if not owner or owner == '' then return {'age'} end
  return {'age', 'age/' .. owner}
end

-- The field of the hash of keys. Neither name nor key has a line break.
local function named(owner, idempotency_key)
  if not owner or owner == '' then return idempotency_key end
  return owner .. string.char(10) .. idempotency_key
end

local function write(id, c, body)
  call('HSET', key('job:' .. id), 'body', body, 'version', c.version, 'token', c.token,
       'status', c.status, 'variant', c.variant, 'not_before', c.not_before,
       'stop_at', c.stop_at or '', 'worker', c.worker or '',
       'idempotency_key', c.idempotency_key or '', 'owner', c.owner)
  index(id, c)
  for _, age in ipairs(ages(c.owner)) do
    call('ZADD', key(age), c.created_at, id)
    call('ZADD', key(age .. ':' .. c.status), c.created_at, id)
  end
end

-- Takes the job out of the sets that its old state is in and its next one may not be.
local function leave(id, status, worker, owner)
  for _, age in ipairs(ages(owner)) do call('ZREM', key(age .. ':' .. status), id) end
  -- Jobs that had ended under an older layout have no such field.
  if worker and worker ~= '' then call('SREM', key('leases:' .. worker), id) end
end

local function leases(worker)
  local held = {}
  for _, id in ipairs(call('SMEMBERS', key('leases:' .. worker))) do
    local job = call('HMGET', key('job:' .. id), 'token', 'stop_at')
    held[#held + 1] = {id, job[1], job[2]}
  end
  return held
end

-- Stores the next version of a job. 1: stored, or it was before; 0: another version is there.
local function replace(id, c, body)
  local old = call('HMGET', key('job:' .. id), 'version', 'status', 'worker', 'body', 'owner')
  if not old[1] then return 0 end
  -- The answer to this very call may have been lost, and the client's library has repeated it.
  if old[1] == c.version and old[4] == body then return 1 end
  if tonumber(old[1]) ~= tonumber(c.version) - 1 then return 0 end
  leave(id, old[2], old[3], old[5])
  write(id, c, body)
  if old[2] == 'queued' and c.status == 'running' then advance(c) end
  if old[2] == 'queued' and c.status ~= 'queued' then wait(c.variant, c.owner, -1) end
  if old[2] ~= 'queued' and c.status == 'queued' then wait(c.variant, c.owner, 1) end
  return 1
end

local function stored(ids)
  local rows = {}
  for _, id in ipairs(ids) do
    local body = call('HGET', key('job:' .. id), 'body')
    if body then rows[#rows + 1] = {id, body} end
  end
  return rows
end
"""
)

INSERT = (
    PRELUDE
    + """
local function insert(c, body)
  local held = call('HGET', key('job:' .. c.id), 'body')
  if held then return held == body and 1 or 0 end
  if c.idempotency_key then
    local field = named(c.owner, c.idempotency_key)
    if call('HSETNX', key('key'), field, c.id) == 0 then return 0 end
  end
  take_share(c)
  wait(c.variant, c.owner, 1)
  write(c.id, c, body)
  return 1
end

local stored = {}
for i = 1, #ARGV, 2 do stored[#stored + 1] = insert(cjson.decode(ARGV[i]), ARGV[i + 1]) end
return stored
"""
)

REPLACE = (
    PRELUDE
    + """
local done, variant = {}, nil
if ARGV[1] ~= '' then call('HSET', key('workers'), ARGV[1], ARGV[2]) end
for i = 3, #ARGV, 2 do
  local c = cjson.decode(ARGV[i])
  done[#done + 1] = replace(c.id, c, ARGV[i + 1])
  variant = c.variant
end
if ARGV[1] ~= '' then forget_idle(variant) end
return done
"""
)

DELETE = (
    PRELUDE
    + """
local id, version = ARGV[1], ARGV[2]
local old = call('HMGET', key('job:' .. id), 'version', 'status', 'variant', 'worker',
                 'idempotency_key', 'owner')
if old[1] ~= version then return 0 end
index(id, {variant = old[3]})
if old[2] == 'queued' then wait(old[3], old[6] or '', -1) end
leave(id, old[2], old[4], old[6])
for _, age in ipairs(ages(old[6])) do call('ZREM', key(age), id) end
if old[5] ~= '' then call('HDEL', key('key'), named(old[6], old[5])) end
call('DEL', key('job:' .. id))
return 1
"""
)

DUE = (
    PRELUDE
    + """
local queue, now, limit = key('queue:' .. ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local rows, from = {}, 0
while #rows < limit do
  local ids = call('ZRANGE', queue, from, from + limit - 1)
  if #ids == 0 then break end
  for _, id in ipairs(ids) do
    local job = call('HMGET', key('job:' .. id), 'not_before', 'stop_at', 'body')
    local late = job[2] and job[2] ~= '' and tonumber(job[2]) <= now
    if #rows < limit and tonumber(job[1]) <= now and not late then
      rows[#rows + 1] = {id, job[3]}
    end
  end
  from = from + #ids
end
return rows
"""
)

RENEW = (
    PRELUDE
    + """
call('HSET', key('workers'), ARGV[1], ARGV[2])
return leases(ARGV[1])
"""
)

LEASES = (
    PRELUDE
    + """
return leases(ARGV[1])
"""
)

FORGET_WORKER = (
    PRELUDE
    + """
if call('HGET', key('workers'), ARGV[1]) ~= ARGV[2] then return end
if call('SCARD', key('leases:' .. ARGV[1])) == 0 then call('HDEL', key('workers'), ARGV[1]) end
"""
)

GET = (
    PRELUDE
    + """
return stored({ARGV[1]})
"""
)

SNAPSHOTS = (
    PRELUDE
    + """
local rows = {}
for _, id in ipairs(ARGV) do
  local job = call('HMGET', key('job:' .. id), 'body', 'variant')
  if job[1] then
    rows[#rows + 1] = {id, job[1], call('ZRANK', key('queue:' .. job[2]), id)}
  end
end
return rows
"""
)

GET_BY_KEY = (
    PRELUDE
    + """
local id = call('HGET', key('key'), named(ARGV[1], ARGV[2]))
if not id then return {} end
return stored({id})
"""
)

REACHED = (
    PRELUDE
    + """
return stored(call('ZRANGEBYSCORE', key(ARGV[1]), '-inf', ARGV[2], 'LIMIT', 0, ARGV[3]))
"""
)

FIRST = (
    PRELUDE
    + """
return stored(call('ZRANGE', key(ARGV[1]), 0, ARGV[2] - 1))
"""
)

PAGE = (
    PRELUDE
    + """
local set, limit, created_at, last = key(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
if not created_at then
  return stored(call('ZREVRANGE', set, 0, limit - 1))
end
local ids = {}
for _, id in ipairs(call('ZREVRANGEBYSCORE', set, created_at, created_at)) do
  if id < last and #ids < limit then ids[#ids + 1] = id end
end
if #ids < limit then
  local older = call('ZREVRANGEBYSCORE', set, '(' .. created_at, '-inf', 'LIMIT', 0, limit - #ids)
  for _, id in ipairs(older) do ids[#ids + 1] = id end
end
return stored(ids)
"""
)
