-- What wrk sends: a chat of 200 bytes.
local head = '{"model":"qwen-plus","messages":[{"role":"user","content":"'
local tail = '"}]}'
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("PROXY_KEY")
wrk.headers["Content-Type"] = "application/json"
wrk.body = head .. string.rep("x", 200 - #head - #tail) .. tail
