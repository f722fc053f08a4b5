-- The requests of one run: wrk ... URL -- greet|save|same USERS SEED, or ... URL -- path PATH.
-- They are written before the clock starts, so that making them costs nothing while it runs.

local COUNT = 20000
local threads = 0

function setup(thread)
    threads = threads + 1
    thread:set("number", threads)
end

-- User n is called by n's seven digits, written as letters.
local function username(n)
    return (string.format("%07d", n):gsub("%d", function(digit) return string.char(97 + tonumber(digit)) end))
end

local function date()
    return string.format("%04d-%02d-%02d", math.random(1900, 2019), math.random(12), math.random(28))
end

-- The date goes into the query string too, for the server that reads no body.
local function put(path, date)
    return wrk.format("PUT", path .. "?" .. date, nil, '{"dateOfBirth":"' .. date .. '"}')
end

local write = {
    greet = function(path) return wrk.format("GET", path) end,
    save = function(path) return put(path, date()) end,
    same = function(path) return put(path, "1990-05-20") end,
}

local requests = {}
local sent = 0

function init(arguments)
    local kind, argument, seed = arguments[1], arguments[2], tonumber(arguments[3])
    if kind == "path" then
        requests[1] = wrk.format("GET", argument)
        return
    end
    math.randomseed(seed * 1000 + number)
    for i = 1, COUNT do
        requests[i] = write[kind]("/hello/" .. username(math.random(0, tonumber(argument) - 1)))
    end
end

function request()
    sent = sent % #requests + 1
    return requests[sent]
end

-- Times are in microseconds.
function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
    io.write(string.format("\nresult %d %d %d %d %d\n", summary.requests, failed, summary.duration,
        latency:percentile(50), latency:percentile(99)))
end
