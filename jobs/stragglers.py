"""Stragglers: shards that take much longer than their size predicts, and whether a copy would be done sooner."""

import math
import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

MIN_SECONDS = 60.0
"""Less is worth no copy: a worker that died, or one slow answer of storage, costs as much."""

FACTOR = 2.0
"""Times as long as its size predicts, from which on a shard is a straggler."""

MIN_DONE = 3
"""Shards that must be done before their pace predicts anything."""

_PACES = 1000


@dataclass(frozen=True)
class Flight:
    """A shard in flight: bytes it has and bytes read, and seconds since its worker set out on it."""

    shard: str
    size: int
    position: int
    seconds: float

    @property
    def left(self) -> float:
        """Seconds it still takes at its own pace; infinite before its first heartbeat."""
        return self.seconds * max(self.size - self.position, 0) / self.position if self.position else math.inf


def told_slowest(flights: Iterable[Flight], most: int) -> str:
    """The shards that take longest from now on, in words; empty where there are none."""
    slowest = sorted(flights, key=lambda flight: (flight.left, flight.seconds), reverse=True)[:most]
    return ", ".join(
        f"{flight.shard} at {flight.position / (flight.size or 1):.0%} after {flight.seconds:,.0f} s"
        f" ({flight.position / 1e6 / max(flight.seconds, 1):,.1f} MB/s)"
        for flight in slowest
    )


class Pace:
    """How long shards take, by those that are done."""

    def __init__(self) -> None:
        self._seconds_per_byte: deque[float] = deque(maxlen=_PACES)

    def add(self, size: int, seconds: float) -> None:
        """A shard of so many bytes was done in so many seconds."""
        if size:
            self._seconds_per_byte.append(seconds / size)

    def straggler(self, flights: Iterable[Flight]) -> Flight | None:
        """The shard that most needs a copy: late by its size, and still busy for longer than a copy would be.

        A huge shard is late by none of that: its copy would take as long again.
        """
        if len(self._seconds_per_byte) < MIN_DONE:
            return None
        pace = statistics.median(self._seconds_per_byte)
        late = [
            flight
            for flight in flights
            if flight.seconds > max(MIN_SECONDS, FACTOR * pace * flight.size) and flight.left > pace * flight.size
        ]
        return max(late, key=lambda flight: flight.left, default=None)
