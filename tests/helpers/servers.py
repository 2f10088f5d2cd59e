"""A web server on this machine that fails in every way a real one does."""

import contextlib
import os
import random
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIZE = 300_000  # several chunks, and more than one socket buffer


def content(seed: int, size: int = SIZE) -> bytes:
    return random.Random(seed).randbytes(size)


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``plan[path]`` lists how the next answers go wrong.

    An answer's fault is a word, a status, or a pair: a header and its value.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.plan: dict[str, list] = {}
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        self.conditions: list[str | None] = []  # If-Range
        self.tag: str | None = None  # of all files
        self.retry_after = "1"
        self.halfway, self.go_on = threading.Event(), threading.Event()
        self.barrier: threading.Barrier | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address) -> None:
        """Broken connections are the point here."""


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass

    def reset(self) -> None:
        # closing with nothing to linger for sends RST in place of FIN
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def do_GET(self) -> None:
        server, how = self.server, "ok"
        server.requests.append((self.path, self.headers.get("Range")))
        server.conditions.append(condition := self.headers.get("If-Range"))
        if server.plan.get(self.path):
            how = server.plan[self.path].pop(0)
        if self.path not in server.files:
            how = 404
        if isinstance(how, int):
            self.send_response(how)
            if how == 429:
                self.send_header("Retry-After", server.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if isinstance(how, tuple):
            self.send_response(302 if how[0] == "Location" else 200)
            self.send_header(*how)
            self.end_headers()
            self.wfile.write(server.files[self.path])
            return
        if how == "endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # until the client closes
                while True:
                    self.wfile.write(bytes(SIZE))
        if how == "reset":
            self.reset()
            return
        if how == "barrier":
            server.barrier.wait(10)
        body, total, start = server.files[self.path], len(server.files[self.path]), 0
        if how == "wrong":
            body = bytes(total)
        elif how == "wrong size":
            body = b"<html>Please log in</html>"
            total = len(body)
        span = self.headers.get("Range")
        if span and how != "no range" and condition in (None, server.tag):
            start = int(span.removeprefix("bytes=").rstrip("-"))
            if start >= total:
                self.send_error(416)
                return
            self.send_response(206)
            claimed = 0 if how == "wrong place" else start
            self.send_header("Content-Range", f"bytes {claimed}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if server.tag:
            self.send_header("ETag", server.tag)
        if how != "no length":
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        half = (start + total) // 2
        self.wfile.write(body[start:half])
        if how in ("truncated", "no length"):
            return
        if how == "reset halfway":
            time.sleep(0.1)  # RST discards what the client has not read yet
            self.reset()
            return
        if how == "hold":
            server.halfway.set()
            server.go_on.wait(10)
        if how == "stall":
            server.go_on.wait(1.5)
            return
        self.wfile.write(body[half:])


def serve(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02},
                              daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
