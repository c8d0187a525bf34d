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


def paired(one: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of two calls taken in turns: what disturbs the machine disturbs both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for call in (one, other):  # caches, lazy set-up
        call()
    for _ in range(rounds):
        for call, times in zip((one, other), seconds, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])
