"""Servers of mail and of HTTP that take pages, in this process, and one that only listens."""

import contextlib
import http.server
import json
import socket
import socketserver
import ssl
import threading
import time


class Inbox(socketserver.ThreadingTCPServer):
    """A server of SMTP (RFC 5321) with STARTTLS (RFC 3207): the mails that it took are in `mails`."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self, trust: ssl.SSLContext | None = None, refuse: int = 0, implicit: bool = False):
        super().__init__(("127.0.0.1", 0), Talk)
        self.trust, self.refuse, self.implicit, self.mails, self.secured = trust, refuse, implicit, [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_address[1]


class Talk(socketserver.StreamRequestHandler):
    def handle(self):
        self.secure = False
        with contextlib.suppress(OSError, ValueError):
            if self.server.implicit:
                self.secure_all()
            self.say("220 here")
            while self.answer(self.rfile.readline().decode().strip()):
                pass

    def secure_all(self):
        self.connection = self.server.trust.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile, self.secure = self.connection.makefile("rb"), self.connection.makefile("wb", 0), True

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def answer(self, line):
        word = line.upper().partition(" ")[0]
        if word == "EHLO":
            self.say("250-here\r\n250-STARTTLS\r\n250 SIZE" if self.server.trust and not self.secure else "250-here\r\n250 SIZE")
        elif word == "STARTTLS" and self.server.trust:
            self.say("220 go on")
            self.secure_all()
        elif word == "DATA":
            self.say("354 go on")
            lines = []
            while (one := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(one)
            if self.server.refuse > 0:
                self.server.refuse -= 1
                self.say("451 later")
            else:
                self.server.mails.append(b"".join(lines))
                self.server.secured.append(self.secure)
                self.say("250 taken")
        elif word == "QUIT" or not word:
            return False
        else:
            self.say("250 good")
        return True


class Hook(http.server.ThreadingHTTPServer):
    """A server of HTTP: bodies and headers of what was posted, by path; the first `refuse` are answered with 503."""

    daemon_threads = True

    def __init__(self, refuse: int = 0):
        self.posts, self.refuse = [], refuse
        super().__init__(("127.0.0.1", 0), Take)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Take(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        code = 200
        if self.server.refuse > 0:
            self.server.refuse, code = self.server.refuse - 1, 503
        else:
            self.server.posts.append((self.path, json.loads(content), dict(self.headers)))
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def deaf(drip: bytes = b""):
    """The port of a server that never says a whole line; where given, it says a letter every now and then."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held, go_on = [], [True]

        def take():
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])

        def say():
            while go_on and drip:
                for one in held:
                    with contextlib.suppress(OSError):
                        one.send(drip)
                time.sleep(0.05)

        for run in (take, say):
            threading.Thread(target=run, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            go_on.clear()
            for one in held:
                one.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_for(holds, seconds=20.0):
    """Wait until something holds; whether it did."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False
