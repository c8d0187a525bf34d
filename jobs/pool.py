"""A pool of Ray actors that works through shards: requeue on loss, retry on failure, room for new nodes.

Actors are never restarted by Ray: an endlessly restarting actor can wait for ever for a CPU on a shrunken
cluster. The driver replaces lost actors and puts their shards back.
"""

import re
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.heartbeats import Board, Heartbeat
from pipeline.config import ResourcesConfig
from pipeline.run import RunError

TICK_SECONDS = 0.5
BACKOFF_SECONDS = (1.0, 5.0, 30.0)

MAX_REFUSALS = 10
"""Actors that may fail to get ready before no more are tried; those at work go on."""

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
        errors: one entry per failed attempt.
    """

    shard: str
    arguments: tuple[Any, ...]
    errors: list[str] = field(default_factory=list)
    not_before: float = 0.0


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
        actor: an undecorated actor class with `ready() -> facts` and `work(board, *arguments) -> counts`.
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
            label_selector={"pool": resources.pool} if resources.pool else None,
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
        if self._resources.autoscale:
            return
        need = {"CPU": self._resources.cpus_per_actor, "GPU": self._resources.gpus_per_actor}
        nodes = self._nodes()
        if not any(self._holds(node) for node in nodes):
            raise PoolError(
                f"No node has the {need['CPU']} CPUs and {need['GPU']:g} GPUs of one actor; "
                f"the nodes of {self._resources.pool or 'the cluster'}: "
                f"{[{k: n.get(k, 0) for k in need} for n in nodes]}."
            )

    def _size(self) -> int:
        """How many actors there should be: as many as the cluster holds now, or, where it grows on demand, may."""
        if self._resources.autoscale:
            return self._resources.max_actors or 0
        size = sum(self._holds(node) for node in self._nodes())
        return min(size, self._resources.max_actors or size)

    def _holds(self, node: Mapping[str, float]) -> int:
        """How many actors a node of these resources holds."""
        size = int(node.get("CPU", 0) // self._resources.cpus_per_actor)
        if self._resources.gpus_per_actor:
            size = min(size, int(node.get("GPU", 0) / self._resources.gpus_per_actor))
        return size

    def _nodes(self) -> list[Mapping[str, float]]:
        """Resources of the nodes that actors may run on."""
        pool = self._resources.pool
        return [
            node["Resources"]
            for node in ray.nodes()
            if node["Alive"] and (pool is None or node["Labels"].get("pool") == pool)
        ]

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
            self._board.drop.remote(task.shard)
            self._calls[actor.work.remote(self._board, *task.arguments)] = (actor, task)

    def _settle(self, reference: Any, watcher: Watcher) -> None:
        actor, task = self._calls.pop(reference)
        try:
            result = ray.get(reference)
            if task is None:
                self._admit(result)
        except (RayActorError, ActorUnavailableError) as error:
            ray.kill(actor)
            if task is None:
                self._refuse(f"a worker process died while loading its models: {_detail(error)}")
            else:
                self._again(task, f"the worker process died: {_detail(error)}", watcher)
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
            else:
                self._board.drop.remote(task.shard)
                watcher.finished(task, result)

    def _refuse(self, why: str) -> None:
        """One odd node may fail alone; a job none of whose actors ever came up is hopeless."""
        if not self._admitted:
            raise PoolError(why)
        self._refused += 1

    def _again(self, task: Task, error: str, watcher: Watcher) -> None:
        task.errors.append(error)
        if len(task.errors) >= self._resources.attempts:
            watcher.failed(task)
            return
        task.not_before = time.monotonic() + BACKOFF_SECONDS[min(len(task.errors), len(BACKOFF_SECONDS)) - 1]
        self._waiting.append(task)
        watcher.retried(task)

    def _heartbeats(self) -> dict[str, Heartbeat]:
        in_flight = {task.shard for _, task in self._calls.values() if task}
        try:
            shards = ray.get(self._board.snapshot.remote(), timeout=TICK_SECONDS)
        except RayError:  # late heartbeats change no result
            return {}
        return {shard: counts for shard, counts in shards.items() if shard in in_flight}


def _detail(error: RayActorError) -> str:
    """What Ray knows of an actor's end, without its page of addresses."""
    told = re.search(r"Worker exit detail: (.+)", str(error))
    return told[1] if told else str(error).strip().splitlines()[-1]
