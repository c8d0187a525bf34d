"""The pool on a real local Ray: every shard ends done or set aside, whatever its actor does."""

import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from jobs.capacity import PoolError, actors_wanted
from jobs.pool import Pool
from jobs.tasks import Task
from pipeline.config import ResourcesConfig

pytestmark = pytest.mark.usefixtures("local_ray")


class Actor:
    """Does what the shard's name says, and leaves a line per call in a file."""

    def __init__(self, folder: str, ready: str = "yes") -> None:
        self._folder = Path(folder)
        self._ready = ready

    def ready(self) -> str:
        if self._ready == "no":
            raise FileNotFoundError("the weights are missing")
        if self._ready == "die":
            os._exit(1)
        return "loaded"

    def work(self, board, shard: str) -> dict[str, int]:
        calls = self._folder / shard
        with calls.open("a") as file:
            file.write(f"{os.getpid()}\n")
        board.add.remote(shard, 5, 1, 100)
        action = shard.split("-")[0]
        n = len(calls.read_text().split())
        if action == "bad" or (action == "flaky" and n < 3):
            raise OSError(f"storage failed at try {n}")
        if action == "broken" and n < 2:
            raise torch.AcceleratorError("an illegal memory access was encountered")
        if action == "poison" or (action == "dies" and n < 2):
            os._exit(1)
        if action == "slow" and n < 2:
            time.sleep(30)
        if action == "proud":  # of its copies none lives
            time.sleep(3 if n < 2 else 0)
            if n > 1:
                os._exit(1)
        return {"rows": 10, "rejects": 2}


class Recorder:
    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.failures: dict[str, list[str]] = {}
        self.retries: Counter[str] = Counter()
        self.beats: dict[str, tuple[int, int, int]] = {}

    def running(self, in_flight, actors, idle, flights) -> None:
        self.beats.update(in_flight)

    def finished(self, task, counts) -> None:
        assert counts == {"rows": 10, "rejects": 2}
        self.done[task.shard] += 1

    def retried(self, task) -> None:
        self.retries[task.shard] += 1

    def failed(self, task) -> None:
        self.failures[task.shard] = task.errors


def run(folder: Path, shards: list[str], ready: str = "yes", admit=None, **resources) -> Recorder:
    recorder = Recorder()
    pool = Pool(Actor, (str(folder), ready), admit or (lambda _: None), ResourcesConfig(**resources))
    pool.run([Task(shard, (shard,)) for shard in shards], recorder)
    return recorder


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch) -> None:
    monkeypatch.setattr("jobs.pool.BACKOFF_SECONDS", (0.0,))


def test_every_shard_is_done_once(tmp_path) -> None:
    shards = [f"good-{i}" for i in range(20)]
    recorder = run(tmp_path, shards)
    assert recorder.done == Counter(shards)
    assert all(len((tmp_path / shard).read_text().split()) == 1 for shard in shards)


def test_failures_are_retried_then_set_aside_and_cost_no_other_shard(tmp_path) -> None:
    recorder = run(tmp_path, ["good-1", "bad-1", "flaky-1", "good-2"], attempts=3)
    assert set(recorder.done) == {"good-1", "good-2", "flaky-1"}
    assert recorder.retries == {"bad-1": 2, "flaky-1": 2}
    assert list(recorder.failures) == ["bad-1"]
    assert [f"OSError: storage failed at try {n}" for n in (1, 2, 3)] == recorder.failures["bad-1"]


def test_a_dead_actor_is_replaced_and_its_shard_put_back(tmp_path) -> None:
    recorder = run(tmp_path, ["dies-1", "dies-2", "good-1", "poison-1"], attempts=2)
    assert set(recorder.done) == {"dies-1", "dies-2", "good-1"}
    assert len(recorder.failures["poison-1"]) == 2
    assert "the worker process died" in recorder.failures["poison-1"][0]


def test_an_actor_whose_models_may_be_broken_is_replaced(tmp_path) -> None:
    recorder = run(tmp_path, ["broken-1", "flaky-1"], max_actors=1)
    assert set(recorder.done) == {"broken-1", "flaky-1"}
    first, second = (tmp_path / "broken-1").read_text().split()
    assert first != second
    # Failures of storage keep it.
    assert set((tmp_path / "flaky-1").read_text().split()) == {second}


def test_an_actor_killed_from_outside(tmp_path) -> None:
    class Killer(Recorder):
        def running(self, in_flight, *others) -> None:
            super().running(in_flight, *others)
            file = tmp_path / "slow-1"
            if file.exists() and len(pids := file.read_text().split()) == 1 and not self.retries:
                with contextlib.suppress(ProcessLookupError):  # the driver learns of it some ticks later
                    os.kill(int(pids[0]), signal.SIGKILL)

    recorder = Killer()
    start = time.monotonic()
    Pool(Actor, (str(tmp_path),), lambda _: None, ResourcesConfig()).run(
        [Task("slow-1", ("slow-1",)), Task("good-1", ("good-1",))], recorder
    )
    assert recorder.done == {"slow-1": 1, "good-1": 1}
    assert recorder.retries == {"slow-1": 1}
    assert time.monotonic() - start < 25


