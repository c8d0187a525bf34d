"""Heartbeats: how far the workers are with their shards, told from them to the driver."""

import time

from pipeline.crashes import Place

Heartbeat = tuple[int, int, int]
"""Rows and rejects so far, and bytes of the shard read."""


class Board:
    """What was heard of the shards in flight."""

    def __init__(self) -> None:
        self._shards: dict[str, Heartbeat] = {}
        self._after: dict[str, int] = {}
        self._places: dict[str, Place | None] = {}
        self._heard: dict[str, float] = {}

    def begin(self, shard: str) -> None:
        """A worker sets out on a shard; what was told by an earlier one is forgotten."""
        self.drop(shard)
        self._heard[shard] = time.monotonic()

    def add(self, shard: str, rows: int, rejects: int, position: int, after: int = 0) -> None:
        """A batch is done: its rows and rejects, bytes of the shard read, and the index after it."""
        before = self._shards.get(shard, (0, 0, 0))
        self._shards[shard] = (before[0] + rows, before[1] + rejects, position)
        self._after[shard] = after
        self._heard[shard] = time.monotonic()

    def announce(self, shard: str, place: Place | None) -> None:
        """A search is about to run a place, or (None) through with one."""
        self._places[shard] = place
        self._heard[shard] = time.monotonic()

    def last_words(self, shard: str) -> tuple[int, Place | None]:
        """The index after the last batch that was done, and the place that a search was at."""
        return self._after.get(shard, 0), self._places.get(shard)

    def silent(self, seconds: float) -> list[str]:
        """Shards of which nothing was heard for so long."""
        now = time.monotonic()
        return [shard for shard, heard in self._heard.items() if now - heard > seconds]

    def drop(self, shard: str) -> None:
        for told in (self._shards, self._after, self._places, self._heard):
            told.pop(shard, None)

    def snapshot(self) -> dict[str, Heartbeat]:
        return self._shards
