"""A pool of Ray actors that works through shards: requeue on loss, retry on failure, room for new nodes.

Actors are never restarted by Ray: an endlessly restarting actor can wait for ever for a CPU on a shrunken
cluster. The driver replaces lost actors and puts their shards back.
"""

import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from jobs.boards import Boards, last_words, silent
from jobs.capacity import PoolError, actors_wanted, check_room
from jobs.deaths import as_a_death, by_itself, detail
from jobs.heartbeats import Heartbeat
from jobs.search import Search
from jobs.stragglers import Flight, Pace
from jobs.tasks import Call, Task, Watcher
from pipeline.config import ResourcesConfig
from pipeline.run import RunError

TICK_SECONDS = 0.5
BACKOFF_SECONDS = (1.0, 5.0, 30.0)

MAX_REFUSALS = 10
"""Actors that may fail to get ready before no more are tried; those at work go on."""

MAX_LOST_NODES = 20
"""Spot instances vanish; so often that is not held against the shard in their hands."""

HARMLESS = (OSError, ValueError, RunError)
"""Errors after which a worker goes on; others may have broken what it holds, as CUDA's break a whole process."""


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
            label_selector={"pool": resources.pool} if resources.pool else None,
        )(actor)
        self._arguments = arguments
        self._admit = admit
        self._resources = resources
        self._waiting: deque[Task] = deque()
        self._calls: dict[Any, Call] = {}
        self._idle: list[Any] = []
        self._admitted = 0
        self._refused = 0
        self._node = ray.get_runtime_context().get_node_id()
        self._pace = Pace()
        self._boards = Boards()

    def run(self, tasks: Sequence[Task], watcher: Watcher) -> None:
        """Work through the tasks; every one ends in `watcher.finished` or `watcher.failed`.

        Raises:
            PoolError: no actor can be made ready: a model is missing, or no node holds one actor.
        """
        self._waiting.extend(tasks)
        check_room(self._resources)
        try:
            while self._waiting or self._tasks():
                self._spawn()
                self._dispatch()
                self._copy_straggler()
                if self._calls:
                    for reference in ray.wait(list(self._calls), timeout=TICK_SECONDS)[0]:
                        self._settle(reference, watcher)
                else:
                    time.sleep(TICK_SECONDS)
                self._end_stalled()
                beats = self._boards.heartbeats({task.shard for task in self._tasks()})
                watcher.running(beats, len(self._tasks()), len(self._idle), self._flights(beats))
        finally:
            for actor in [*self._idle, *(call.actor for call in self._calls.values())]:
                ray.kill(actor)
            self._boards.close()

    def probe(self) -> None:
        """Make one actor ready and admit it, for a job that has nothing to do.

        Raises:
            PoolError: it cannot be made ready, or is refused.
        """
        check_room(self._resources)
        actor = self._remote.remote(*self._arguments)
        try:
            self._admit(ray.get(actor.ready.remote()))
        except Exception as error:
            raise PoolError(str(error.cause if isinstance(error, RayTaskError) else error)) from error
        finally:
            ray.kill(actor)

    def _check_own_node(self) -> None:
        """Ray ends every actor of a driver whose node it takes for lost, and lets the driver wait for ever."""
        if not any(node["Alive"] and node["NodeID"] == self._node for node in ray.nodes()):
            raise PoolError("Ray has lost the node this command runs on; start the same command again.")

    def _spawn(self) -> None:
        if self._refused >= MAX_REFUSALS:
            if not self._idle and not self._calls:
                raise PoolError(f"{self._refused} workers in a row could not be made ready.")
            return
        active = len(self._idle) + len(self._calls)
        work = len(self._waiting) + len(self._tasks())
        for _ in range(min(actors_wanted(self._resources), work) - active):
            actor = self._remote.remote(*self._arguments)
            self._calls[actor.ready.remote()] = Call(actor)

    def _dispatch(self) -> None:
        now = time.monotonic()
        for _ in range(len(self._waiting)):
            if not self._idle:
                return
            task = self._waiting.popleft()
            if task.not_before > now:
                self._waiting.append(task)
                continue
            self._call(task, self._boards.other())

    def _call(self, task: Task, board: Any) -> None:
        """Give a task to an idle actor."""
        actor, search = self._idle.pop(), task.search
        board.begin.remote(task.shard)
        if search is None:
            reference = actor.work.remote(board, *task.arguments)
        elif search.first is None:
            reference = actor.work.remote(board, *task.arguments, search.crashes)
        else:
            reference = actor.search.remote(board, *task.arguments, search.first, search.crashes)
        self._calls[reference] = Call(actor, task, board)

    def _copy_straggler(self) -> None:
        """Let an idle actor do the most belated shard too; whoever is done first ends the other: their parts agree."""
        if self._waiting or not self._idle:
            return
        copies = Counter(self._tasks())
        calls = {call.task.shard: call for call in self._calls.values() if call.task and copies[call.task] == 1}
        flights = self._flights(self._boards.heartbeats(calls))
        late = self._pace.straggler(flight for flight in flights if flight.size and flight.shard in calls)
        if late and (call := calls[late.shard]).task and not call.task.searching:
            self._call(call.task, self._boards.other(call.board))

    def _settle(self, reference: Any, watcher: Watcher) -> None:
        call = self._calls.pop(reference, None)
        if call is None:  # of a copy whose other is settled
            return
        actor, task = call.actor, call.task
        # What becomes of one of two that work on the same is told by the other.
        alone = task not in self._tasks()
        try:
            result = ray.get(reference)
            if task is None:
                self._admit(result)
        except (RayActorError, OutOfMemoryError) as error:
            ray.kill(actor)
            self._check_own_node()
            if task is None and by_itself(error):
                self._refuse(f"a worker process died while loading its models: {detail(error)}")
            elif task is None:
                self._refused += 1
            elif alone and (by_itself(error) or len(task.errors) >= MAX_LOST_NODES):
                why = call.ended or f"the worker process died: {detail(error)}"
                self._failed(task, call, why, watcher, suspicious=by_itself(error))
            elif alone:
                self._again(task, f"its node was lost: {detail(error)}", watcher, tries=0)
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
                if alone:
                    why = "".join(traceback.format_exception_only(cause)).strip()
                    self._failed(task, call, why, watcher, suspicious=as_a_death(cause))
        else:
            self._idle.append(actor)
            if task is None:
                self._admitted += 1
                self._refused = 0
            elif task.searching and task.search:
                self._searched(task, task.search, watcher)
            else:
                self._finished(task, call, result, watcher)

    def _finished(self, task: Task, call: Call, counts: dict[str, int], watcher: Watcher) -> None:
        self._pace.add(task.size, time.monotonic() - call.since)
        for reference, copy in list(self._calls.items()):
            if copy.task is task:
                del self._calls[reference]
                ray.kill(copy.actor)
        self._boards.drop(task.shard)
        watcher.finished(task, counts)

    def _failed(self, task: Task, call: Call, why: str, watcher: Watcher, suspicious: bool) -> None:
        """A try is over. Where a sample may have ended it, those in flight are searched for the one that did."""
        words = last_words(call.board, task.shard) if task.search and suspicious else None
        if task.search is None or words is None:
            self._again(task, why, watcher)
            return
        after, place = words
        told = task.search.died(place, why) if task.searching else task.search.begin(after)
        # Only a death of which nothing comes is one of the shard's tries.
        vain = not task.searching and not task.search.found
        self._again(task, f"{why}; {told}", watcher, tries=int(vain))

    def _searched(self, task: Task, search: Search, watcher: Watcher) -> None:
        search.end()
        if search.found:
            self._waiting.appendleft(task)
        else:
            self._again(task, "one by one, and batch by batch, its samples ended no worker", watcher)

    def _refuse(self, why: str) -> None:
        """One odd node may fail alone; a job none of whose actors ever came up is hopeless."""
        if not self._admitted:
            raise PoolError(why)
        self._refused += 1

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
        watched = [call for call in self._calls.values() if call.task and call.task.search and not call.ended]
        seconds = self._resources.stall_seconds
        for board in {call.board for call in watched}:
            shards = silent(board, seconds)
            for call in watched:
                if call.board == board and call.task and call.task.shard in shards:
                    call.ended = f"nothing was heard of the worker for {seconds:g} s, and it was ended"
                    ray.kill(call.actor)

    def _tasks(self) -> list[Task]:
        """Those in flight, each as often as it is."""
        return [call.task for call in self._calls.values() if call.task]

    def _flights(self, beats: dict[str, Heartbeat]) -> list[Flight]:
        now, flights = time.monotonic(), {}
        # The first call of a shard is listed first, and ages it.
        for call in reversed(self._calls.values()):
            if task := call.task:
                position = beats.get(task.shard, (0, 0, 0))[2]
                flights[task.shard] = Flight(task.shard, task.size, position, now - call.since)
        return list(flights.values())
