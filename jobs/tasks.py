"""A shard's work and its history, the calls by which actors do it, and who is told of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from jobs.heartbeats import Heartbeat
from jobs.search import Search
from jobs.stragglers import Flight


@dataclass(eq=False)
class Task:
    """One shard's work and its history.

    Attributes:
        shard: id of the shard.
        arguments: passed to the actor's `work`.
        search: what is known of samples that end their workers; None: they are not searched for.
        size: bytes of the shard: predicts how long it takes; 0: nothing does, and it is never copied.
        errors: one entry per failed attempt.
        tries: failed attempts, but for those by which a search found something.
    """

    shard: str
    arguments: tuple[Any, ...]
    search: Search | None = None
    size: int = 0
    errors: list[str] = field(default_factory=list)
    tries: int = 0
    not_before: float = 0.0

    @property
    def searching(self) -> bool:
        """Whether its next or present try is a search."""
        return self.search is not None and self.search.first is not None


@dataclass(eq=False)
class Call:
    """What an actor was asked: to work on a task, or (None) to get ready.

    Attributes:
        board: where it tells how far it is.
        since: when it was asked.
        ended: why the driver ended the worker, where it did.
    """

    actor: Any
    task: Task | None = None
    board: Any = None
    since: float = field(default_factory=time.monotonic)
    ended: str = ""


class Watcher(Protocol):
    """What the driver is told while the pool runs."""

    def running(self, in_flight: dict[str, Heartbeat], actors: int, idle: int, flights: Sequence[Flight]) -> None:
        """Every tick: the last heartbeats of shards in flight, actors at work and idle, and all shards in flight."""

    def finished(self, task: Task, counts: dict[str, int]) -> None:
        """A shard is done."""

    def retried(self, task: Task) -> None:
        """A shard failed and will be tried again."""

    def failed(self, task: Task) -> None:
        """A shard is set aside after its last attempt."""