def copied(folder: Path, name: str, monkeypatch) -> tuple[Recorder, list[int]]:
    """Some shards of one size, one of them belated: who was told what, and the idle workers at each tick."""
    monkeypatch.setattr("jobs.stragglers.MIN_SECONDS", 0.5)
    idle: list[int] = []

    class Watching(Recorder):
        def running(self, in_flight, actors, idle_actors, flights) -> None:
            super().running(in_flight, actors, idle_actors, flights)
            idle.append(idle_actors)

    recorder = Watching()
    shards = [name, *(f"good-{i}" for i in range(4))]
    Pool(Actor, (str(folder),), lambda _: None, ResourcesConfig()).run(
        [Task(shard, (shard,), size=1000) for shard in shards], recorder
    )
    assert recorder.done == Counter(shards)
    return recorder, idle


def test_a_belated_shard_is_done_by_a_copy_and_its_slow_worker_is_ended(tmp_path, monkeypatch) -> None:
    start = time.monotonic()
    copied(tmp_path, "slow-1", monkeypatch)
    assert time.monotonic() - start < 25
    slow, _ = (int(pid) for pid in (tmp_path / "slow-1").read_text().split())
    deadline = time.monotonic() + 20
    while Path(f"/proc/{slow}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{slow}").exists()


def test_a_copy_that_dies_is_no_failure_of_the_shard(tmp_path, monkeypatch) -> None:
    recorder, idle = copied(tmp_path, "proud-1", monkeypatch)
    assert len((tmp_path / "proud-1").read_text().split()) > 1
    assert (recorder.retries, recorder.failures) == ({}, {})
    assert max(idle) >= 1


def test_heartbeats_reach_the_driver(tmp_path) -> None:
    class Once(Recorder):
        def running(self, in_flight, *others) -> None:
            super().running(in_flight, *others)
            if "slow-1" in self.beats:
                raise InterruptedError

    recorder = Once()
    with pytest.raises(InterruptedError):
        Pool(Actor, (str(tmp_path),), lambda _: None, ResourcesConfig()).run([Task("slow-1", ("slow-1",))], recorder)
    assert recorder.beats["slow-1"] == (5, 1, 100)


@pytest.mark.parametrize(("ready", "why"), [("no", "the weights are missing"), ("die", "died while loading")])
def test_a_job_whose_actors_never_get_ready_ends_at_once(tmp_path, ready, why) -> None:
    with pytest.raises(PoolError, match=why):
        run(tmp_path, ["good-1"], ready)
    assert not (tmp_path / "good-1").exists()


def test_an_actor_that_is_not_admitted_gets_no_work(tmp_path) -> None:
    def admit(facts: str) -> None:
        raise ValueError(f"{facts} other weights")

    with pytest.raises(PoolError, match="loaded other weights"):
        run(tmp_path, ["good-1"], admit=admit)
    assert not (tmp_path / "good-1").exists()


def test_a_cluster_too_small_for_one_actor_is_an_error_at_the_start(tmp_path) -> None:
    with pytest.raises(PoolError, match="No node has the 512 CPUs and 0 GPUs of one actor"):
        run(tmp_path, ["good-1"], cpus_per_actor=512)
    with pytest.raises(PoolError, match="and 1 GPUs of one actor"):
        run(tmp_path, ["good-1"], gpus_per_actor=1)


def test_a_driver_whose_node_is_lost_ends_instead_of_waiting_for_ever(tmp_path) -> None:
    pool = Pool(Actor, (str(tmp_path),), lambda _: None, ResourcesConfig())
    pool._node = "0" * 56  # one that the cluster does not have any more
    with pytest.raises(PoolError, match="lost the node this command runs on"):
        pool.run([Task("dies-1", ("dies-1",))], Recorder())


def test_a_pool_of_nodes_that_is_not_there_is_an_error_at_the_start(tmp_path) -> None:
    with pytest.raises(PoolError, match=r"one actor; the nodes of gpus: \[\]"):
        run(tmp_path, ["good-1"], pool="gpus")


def test_on_a_cluster_that_grows_more_actors_are_asked_for_than_it_holds(tmp_path) -> None:
    wanted = len(os.sched_getaffinity(0)) + 2
    shards = [f"good-{i}" for i in range(2 * wanted)]
    # Those beyond what there is stay asked for, and keep no shard waiting.
    assert run(tmp_path, shards, autoscale=True, max_actors=wanted).done == Counter(shards)
    assert actors_wanted(ResourcesConfig(autoscale=True, max_actors=wanted)) == wanted
