"""A Ray cluster of several nodes on this machine, whose processes and nodes can be lost."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
from ray.cluster_utils import Cluster

NODES = 2
OURS = ("ray::ExtractActor", "ray::ProfileActor", "ray::Board", "ray::_call")
STORE_BYTES = 80 << 20
HEALTH = {
    # A lost node is known in seconds; Ray's own setting takes a quarter of a minute.
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 2,
}


class FaultyCluster:
    """A head without CPUs, which the drivers are on, and nodes with one CPU each."""

    def __init__(self) -> None:
        self._cluster = Cluster(
            initialize_head=True,
            shutdown_at_exit=False,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": STORE_BYTES,
                "_system_config": HEALTH,
            },
        )
        self._stopped: list[tuple[float, psutil.Process]] = []
        self.restore()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def restore(self) -> None:
        """Go back to the nodes of the beginning: the lost ones replaced, those added removed."""
        self._resume(float("inf"))
        self._forget_the_lost()
        for node in self._nodes()[NODES:]:
            self._cluster.remove_node(node, allow_graceful=False)
        while len(self._nodes()) < NODES:
            self.add_node()

    def tend(self) -> None:
        """Let go on whose pause is over, and replace the last node where it is lost."""
        self._resume(time.monotonic())
        self._forget_the_lost()
        if not self._nodes():
            self.add_node()

    def add_node(self) -> None:
        self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)

    def kill_node(self, amount: float) -> None:
        """End all processes of a node at once."""
        raylet = _raylet(_chosen(self._nodes(), amount))
        processes = _children(raylet)
        raylet.kill()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def pause_node(self, amount: float, seconds: float) -> None:
        """Let a node's raylet stand still, its workers going on: the cluster takes it for lost."""
        self._pause(psutil.Process(_raylet(_chosen(self._nodes(), amount)).pid), seconds)

    def workers(self) -> list[psutil.Process]:
        """The processes that do a driver's work."""
        found = [process for node in self._cluster.list_all_nodes() for process in _children(_raylet(node))]
        return [process for process in found if _works(process)]

    def kill_worker(self, amount: float) -> None:
        _chosen(self.workers(), amount).kill()

    def pause_worker(self, amount: float, seconds: float) -> None:
        self._pause(_chosen(self.workers(), amount), seconds)

    def _pause(self, process: psutil.Process, seconds: float) -> None:
        process.suspend()
        self._stopped.append((time.monotonic() + seconds, process))

    def _resume(self, now: float) -> None:
        for entry in [entry for entry in self._stopped if entry[0] <= now]:
            self._stopped.remove(entry)
            with suppress(psutil.NoSuchProcess):
                entry[1].resume()

    def close(self) -> None:
        self._resume(float("inf"))
        left = [process for node in self._cluster.list_all_nodes() for process in _children(_raylet(node))]
        self._cluster.shutdown()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _nodes(self) -> list[Any]:
        return sorted(self._cluster.worker_nodes, key=lambda node: _raylet(node).pid)

    def _forget_the_lost(self) -> None:
        for node in self._nodes():
            if _raylet(node).poll() is not None:
                self._cluster.remove_node(node, allow_graceful=False)


@contextmanager
def cluster() -> Iterator[FaultyCluster]:
    """A cluster for the time of the block; its processes have the environment of this one."""
    running = FaultyCluster()
    try:
        yield running
    finally:
        running.close()


def wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    """Whether it happened in time."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _raylet(node: Any) -> "subprocess.Popen[bytes]":
    process: subprocess.Popen[bytes] = node.all_processes["raylet"][0].process
    return process


def _children(raylet: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(raylet.pid).children(recursive=True)
    return []


def _works(process: psutil.Process) -> bool:
    """Whether Ray has named the process after an actor or a task of ours."""
    with suppress(psutil.NoSuchProcess):
        return "".join(process.cmdline()[:1]).startswith(OURS)
    return False


def _chosen(things: list[Any], amount: float) -> Any:
    return things[int(amount * len(things))]
