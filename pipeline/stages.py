"""Wall time by stage: every part's footer tells where its seconds went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stages:
    """Seconds spent in named stages, summed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def milliseconds(self) -> dict[str, int]:
        """The seconds as counts, for the driver: `<stage>_ms`."""
        return {f"{stage}_ms": round(seconds * 1000) for stage, seconds in self.seconds.items()}
