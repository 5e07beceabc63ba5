"""The other ends of a message: a mail server, a web server and a server that never answers, on loopback, for real."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any


@dataclass
class Received:
    """What came in, in order; `refuses` makes the server turn everything away."""

    port: int
    refuses: bool = False
    logins: list[str] = field(default_factory=list)
    mails: list[Any] = field(default_factory=list)
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, body

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _ in self.requests]

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Title and text of what Apprise's `json://` posted."""
        said = [json.loads(body) for _, _, body in self.requests if body.startswith("{")]
        return [(one["title"], one["message"]) for one in said]


@contextmanager
def web_server() -> Iterator[Received]:
    """A web server that takes whatever is sent to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            received.requests.append((self.command, self.path, body))
            self.send_response(500 if received.refuses else 200)
            self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as received:
        yield received


@contextmanager
def mail_server() -> Iterator[Received]:
    """A mail server that takes one user's mail; it speaks as much SMTP (RFC 5321, 4954) as a client needs."""

    class Handler(StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(line.encode() + b"\r\n")

        def handle(self) -> None:
            self.say("220 loopback")
            while line := self.rfile.readline().decode().strip():
                verb, _, rest = line.partition(" ")
                match verb.upper():
                    case "EHLO":
                        self.say("250-loopback")
                        self.say("250 AUTH PLAIN")
                    case "AUTH":
                        received.logins.append(base64.b64decode(rest.split()[1]).decode())
                        self.say("535 no" if received.refuses else "235 welcome")
                    case "DATA":
                        self.say("354 go on")
                        self.take()
                        self.say("250 taken")
                    case "QUIT":
                        self.say("221 bye")
                        return
                    case _:
                        self.say("250 fine")

        def take(self) -> None:
            lines = []
            while (line := self.rfile.readline()) != b".\r\n":
                lines.append(line)
            received.mails.append(message_from_bytes(b"".join(lines), policy=policy.default))

    with serving(ThreadingTCPServer(("127.0.0.1", 0), Handler)) as received:
        yield received


@contextmanager
def serving(server: Any) -> Iterator[Received]:
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with server:
            yield Received(port=server.server_address[1])
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a server that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    """A port nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
