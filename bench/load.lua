-- Asks for the paths of a plan in turn, checks every answer, and prints the round as one line of JSON.

local plan
local number = 0
local next_path = 0
local threads = {}

function setup(thread)
   table.insert(threads, thread)
end

-- Whether every request has a body of its own.
local function numbered(a_plan)
   return a_plan.body and string.find(a_plan.body, "{n}", 1, true)
end

function init(args)
   plan = dofile(args[1])
   number = plan.first_number
   requests = {}
   if not numbered(plan) then
      for _, path in ipairs(plan.paths) do
         table.insert(requests, wrk.format(plan.method, path, plan.headers, plan.body))
      end
   end
   wrong, example = 0, ""
end

function request()
   if #requests == 0 then
      number = number + 1
      local body = string.gsub(plan.body, "{n}", string.format("%d", number))
      return wrk.format(plan.method, plan.paths[1], plan.headers, body)
   end
   next_path = next_path % #requests + 1
   return requests[next_path]
end

function response(status, _headers, body)
   if status ~= plan.status or not string.find(body, plan.holds, 1, true) then
      wrong = wrong + 1
      example = status .. " " .. string.sub(body, 1, 300)
   end
end

local function quoted(text)
   return '"' .. string.gsub(text, '[%c"\\]', " ") .. '"'
end

function done(summary, latency, _requests)
   local wrong, example = 0, ""
   for _, thread in ipairs(threads) do
      wrong = wrong + thread:get("wrong")
      example = thread:get("example")
   end
   local e = summary.errors
   io.write(string.format(
      '{"answers": %d, "seconds": %f, "wrong": %d, "errors": %d, "p50": %f, "p95": %f, "p99": %f, "example": %s}\n',
      summary.requests, summary.duration / 1e6, wrong,
      e.connect + e.read + e.write + e.timeout,
      latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, quoted(example)))
end
