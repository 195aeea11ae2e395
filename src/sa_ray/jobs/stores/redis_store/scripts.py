"""The Lua scripts of ``RedisJobStore``: each runs atomically in the server.

``KEYS[1]`` is the prefix of every key. Its hash tag puts them into one slot, so scripts may build
key names on a cluster too. Under the prefix:

``schema``                   version of this layout
``job:<id>``                 hash: ``body`` (JSON) and the columns that scripts look at
``key``                      hash: idempotency key -> job id
``queue:<variant>``          waiting jobs by ``queue_order`` (Redis orders equals by id, as we do)
``due:<variant>``            waiting jobs by ``not_before``
``deadlines``                waiting jobs by ``deadline``
``leases``                   running jobs by expiry
``ended``                    ended jobs by ``completed_at``
``cleanup``, ``webhooks``    jobs by the time at which that is due
``age``, ``age:<status>``, ``age:<variant>``, ``age:<variant>:<status>``   jobs by ``created_at``

Numbers are passed and stored as text: Lua's own conversion keeps only 14 digits.
"""

_PRELUDE = """
local prefix = KEYS[1]
local call = redis.call

local function key(name) return prefix .. name end

local function place(name, score, id)
  if score then call('ZADD', key(name), score, id) else call('ZREM', key(name), id) end
end

local function index(id, c)
  local queued = c.status == 'queued'
  place('queue:' .. c.variant, queued and c.queue_order, id)
  place('due:' .. c.variant, queued and c.not_before, id)
  place('deadlines', c.deadline, id)
  place('leases', c.lease_expires_at, id)
  place('ended', c.completed_at, id)
  place('cleanup', c.cleanup_at, id)
  place('webhooks', c.webhook_at, id)
end

local function set_age(id, c)
  for _, set in ipairs({'', ':' .. c.status, ':' .. c.variant,
                        ':' .. c.variant .. ':' .. c.status}) do
    call('ZADD', key('age' .. set), c.created_at, id)
  end
end

local function unset_age(id, variant, status)
  call('ZREM', key('age:' .. status), id)
  call('ZREM', key('age:' .. variant .. ':' .. status), id)
end

local function write(id, c, body)
  local expiry = c.lease_expires_at
  call('HSET', key('job:' .. id), 'body', body, 'version', c.version, 'token', c.token,
       'status', c.status, 'variant', c.variant, 'not_before', c.not_before,
       'deadline', c.deadline or '', 'lease', expiry or '',
       'idempotency_key', c.idempotency_key or '')
  index(id, c)
  set_age(id, c)
end

-- Stores the next version of a job. 1: stored, or it was before; 0: another version is there.
local function replace(id, c, body)
  local old = call('HMGET', key('job:' .. id), 'version', 'token', 'status', 'variant', 'lease',
                   'body')
  if not old[1] then return 0 end
  -- The answer to this very call may have been lost, and the client's library has repeated it.
  if old[1] == c.version and old[6] == body then return 1 end
  if tonumber(old[1]) ~= tonumber(c.version) - 1 then return 0 end
  -- The lease may have been renewed since the caller read the job.
  if c.lease_expires_at and old[2] == c.token and old[5] ~= ''
     and tonumber(old[5]) > tonumber(c.lease_expires_at) then
    c.lease_expires_at = old[5]
  end
  if old[3] ~= c.status then unset_age(id, old[4], old[3]) end
  write(id, c, body)
  return 1
end

local function position(variant, order, id)
  local queue = key('queue:' .. variant)
  local place = call('ZCOUNT', queue, '-inf', '(' .. order)
  for _, equal in ipairs(call('ZRANGEBYSCORE', queue, order, order)) do
    if equal <= id then place = place + 1 end
  end
  return place
end

local function stored(ids)
  local rows = {}
  for _, id in ipairs(ids) do
    local row = call('HMGET', key('job:' .. id), 'body', 'lease')
    if row[1] then rows[#rows + 1] = {id, row[1], row[2]} end
  end
  return rows
end
"""

INSERT = (
    _PRELUDE
    + """
local c, body, max_queued = cjson.decode(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local held = call('HGET', key('job:' .. c.id), 'body')
if held == body then return 'stored' end
if held then return 'taken' end
if call('ZCARD', key('age:queued')) >= max_queued then return 'full' end
if c.idempotency_key then
  if call('HSETNX', key('key'), c.idempotency_key, c.id) == 0 then return 'taken' end
end
write(c.id, c, body)
return 'stored'
"""
)

REPLACE = (
    _PRELUDE
    + """
local done = {}
for i = 1, #ARGV, 2 do
  local c = cjson.decode(ARGV[i])
  done[#done + 1] = replace(c.id, c, ARGV[i + 1])
end
return done
"""
)

DELETE = (
    _PRELUDE
    + """
local id, version = ARGV[1], ARGV[2]
local old = call('HMGET', key('job:' .. id), 'version', 'status', 'variant', 'idempotency_key')
if old[1] ~= version then return 0 end
index(id, {variant = old[3]})
unset_age(id, old[3], old[2])
call('ZREM', key('age'), id)
call('ZREM', key('age:' .. old[3]), id)
if old[4] ~= '' then call('HDEL', key('key'), old[4]) end
call('DEL', key('job:' .. id))
return 1
"""
)

DUE = (
    _PRELUDE
    + """
local queue, now, limit = key('queue:' .. ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local rows, from = {}, 0
while #rows < limit do
  local ids = call('ZRANGE', queue, from, from + limit - 1)
  if #ids == 0 then break end
  for _, id in ipairs(ids) do
    local job = call('HMGET', key('job:' .. id), 'not_before', 'deadline', 'body', 'lease')
    local late = job[2] ~= '' and tonumber(job[2]) <= now
    if #rows < limit and tonumber(job[1]) <= now and not late then
      rows[#rows + 1] = {id, job[3], job[4]}
    end
  end
  from = from + #ids
end
return rows
"""
)

RENEW = (
    _PRELUDE
    + """
local renewed = {}
for i = 2, #ARGV, 2 do
  local id, job = ARGV[i], key('job:' .. ARGV[i])
  local held = call('HMGET', job, 'status', 'token')
  if held[1] == 'running' and held[2] == ARGV[i + 1] then
    call('HSET', job, 'lease', ARGV[1])
    call('ZADD', key('leases'), ARGV[1], id)
    renewed[#renewed + 1] = id
  end
end
return stored(renewed)
"""
)

GET = (
    _PRELUDE
    + """
return stored({ARGV[1]})
"""
)

GET_BY_KEY = (
    _PRELUDE
    + """
local id = call('HGET', key('key'), ARGV[1])
if not id then return {} end
return stored({id})
"""
)

REACHED = (
    _PRELUDE
    + """
return stored(call('ZRANGEBYSCORE', key(ARGV[1]), '-inf', ARGV[2], 'LIMIT', 0, ARGV[3]))
"""
)

POSITION = (
    _PRELUDE
    + """
return position(ARGV[1], ARGV[2], ARGV[3])
"""
)

PAGE = (
    _PRELUDE
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
