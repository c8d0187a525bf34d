"""A TCP proxy on the loopback address that cuts connections in the middle of what the server sends."""

import random
import socket
import threading


class CuttingProxy:
    """Forwards to a server; each of the first `cuts` connections is broken off after a drawn number of bytes.

    Args:
        target: port of the server on the loopback address.
        cuts: how many connections are cut.
        seed: of the drawn offsets.
    """

    def __init__(self, target: int, cuts: int, seed: int) -> None:
        self._target = target
        self._left = cuts
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._forward, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, self._budget()), daemon=True).start()

    def _budget(self) -> int | None:
        """Bytes a connection may receive before it is cut; None: all."""
        with self._lock:
            if not self._left or self._random.random() < 0.2:
                return None
            self._left -= 1
            # In the head of an answer, in a small one, in the middle of a shard.
            return self._random.randrange(1, self._random.choice([400, 4_000, 80_000]))

    def _forward(self, source: socket.socket, sink: socket.socket, budget: int | None) -> None:
        try:
            while data := source.recv(4096 if budget is None else min(4096, budget)):
                sink.sendall(data)
                if budget is not None:
                    budget -= len(data)
                    if not budget:
                        with self._lock:
                            self.cut += 1
                        break
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
