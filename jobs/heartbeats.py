"""Heartbeats: how far the workers are with their shards, told from them to the driver."""

Heartbeat = tuple[int, int, int]
"""Rows and rejects so far, and bytes of the shard read."""


class Board:
    """Heartbeats of the shards in flight."""

    def __init__(self) -> None:
        self._shards: dict[str, Heartbeat] = {}

    def add(self, shard: str, rows: int, rejects: int, position: int) -> None:
        before = self._shards.get(shard, (0, 0, 0))
        self._shards[shard] = (before[0] + rows, before[1] + rejects, position)

    def drop(self, shard: str) -> None:
        self._shards.pop(shard, None)

    def snapshot(self) -> dict[str, Heartbeat]:
        return self._shards
