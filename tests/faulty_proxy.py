"""An HTTP proxy on the loopback address, in front of an S3 server, that does what broken storage and networks do."""

import http.client
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STORAGE_FAULTS = ("answer 503", "reset", "lose answer", "stall", "cut answer", "cut upload")
STALL_SECONDS = 4.0
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass(frozen=True)
class StorageFault:
    """One request that goes wrong.

    Attributes:
        kind: one of STORAGE_FAULTS. `lose answer`: the server does what it is asked, and the client never learns of
            it. An answer or upload that is cut ends within its body.
        after: requests since `arm` that pass before; the next one it fits is struck.
        amount: in [0, 1): the share of the body that passes, or of STALL_SECONDS that a stall takes.
        name: how the object's path ends; any where empty.
        at: byte of the object that an answer is to reach and is cut before, whatever `amount` says.
    """

    kind: str
    after: int
    amount: float = 0.0
    name: str = ""
    at: int | None = None

    def fits(self, method: str, path: str, first: int, last: float) -> bool:
        """Whether a request can go wrong so: `first` and `last` are the bytes it asks for."""
        if not path.partition("?")[0].endswith(self.name):
            return False
        match self.kind:
            case "cut answer":
                return method == "GET" and (self.at is None or first <= self.at <= last)
            case "cut upload":
                return method == "PUT"
        return True


class FaultyProxy(ThreadingHTTPServer):
    """Forwards to a server on the loopback address; faultless until it is armed.

    Args:
        target: port of the server.

    Attributes:
        requests: how many came since `arm`.
        struck: the faults that happened since.
        uploads: paths of the objects that were put since.
    """

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self._lock = threading.Lock()
        self.arm(())
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def arm(self, faults: Sequence[StorageFault]) -> None:
        """Forget what was and let these faults happen from now on."""
        with self._lock:
            self.requests = 0
            self.struck: list[StorageFault] = []
            self.uploads: set[str] = set()
            self._waiting = sorted(faults, key=lambda fault: fault.after)

    def disarm(self) -> None:
        """Let no more faults happen."""
        with self._lock:
            self._waiting = []

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say what went wrong, unless it is that a client was killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def taken(self, method: str, path: str, first: int, last: float) -> StorageFault | None:
        """The fault of the request that has come, if it is to have one."""
        with self._lock:
            self.requests += 1
            for fault in self._waiting:
                if fault.after < self.requests and fault.fits(method, path, first, last):
                    self._waiting.remove(fault)
                    self.struck.append(fault)
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    server: FaultyProxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-"))
        first, last = (int(span[1]), float(span[2] or "inf")) if span else (0, float("inf"))
        fault = self.server.taken(self.command, self.path, first, last)
        kind, amount = (fault.kind, fault.amount) if fault else ("", 0.0)
        length = int(self.headers.get("Content-Length", 0))
        upload = self.rfile.read(int(length * amount) if kind == "cut upload" else length)
        match kind:
            case "reset" | "cut upload":
                return self._reset()
            case "answer 503":
                return self._answer(503, [], SLOW_DOWN, len(SLOW_DOWN))
            case "stall":
                time.sleep(amount * STALL_SECONDS)
        server = http.client.HTTPConnection("127.0.0.1", self.server.target)
        server.request(self.command, self.path, upload, dict(self.headers))
        answer = server.getresponse()
        body = answer.read()
        server.close()
        if self.command == "PUT" and answer.status < 300:
            self.server.uploads.add(self.path.partition("?")[0])
        if kind == "lose answer":
            return self._reset()
        size = int(answer.headers["Content-Length"]) if self.command == "HEAD" else len(body)
        if kind == "cut answer":
            body = body[: int(len(body) * amount) if fault is None or fault.at is None else fault.at - first]
        return self._answer(answer.status, answer.getheaders(), body, size)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _forward  # noqa: N815

    def _answer(self, status: int, headers: Sequence[tuple[str, str]], body: bytes, size: int) -> None:
        """Send the answer; a body of another `size` ends with the connection."""
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.close_connection = len(body) < size

    def _reset(self) -> None:
        """Break the connection off: the client gets no orderly end, but a reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, *_: object) -> None:
        """Nothing: the test's output is its own."""
