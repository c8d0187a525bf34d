"""An HTTP proxy on the loopback address that breaks an object off where a tar member begins."""

import http.client
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class MemberCuttingProxy(ThreadingHTTPServer):
    """Forwards to an S3 server; the first `cuts` answers that reach beyond byte `at` of an object end there.

    Args:
        target: port of the server on the loopback address.
        name: how the object's path ends.
        at: offset in the object.
        cuts: how many answers are cut.
    """

    def __init__(self, target: int, name: str, at: int, cuts: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.name, self.at = target, name, at
        self._left = cuts
        self._lock = threading.Lock()
        self.cut = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def kept(self, path: str, answer: http.client.HTTPResponse, body: bytes) -> bytes:
        """The body, or what is sent of it before the connection is closed."""
        span = re.fullmatch(r"bytes (\d+)-(\d+)/\d+", answer.headers.get("Content-Range", ""))
        start = int(span[1]) if span else 0
        if not path.partition("?")[0].endswith(self.name) or not start <= self.at < start + len(body):
            return body
        with self._lock:
            if not self._left:
                return body
            self._left -= 1
            self.cut += 1
        return body[: self.at - start]


class _Handler(BaseHTTPRequestHandler):
    server: MemberCuttingProxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        server = http.client.HTTPConnection("127.0.0.1", self.server.target)
        server.request(self.command, self.path, self.rfile.read(length), dict(self.headers))
        answer = server.getresponse()
        body = answer.read()
        kept = self.server.kept(self.path, answer, body) if self.command == "GET" else body
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        size = answer.headers["Content-Length"] if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(kept)
        self.close_connection = len(kept) < len(body)
        server.close()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _forward  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing: the test's output is its own."""
