"""One line of the benchmark's table."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """What was measured, how it came out, and beside what."""

    what: str
    result: str
    ratio: str = ""
    rate: tuple[str, float] | None = None
    """For the cost model: a stage, and samples per second of one core."""


def paired(
    one: Callable[[], object],
    other: Callable[[], object],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Median seconds of two calls taken in turns: what disturbs the machine disturbs both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for call in (one, other):  # caches, lazy set-up
        call()
    for _ in range(rounds):
        for call, times in zip((one, other), seconds, strict=True):
            start = clock()
            call()
            times.append(clock() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])
