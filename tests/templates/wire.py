"""HTTP/1.1 on plain sockets, as little as the tests need: fast enough that ten thousand exchanges are a matter of seconds,
and with every header as it came."""

import json
import socket
import threading
from dataclasses import dataclass


@dataclass
class Message:
    """A request or a reply."""

    start: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name):
        return [value for key, value in self.headers if key == name]

    @property
    def status(self):
        return int(self.start.split(" ")[1])

    @property
    def target(self):
        return self.start.split(" ")[1]

    def json(self):
        return json.loads(self.body)


def read(stream):
    """The next message; None at the stream's end. Header names come in lower case."""
    start = stream.readline()
    if not start:
        return None
    headers = []
    while (line := stream.readline().rstrip(b"\r\n")) != b"":
        name, _, value = line.decode().partition(":")
        headers.append((name.lower(), value.strip()))
    message = Message(start.decode().rstrip(), headers, b"")
    if message.values("transfer-encoding"):
        while (size := int(stream.readline(), 16)) > 0:
            message.body += stream.read(size)
            stream.readline()
        stream.readline()
    elif message.values("content-length"):
        message.body = stream.read(int(message.values("content-length")[0]))
    return message


def framed(start, headers, body):
    lines = [start, *(f"{name}: {value}" for name, value in headers)]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Client:
    """One connection to the gateway, kept open."""

    def __init__(self, address):
        self.address = address
        self.socket = socket.create_connection(address, timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")

    def ask(self, method, target, headers=(), body=b""):
        host = ("host", "{}:{}".format(*self.address))
        self.socket.sendall(framed(f"{method} {target} HTTP/1.1", [host, *headers], body))
        return read(self.stream)

    def close(self):
        self.stream.close()
        self.socket.close()


class Upstream:
    """A provider: keeps the last request that it got, and answers every one alike."""

    REPLY = b'{"id":"reply-1","usage":{"prompt_tokens":3,"completion_tokens":5}}'

    def __init__(self):
        self.last = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:{}".format(self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self):
        """The last request, if there was one since the last call."""
        last, self.last = self.last, None
        return last

    def close(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reply = framed("HTTP/1.1 200 OK", [("content-type", "application/json")], self.REPLY)
        stream = connection.makefile("rb")
        while (request := read(stream)) is not None:
            self.last = request
            connection.sendall(reply)
