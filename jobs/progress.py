"""What a job says while it runs: a live bar on a terminal, plain log lines elsewhere."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from jobs.console import say
from jobs.heartbeats import Heartbeat
from jobs.pool import TICK_SECONDS
from jobs.stragglers import Flight, told_slowest
from jobs.tasks import Task
from pipeline.run import Run
from pipeline.secrets import plain
from pipeline.shards import Shard
from pipeline.storage import storage_errors

LOG_SECONDS = 10.0
"""Between two plain log lines."""

SHOWN_SLOWEST = 3
"""Shards that are named when workers are idle: they are what the job waits for."""


class Reporter:
    """Follows a pool: counts samples, rejects and shards, shows them, and keeps the errors of failed shards.

    Args:
        title: name of the job.
        run: where errors/<shard>.json is written.
        shards: all shards the job will work on: their sizes make the bar's length.
        console: where to show.
    """

    def __init__(self, title: str, run: Run, shards: Sequence[Shard], console: Console) -> None:
        self.rows = 0
        self.rejects = 0
        self.failures: list[Task] = []
        self._title = title
        self._run = run
        self._sizes = {shard.id: shard.size or 1 for shard in shards}
        self._stale_errors = run.failed()
        self._done_bytes = 0
        self._done_shards = 0
        self._console = console
        # Counted from the first heartbeat: loading models is no rate of samples.
        self._start: float | None = None
        self._logged = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[samples]}  ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[tail]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=sum(self._sizes.values()), samples="", tail="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        self._say(self._line(self.rows, self.rejects))

    def running(self, in_flight: dict[str, Heartbeat], actors: int, idle: int, flights: Sequence[Flight]) -> None:
        rows = self.rows + sum(beat[0] for beat in in_flight.values())
        rejects = self.rejects + sum(beat[1] for beat in in_flight.values())
        position = self._done_bytes + sum(beat[2] for beat in in_flight.values())
        if self._start is None and (actors or rows):
            self._start = time.monotonic()
        line = self._line(rows, rejects)
        slowest = told_slowest(flights, SHOWN_SLOWEST if idle else 1)
        self._bar.update(self._task, completed=position, samples=line, tail=f"{idle} idle, {slowest}" if idle else "")
        if not self._console.is_terminal and time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            work = f"{actors} at work, {idle} idle, ETA {self._eta(position)}, slowest {slowest or 'none'}"
            self._say(f"{line}, {work}" if self._start else "loading models")

    def finished(self, task: Task, counts: dict[str, int]) -> None:
        self.rows += counts["rows"]
        self.rejects += counts.get("rejects", 0)
        self._done_bytes += self._sizes[task.shard]
        self._done_shards += 1
        if task.errors or task.shard in self._stale_errors:
            with self._informing(task):
                self._run.remove("errors", f"{task.shard}.json")

    def retried(self, task: Task) -> None:
        self._say(f"shard {task.shard}: {_brief(task.errors[-1])}; to be tried again")
        self._write_errors(task)

    def failed(self, task: Task) -> None:
        self.failures.append(task)
        self._say(f"shard {task.shard} set aside after {len(task.errors)} tries: {_brief(task.errors[-1])}")
        self._write_errors(task)

    def _write_errors(self, task: Task) -> None:
        record = {"shard": task.shard, "job": self._title, "errors": plain(task.errors)}
        with self._informing(task):
            self._run.write_json(record, "errors", f"{task.shard}.json")

    @contextmanager
    def _informing(self, task: Task) -> Iterator[None]:
        """An error file only informs: storage that fails it must not end a job that goes on otherwise."""
        try:
            with storage_errors(self._run.url):
                yield
        except OSError as error:
            self._say(f"the error file of shard {task.shard} is not as it should be: {_brief(str(error))}")

    def _line(self, rows: int, rejects: int) -> str:
        # In the first moments a rate says nothing.
        rate = f"{rows / self._elapsed():,.1f}" if self._elapsed() > TICK_SECONDS else "–"
        return f"{rows:,} samples, {rate}/s, {rejects:,} rejects, {self._done_shards}/{len(self._sizes)} shards"

    def _elapsed(self) -> float:
        return time.monotonic() - self._start if self._start else 0.0

    def _eta(self, position: int) -> str:
        if not position:
            return "unknown"
        return f"{self._elapsed() * (sum(self._sizes.values()) - position) / position:,.0f} s"

    def _say(self, line: str) -> None:
        say(self._console, f"{self._title}: {line}")


def _brief(error: str) -> str:
    """The last line of an error, cut to what a log line bears."""
    return error.strip().splitlines()[-1][:300]
