"""A gateway that is not one: the page as the real one serves it, and figures as a test wants them."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

PARTS = Path(__file__).resolve().parents[2] / "host/src/pages/dashboard"


def assemble():
    """The page and its Content-Security-Policy, from the sources that are compiled into the gateway."""
    lines = [
        line.split() for line in (PARTS / "parts.txt").read_text().splitlines() if line and not line.startswith("#")
    ]
    page, policy = (PARTS / "page.html").read_text(), []
    for tag in ["script", "style"]:
        text = "\n".join((PARTS / file).read_text() for kind, file in lines if kind == tag)
        assert f"</{tag}" not in text, f"a part of the page's {tag} would end it"
        assert page.count(f"<{tag}></{tag}>") == 1
        page = page.replace(f"<{tag}></{tag}>", f"<{tag}>{text}</{tag}>")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        policy.append(f"{tag}-src 'sha256-{digest}'")
    rest = "connect-src 'self'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    return page, f"default-src 'none'; {'; '.join(policy)}; {rest}"


class Mock:
    """`answer(query)` gives the figures or, for an error, a status; it may be replaced while the page is open."""

    def __init__(self, answer):
        self.answer, self.queries = answer, []
        mock = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                address = urlsplit(self.path)
                if address.path == "/dashboard":
                    page, policy = assemble()
                    return self.reply(200, "text/html; charset=utf-8", page, policy)
                query = dict(parse_qsl(address.query))
                mock.queries.append(query)
                answer = mock.answer(query)
                if answer is None:
                    return self.connection.close()
                status, body = (
                    (answer, "{}")
                    if isinstance(answer, int)
                    else (200, answer if isinstance(answer, str) else json.dumps(answer))
                )
                self.reply(status, "application/json", body)

            def reply(self, status, kind, body, policy=None):
                data = body.encode()
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.send_header("cache-control", "no-store")
                if policy:
                    self.send_header("content-security-policy", policy)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
