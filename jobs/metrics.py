"""A job's numbers for Prometheus, by Ray's metrics: every node's Ray agent exports them, on the port it was given.

Labels are the run's name, the command, and a reason, stage or state of a closed list: shards and workers come in
hundreds of thousands, and would be series each.
"""

from collections.abc import Sequence

from ray.util.metrics import Counter, Gauge

from jobs.heartbeats import Heartbeat
from jobs.stragglers import Flight
from jobs.tasks import Task, Watcher

PREFIX = "parrotscope_"

LABELS = ("run", "command")
"""Of every metric. Not `job`: Prometheus puts a label of that name on all it scrapes."""

COUNTERS = {
    "samples": ("Samples that became rows, of shards that are done", ()),
    "rejects": ("Samples that could not be used, of shards that are done", ("reason",)),
    "stage_seconds": ("Seconds that workers spent, of shards that are done", ("stage",)),
    "retries": ("Tries of shards that failed and are made again", ()),
}

GAUGES = {
    "shards": ("Shards of the command: left, done, failed", ("state",)),
    "samples_in_flight": ("Samples of the shards that workers are at, by their last heartbeats", ()),
    "workers": ("Workers that are at a shard", ()),
}


class Metrics:
    """A watcher that records what it is told, and tells it on.

    Args:
        watcher: told everything too.
        run: name of the run, without its place.
        command: as `extract`.
        shards: how many the command has to do.
    """

    def __init__(self, watcher: Watcher, run: str, command: str, shards: int) -> None:
        self._watcher = watcher
        self._labels = {"run": run, "command": command}
        self._counters = {name: Counter(PREFIX + name, said, LABELS + more) for name, (said, more) in COUNTERS.items()}
        self._gauges = {name: Gauge(PREFIX + name, said, LABELS + more) for name, (said, more) in GAUGES.items()}
        self._shards = {"left": shards, "done": 0, "failed": 0}
        self._set_shards()

    def running(self, in_flight: dict[str, Heartbeat], actors: int, idle: int, flights: Sequence[Flight]) -> None:
        self._set("samples_in_flight", sum(beat[0] for beat in in_flight.values()))
        self._set("workers", actors)
        self._watcher.running(in_flight, actors, idle, flights)

    def finished(self, task: Task, counts: dict[str, int]) -> None:
        self._count("samples", counts["rows"])
        for name, number in counts.items():
            if name.startswith("reject_"):
                self._count("rejects", number, reason=name.removeprefix("reject_"))
            if name.endswith("_ms"):
                self._count("stage_seconds", number / 1000, stage=name.removesuffix("_ms"))
        self._ended("done")
        self._watcher.finished(task, counts)

    def retried(self, task: Task) -> None:
        self._count("retries", 1)
        self._watcher.retried(task)

    def failed(self, task: Task) -> None:
        self._ended("failed")
        self._watcher.failed(task)

    def _ended(self, state: str) -> None:
        self._shards["left"] -= 1
        self._shards[state] += 1
        self._set_shards()

    def _set_shards(self) -> None:
        for state, number in self._shards.items():
            self._set("shards", number, state=state)

    def _count(self, name: str, number: float, **labels: str) -> None:
        if number > 0:  # Ray refuses to add nothing
            self._counters[name].inc(number, self._labels | labels)

    def _set(self, name: str, number: float, **labels: str) -> None:
        self._gauges[name].set(number, self._labels | labels)
