-- Creates ConfigMaps of about 1 KiB under names of their own. TOKEN, NAMESPACE and TARGET (a query, or nothing) come from
-- the environment.
local path = "/api/v1/namespaces/" .. os.getenv("NAMESPACE") .. "/configmaps" .. os.getenv("TARGET")
local headers = { ["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. os.getenv("TOKEN") }
local filling = string.rep("0123456789", 90)
local threads, made, wrong = 0, 0, 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function request()
  made = made + 1
  local name = string.format("bench-%d-%d", number, made)
  local body = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"' .. name .. '"},"data":{"filling":"' .. filling .. '"}}'
  return wrk.format("POST", path, headers, body)
end

function response(status)
  if status ~= 201 then
    wrong = wrong + 1
    if wrong == 1 then io.stderr:write("unexpected status ", status, "\n") end
  end
end
