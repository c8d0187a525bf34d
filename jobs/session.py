"""The Ray session of a job: a local Ray on the loopback address, or a cluster that is already there."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pipeline.config import ResourcesConfig

LOOPBACK = "127.0.0.1"

OBJECT_STORE_BYTES = 256 << 20
"""Only summaries travel through Ray, so the local object store is small."""

CONNECT_SECONDS = 5.0

CONNECTIONS = 3
"""Attempts. Ray Client's proxy forks a process for each client, amid its threads: at times that dies at once."""

_PROCESS_DIED = "Starting Ray client server failed"
"""What Ray says then."""

ENVIRONMENT = {
    # Ray tells a driver of every worker that died, and no option stops it; this leaves out the colours at least.
    "RAY_COLOR_PREFIX": "0",
}

LOCAL_ENVIRONMENT = {
    # Ray's switch for single-machine use: every one of its servers then listens on the loopback address only.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

WORKER_ENVIRONMENT = {
    # Large tensors are reused from the heap, not mapped and unmapped each batch: steadier and faster on CPUs.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
    "MALLOC_TOP_PAD_": str(64 << 20),
    # Arrow's own allocator holds on to pages for every thread that reads: 40 MB of a worker of the profile job.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


PACKAGES = tuple(str(Path(__file__).resolve().parents[1] / name) for name in ("pipeline", "jobs"))
"""Folders of this program's own code."""

SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Where Ray tells a driver, begun through its job API, of the job's runtime environment."""


class SessionError(RuntimeError):
    """Ray cannot be used as asked; the message says why."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came: a scheduler ends the job, which stops as on Ctrl-C."""


@contextmanager
def session(resources: ResourcesConfig) -> Iterator[None]:
    """Connect to `resources.address`, or start a local Ray for the time of the block.

    Raises:
        SessionError: the cluster is out of reach, or Ray was imported before it could be kept to loopback.
        Terminated: SIGTERM came within the block, which runs in the main thread.
    """
    local = resources.address is None
    os.environ.update(ENVIRONMENT)
    if local:
        os.environ.update(LOCAL_ENVIRONMENT)
    else:
        check_in_reach(str(resources.address))
    import ray  # after the environment: Ray reads it when it is imported

    with _same_sigterm_after():
        for left in reversed(range(CONNECTIONS)):
            try:
                ray.init(
                    address="local" if local else resources.address,
                    runtime_env={"env_vars": WORKER_ENVIRONMENT, **({} if local else _code())},
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **(_local_options() if local else {}),
                )
                break
            except Exception as error:  # Ray raises plain ones, too, where its processes are slow to start
                if not left or _PROCESS_DIED not in str(error):
                    raise SessionError(f"Ray at {resources.address or 'this machine'}: {error}") from error
        # Ray's own handler, set by init, exits without a word.
        with _interrupted_by_sigterm():
            try:
                if local and ray.util.get_node_ip_address() != LOOPBACK:
                    raise SessionError("Ray was imported before jobs.session and would listen on the network.")
                yield
            finally:
                ray.shutdown()


@contextmanager
def _same_sigterm_after() -> Iterator[None]:
    """Put the handler of SIGTERM back."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if _in_main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, by `Terminated`."""
    came = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True
        # A second one must not interrupt what the first one started.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    if _in_main_thread():
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        # Here, for Ray's waits put a KeyboardInterrupt of their own in the place of whatever a handler raises.
        if came:
            raise Terminated from None
        raise


def _in_main_thread() -> bool:
    """Where alone Python sets signal handlers."""
    return threading.current_thread() is threading.main_thread()


def _code() -> dict[str, object]:
    """What brings this code to nodes that lack it, or have another version; a submitted job has brought its own."""
    if SUBMITTED in os.environ:
        return {}
    return {"py_modules": list(PACKAGES), "excludes": ["__pycache__"]}


def check_in_reach(address: str) -> None:
    """Raise a SessionError at once where nothing listens: Ray itself tries a dead address for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise SessionError(f"Ray at {address} is out of reach: {error}.") from error


def _local_options() -> dict[str, object]:
    return {
        "num_cpus": len(os.sched_getaffinity(0)),
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }
