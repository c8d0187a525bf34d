"""A pool of Ray actors that works through shards: requeue on loss, retry on failure, room for new nodes.

Actors are never restarted by Ray: an endlessly restarting actor can wait for ever for a CPU on a shrunken
cluster. The driver replaces lost actors and puts their shards back.
"""

import re
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.heartbeats import Board, Heartbeat
from jobs.search import Search
from pipeline.config import ResourcesConfig
from pipeline.run import RunError

TICK_SECONDS = 0.5
BACKOFF_SECONDS = (1.0, 5.0, 30.0)

MAX_REFUSALS = 10
"""Actors that may fail to get ready before no more are tried; those at work go on."""

LAST_WORDS_SECONDS = 30.0

_LOST_NODE = "its node has died"
"""Ray's words for an actor that went with its node; there is no type of error for it."""

HARMLESS = (OSError, ValueError, RunError)
"""Errors after which a worker goes on; others may have broken what it holds, as CUDA's break a whole process."""


class PoolError(RuntimeError):
    """No worker can do the job at all; the message says why."""


@dataclass
class Task:
    """One shard's work and its history.

    Attributes:
        shard: id of the shard.
        arguments: passed to the actor's `work`.
        search: what is known of samples that end their workers; None: it is not looked for them.
        errors: one entry per failed attempt.
        tries: failed attempts that are no part of a search which finds something.
        ended: why the driver ended the worker, where it did.
    """

    shard: str
    arguments: tuple[Any, ...]
    search: Search | None = None
    errors: list[str] = field(default_factory=list)
    tries: int = 0
    not_before: float = 0.0
    ended: str = ""


class Watcher(Protocol):
    """What the driver is told while the pool runs."""

    def running(self, in_flight: dict[str, Heartbeat], actors: int) -> None:
        """Every tick: the last heartbeat of each shard in flight, and the number of actors at work."""

    def finished(self, task: Task, counts: dict[str, int]) -> None:
        """A shard is done."""

    def retried(self, task: Task) -> None:
        """A shard failed and will be tried again."""

    def failed(self, task: Task) -> None:
        """A shard is set aside after its last attempt."""


