-- Reads TARGET, again and again. TOKEN and TARGET come from the environment.
local headers = { ["Authorization"] = "Bearer " .. os.getenv("TOKEN") }
local target, wrong = os.getenv("TARGET"), 0

function request() return wrk.format("GET", target, headers) end

function response(status)
  if status ~= 200 then
    wrong = wrong + 1
    if wrong == 1 then io.stderr:write("unexpected status ", status, "\n") end
  end
end
