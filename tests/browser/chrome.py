"""A headless Chromium, spoken with over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/).

Just what these tests need, and no driver beside the browser that would have to be of its version.
"""

import base64
import contextlib
import itertools
import json
import subprocess
import tempfile
import time
from pathlib import Path

from websockets.sync.client import connect

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
]
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}


class Chrome:
    def __init__(self, binary):
        self.profile = tempfile.TemporaryDirectory(prefix="browser-test-", ignore_cleanup_errors=True)
        command = [binary, *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port, path = self._address()
        address = f"ws://127.0.0.1:{port}{path}"
        self.resources = contextlib.ExitStack()
        self.socket = self.resources.enter_context(connect(address, max_size=None, proxy=None, compression=None))
        self.ids = itertools.count(1)
        self.tabs = {}

    def _address(self):
        file = Path(self.profile.name, "DevToolsActivePort")
        for _ in range(600):
            if file.exists() and len(lines := file.read_text().splitlines()) == 2:
                return lines
            assert self.process.poll() is None, "the browser ended"
            time.sleep(0.1)
        raise AssertionError("the browser did not say where it listens")

    def close(self):
        try:
            self.call("Browser.close")
            self.resources.close()
            self.process.wait(10)
        except Exception:
            self.process.kill()
            self.process.wait()
        self.profile.cleanup()

    def call(self, method, session=None, **parameters):
        number = next(self.ids)
        message = {"id": number, "method": method, "params": parameters}
        self.socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self.socket.recv(60))
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._event(answer)

    def _event(self, event):
        tab = self.tabs.get(event.get("sessionId"))
        if tab:
            tab.on(event["method"], event["params"])

    def tab(self, **options):
        """With storage of its own: nothing that another tab has remembered."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Tab(self, context, session, **options)


class Tab:
    def __init__(self, chrome, context, session, *, width=1280, height=900, language="en-GB", theme="light"):
        self.chrome, self.context, self.session = chrome, context, session
        chrome.tabs[session] = self
        self.complaints, self.requests = [], []
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")
        agent = self.chrome.call("Browser.getVersion")["userAgent"]
        self.call("Network.setUserAgentOverride", userAgent=agent, acceptLanguage=language)
        self.call("Emulation.setTimezoneOverride", timezoneId="Asia/Shanghai")
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.size(width, height)

    def call(self, method, **parameters):
        return self.chrome.call(method, self.session, **parameters)

    def close(self):
        self.chrome.call("Target.disposeBrowserContext", browserContextId=self.context)

    def on(self, method, event):
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(one.get("value", one.get("description"))) for one in event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")

    def size(self, width, height=900):
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def open(self, address):
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def reload(self):
        self.run("window.before = true")
        self.call("Page.reload")
        self.until("!window.before && document.readyState === 'complete'")

    def run(self, expression):
        """The value of a JavaScript expression; a promise's, once it is there."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def until(self, expression, seconds=20):
        """Waits until the expression is true, and returns its value."""
        end = time.monotonic() + seconds
        while True:
            try:
                if value := self.run(expression):
                    return value
            except AssertionError:
                # Between two pages there is none to ask.
                if time.monotonic() > end:
                    raise
            assert time.monotonic() < end, f"never true: {expression}\n{self.run('document.body.innerText')}"
            time.sleep(0.05)

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)})?.textContent")

    def texts(self, selector):
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map(node => node.textContent)")

    def click(self, selector):
        """With the mouse, at its middle."""
        x, y = self.run(
            f"""(() => {{
                const node = document.querySelector({json.dumps(selector)});
                node.scrollIntoView({{ block: "center", inline: "center" }});
                const box = node.getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2];
            }})()"""
        )
        self.hover(x, y)
        for kind in ["mousePressed", "mouseReleased"]:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def hover(self, x, y):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key):
        more = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        for kind in ["keyDown", "keyUp"]:
            code = {"windowsVirtualKeyCode": KEYS[key], "code": key, "key": key}
            self.call("Input.dispatchKeyEvent", type=kind, **code, **(more if kind == "keyDown" else {}))

    def choose(self, selector, value):
        """In a select box, as a user's choice arrives."""
        self.run(
            f"""(() => {{
                const node = document.querySelector({json.dumps(selector)});
                node.value = {json.dumps(value)};
                node.dispatchEvent(new Event("change", {{ bubbles: true }}));
            }})()"""
        )

    def screenshot(self, file):
        """Of the whole page, however long."""
        height = self.run("document.documentElement.scrollHeight")
        width = self.run("innerWidth")
        self.run("scrollTo(0, 0)")
        self.size(width, height)
        # Two frames: a chart is drawn anew after it was told its size.
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))")
        picture = self.call("Page.captureScreenshot", format="png")["data"]
        Path(file).write_bytes(base64.b64decode(picture))
        self.size(width)
