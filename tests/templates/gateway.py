"""The gateway's binary, with one plugin and a configuration of its own."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

BIN = os.environ.get("AIPROXY_HOST_BIN", "")


def lay_out(folder, component, channels, upstream_url="http://127.0.0.1:9"):
    """Writes a configuration: a channel for each entry of `channels`, which are the settings by the channel's id; each is
    opened by the proxy key `key(id)`, and all keys are called alice."""
    plugins, conf = folder / "plugins", folder / "conf"
    plugins.mkdir()
    conf.mkdir()
    (plugins / "plugin.wasm").symlink_to(component)
    channel = {"base_url": upstream_url, "api_key": "upstream-secret-0123456789", "plugin": "plugin", "proxy": "direct"}
    # A key's id is told to the plugin; two keys cannot have the same one.
    keys = [{"proxy_key": key(id), "id": f"alice-{id}", "channel": id} for id in channels]
    write(conf / "channels_config.json", {"channels": {id: channel | {"settings": settings} for id, settings in channels.items()}})
    write(conf / "api_keys.json", keys)
    write(conf / "gateway.json", {"access_log": str(folder / "access.log")})


def key(channel):
    return f"sk-{channel}-0123456789"


def write(path, value):
    path.write_text(json.dumps(value))


def check(folder):
    """`aiproxy-host check`; gives its exit code and what it printed. It compiles the plugin anew."""
    ran = subprocess.run([BIN, "check", *sources(folder)], capture_output=True, text=True, env=environment(), check=False)
    return ran.returncode, ran.stdout


def sources(folder):
    return ["--conf", folder / "conf", "--plugins", folder / "plugins"]


def environment():
    """Without what could configure the gateway, or lead it away from this machine."""
    kept = {"PATH", "HOME", "TMPDIR"}
    return {name: value for name, value in os.environ.items() if name in kept} | {"AIPROXY_LOG": "info"}


class Gateway:
    """A running `serve` with one worker: all calls of a channel go to one instance."""

    def __init__(self, folder, state):
        self.folder = folder
        started = time.monotonic()
        self.log = (folder / "log").open("wb")
        command = [BIN, "serve", "--listen", "127.0.0.1:0", "--workers", "1", "--state", state, *sources(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment())
        line = self.process.stdout.readline()
        self.start_seconds = time.monotonic() - started
        prefix = "listening on http://"
        assert line.startswith(prefix), f"{line!r}\n{self.said()}"
        host, _, port = line.removeprefix(prefix).strip().rpartition(":")
        self.address = host, int(port)

    def said(self):
        """Its log so far; lines are gathered for a moment before they are written."""
        return (self.folder / "log").read_text()

    def configured(self, channel):
        """The prefixes under which instances for this channel said that they serve, one for each instance."""
        pattern = rf'INFO plugin: serving under (\S+) .*channel="{channel}"'
        return re.findall(pattern, self.said())

    def resident_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))

    def stop(self):
        """Ends it; what it had to write is written then."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.process.stdout.close()
        self.log.close()

    def logged(self, request_id):
        """The access log's line of an exchange."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return next((json.loads(line) for line in lines if request_id in line), None)


def soon(look, seconds=30):
    """What `look` gives, as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)
    return found
