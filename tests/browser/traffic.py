"""Requests with known numbers, through the real gateway to its demo upstream."""

import json
import time
import urllib.error
import urllib.request

from websockets.sync.client import connect


class Traffic:
    def __init__(self, url, keys):
        self.url, self.keys, self.sent = url, keys, 0

    def post(self, path, body, **headers):
        """The status and the whole body."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json", **headers})
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def chat(self, model, key=None, **more):
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}
        return self.post("/v1/chat/completions", body, authorization=f"Bearer {key or self.keys['bailian']}")

    def gemini(self, model):
        body = {"contents": [{"parts": [{"text": "Hello"}]}]}
        path = f"/v1beta/models/{model}:generateContent"
        return self.post(path, body, **{"x-goog-api-key": self.keys["gemini"]})

    def socket(self):
        """An open WebSocket."""
        address = self.url.replace("http", "ws", 1) + "/api-ws/v1/realtime?model=qwen-omni-turbo-realtime"
        headers = {"Authorization": f"Bearer {self.keys['bailian']}"}
        return connect(address, additional_headers=headers, proxy=None)

    def stats(self):
        with urllib.request.urlopen(f"{self.url}/stats", timeout=30) as reply:
            return json.load(reply)

    def until_counted(self):
        """An exchange is counted at its end, which may be a moment after its reply's."""
        end = time.monotonic() + 20
        while (counted := self.stats()["window"]["totals"]["requests"]) != self.sent:
            assert time.monotonic() < end, f"{counted} of {self.sent} requests are counted"
            time.sleep(0.05)