class Pool:
    """Actors with one call in flight each.

    Args:
        actor: an undecorated actor class with `ready() -> facts` and `work(board, *arguments) -> counts`; for tasks
            with a search `work(board, *arguments, crashes)` and `search(board, *arguments, first, crashes)`.
        arguments: of its constructor, which must be cheap: models are loaded in `ready`.
        admit: called with the facts of each actor that is ready, before it gets work; raises to refuse it.
        resources: CPUs and GPUs per actor, the largest number of actors, tries per shard.
    """

    def __init__(
        self,
        actor: type,
        arguments: tuple[Any, ...],
        admit: Callable[[Any], None],
        resources: ResourcesConfig,
    ) -> None:
        self._remote = ray.remote(
            num_cpus=resources.cpus_per_actor,
            num_gpus=resources.gpus_per_actor,
            max_restarts=0,
            max_task_retries=0,
        )(actor)
        self._arguments = arguments
        self._admit = admit
        self._resources = resources
        self._waiting: deque[Task] = deque()
        self._calls: dict[Any, tuple[Any, Task | None]] = {}  # reference → actor, its task or None for ready()
        self._idle: list[Any] = []
        self._admitted = 0
        self._refused = 0
        # Beside the driver: heartbeats must not go with a worker's node.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._board = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote()

    def run(self, tasks: Sequence[Task], watcher: Watcher) -> None:
        """Work through the tasks; every one ends in `watcher.finished` or `watcher.failed`.

        Raises:
            PoolError: no actor can be made ready: a model is missing, or no node holds one actor.
        """
        self._waiting.extend(tasks)
        self._check_room()
        try:
            while self._waiting or any(task for _, task in self._calls.values()):
                self._spawn()
                self._dispatch()
                if self._calls:
                    for reference in ray.wait(list(self._calls), timeout=TICK_SECONDS)[0]:
                        self._settle(reference, watcher)
                else:
                    time.sleep(TICK_SECONDS)
                self._end_stalled()
                watcher.running(self._heartbeats(), sum(task is not None for _, task in self._calls.values()))
        finally:
            for actor in [*self._idle, *(actor for actor, _ in self._calls.values())]:
                ray.kill(actor)
            ray.kill(self._board)

    def probe(self) -> None:
        """Make one actor ready and admit it, for a job that has nothing to do.

        Raises:
            PoolError: it cannot be made ready, or is refused.
        """
        self._check_room()
        actor = self._remote.remote(*self._arguments)
        try:
            self._admit(ray.get(actor.ready.remote()))
        except Exception as error:
            raise PoolError(str(error.cause if isinstance(error, RayTaskError) else error)) from error
        finally:
            ray.kill(actor)

    def _check_room(self) -> None:
        """Fail at the start when no node could ever hold one actor."""
        need = {"CPU": self._resources.cpus_per_actor, "GPU": self._resources.gpus_per_actor}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(kind, 0) >= amount for kind, amount in need.items()) for node in nodes):
            raise PoolError(
                f"No node has the {need['CPU']} CPUs and {need['GPU']:g} GPUs of one actor; "
                f"the cluster's nodes: {[{k: n.get(k, 0) for k in need} for n in nodes]}."
            )

    def _size(self) -> int:
        """How many actors the cluster holds now."""
        total = ray.cluster_resources()
        size = int(total.get("CPU", 0) // self._resources.cpus_per_actor)
        if self._resources.gpus_per_actor:
            size = min(size, int(total.get("GPU", 0) / self._resources.gpus_per_actor))
        return min(size, self._resources.max_actors or size)

    def _spawn(self) -> None:
        if self._refused >= MAX_REFUSALS:
            if not self._idle and not self._calls:
                raise PoolError(f"{self._refused} workers in a row could not be made ready.")
            return
        active = len(self._idle) + len(self._calls)
        work = len(self._waiting) + sum(task is not None for _, task in self._calls.values())
        for _ in range(min(self._size(), work) - active):
            actor = self._remote.remote(*self._arguments)
            self._calls[actor.ready.remote()] = (actor, None)

    def _dispatch(self) -> None:
        now = time.monotonic()
        for _ in range(len(self._waiting)):
            if not self._idle:
                return
            task = self._waiting.popleft()
            if task.not_before > now:
                self._waiting.append(task)
                continue
            actor = self._idle.pop()
            self._board.begin.remote(task.shard)
            task.ended = ""
            self._calls[self._call(actor, task)] = (actor, task)

    def _call(self, actor: Any, task: Task) -> Any:
        if task.search is None:
            return actor.work.remote(self._board, *task.arguments)
        if task.search.first is None:
            return actor.work.remote(self._board, *task.arguments, task.search.crashes)
        return actor.search.remote(self._board, *task.arguments, task.search.first, task.search.crashes)

    def _settle(self, reference: Any, watcher: Watcher) -> None:
        actor, task = self._calls.pop(reference)
        try:
            result = ray.get(reference)
            if task is None:
                self._admit(result)
        except (RayActorError, OutOfMemoryError) as error:
            ray.kill(actor)
            if task is None:
                self._refuse(f"a worker process died while loading its models: {_detail(error)}")
            else:
                self._died(task, error, watcher)
        except Exception as error:  # noqa: BLE001 - whatever a shard or a model raised is recorded
            cause = error.cause if isinstance(error, RayTaskError) else error
            if task is None:
                ray.kill(actor)
                self._refuse(str(cause))
            else:
                if isinstance(cause, HARMLESS):
                    self._idle.append(actor)
                else:
                    ray.kill(actor)
                self._again(task, "".join(traceback.format_exception_only(cause)).strip(), watcher)
        else:
            self._idle.append(actor)
            if task is None:
                self._admitted += 1
                self._refused = 0
            elif task.search is not None and task.search.first is not None:
                self._searched(task, task.search, watcher)
            else:
                self._board.drop.remote(task.shard)
                watcher.finished(task, result)

    def _refuse(self, why: str) -> None:
        """One odd node may fail alone; a job none of whose actors ever came up is hopeless."""
        if not self._admitted:
            raise PoolError(why)
        self._refused += 1

    def _died(self, task: Task, error: RayError, watcher: Watcher) -> None:
        """A worker is gone: if by itself, the samples it had in flight are searched for what ended it."""
        why = task.ended or f"the worker process died: {_detail(error)}"
        # One that is unavailable may live, on a node that is out of reach.
        by_itself = not isinstance(error, ActorUnavailableError) and _LOST_NODE not in str(error)
        search, words = task.search, None
        if search is not None and by_itself:
            words = self._ask(self._board.last_words.remote(task.shard), LAST_WORDS_SECONDS)
        if search is None or words is None:
            self._again(task, why, watcher)
            return
        after, place = words
        told = search.begin(after) if search.first is None else search.died(place, why)
        # Only a death that nothing comes of is one of the shard's tries.
        self._again(task, f"{why}; {told}", watcher, tries=int(search.first is None and not search.found))

    def _searched(self, task: Task, search: Search, watcher: Watcher) -> None:
        search.end()
        if search.found:
            self._waiting.appendleft(task)
        else:
            self._again(task, "one by one, and batch by batch, its samples ended no worker", watcher)

    def _again(self, task: Task, error: str, watcher: Watcher, tries: int = 1) -> None:
        task.errors.append(error)
        task.tries += tries
        if hopeless := task.search.hopeless if task.search else "":
            task.errors.append(hopeless)
        if hopeless or task.tries >= self._resources.attempts:
            watcher.failed(task)
            return
        task.not_before = time.monotonic() + BACKOFF_SECONDS[min(max(task.tries, 1), len(BACKOFF_SECONDS)) - 1]
        self._waiting.append(task)
        watcher.retried(task)

    def _end_stalled(self) -> None:
        """End workers of which nothing is heard: what they hang in is searched for as what they die of."""
        watched = {task.shard: (actor, task) for actor, task in self._calls.values() if task and task.search}
        seconds = self._resources.stall_seconds
        silent = self._ask(self._board.silent.remote(seconds)) if watched else None
        for shard in silent or ():
            actor, task = watched.get(shard, (None, None))
            if task is not None and not task.ended:
                task.ended = f"nothing was heard of the worker for {seconds:g} s, and it was ended"
                ray.kill(actor)

    def _ask(self, answer: Any, seconds: float = TICK_SECONDS) -> Any:
        """What the board says; None where it does not answer in time: what it knows decides no row."""
        try:
            return ray.get(answer, timeout=seconds)
        except RayError:
            return None

    def _heartbeats(self) -> dict[str, Heartbeat]:
        in_flight = {task.shard for _, task in self._calls.values() if task}
        shards = self._ask(self._board.snapshot.remote()) or {}
        return {shard: counts for shard, counts in shards.items() if shard in in_flight}


def _detail(error: RayError) -> str:
    """What Ray knows of an actor's end, without its page of addresses."""
    if isinstance(error, OutOfMemoryError):
        return "Ray ended it, as its node ran low on memory"
    told = re.search(r"Worker exit detail: (.+?)(?: Some common causes|$)", str(error), re.MULTILINE)
    return told[1] if told else str(error).strip().splitlines()[-1]
