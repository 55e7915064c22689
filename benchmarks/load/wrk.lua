-- What wrk asks for, and what it says in the end; run by wrk.py.
--
-- BENCH_PATHS names a file with a path in each line. They are asked for at random, each as often as
-- any other; or, from line BENCH_FROM (counted from 0) on, one after the other. Without it wrk asks
-- for the path of its URL.

local paths = os.getenv("BENCH_PATHS")
local from = tonumber(os.getenv("BENCH_FROM") or "")
local seed = tonumber(os.getenv("BENCH_SEED") or "1")
local made = 0

function setup(thread)
  made = made + 1
  thread:set("number", made)
end

if paths then
  local asked = {}
  local last = from

  function init()
    for path in io.lines(paths) do
      asked[#asked + 1] = wrk.format("GET", path)
    end
    math.randomseed(seed * 1000 + number)
  end

  function request()
    if from then
      last = last % #asked + 1
      return asked[last]
    end
    return asked[math.random(#asked)]
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"bytes":%d,"broken":%d,"refused":%d,' ..
    '"p50":%d,"p95":%d,"p99":%d,"cpu_seconds":%.3f}\n',
    summary.requests, summary.duration, summary.bytes,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status,
    latency:percentile(50), latency:percentile(95), latency:percentile(99), os.clock()))
end
