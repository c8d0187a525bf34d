"""The Ray session of a job: a local Ray on the loopback address, or a cluster that is already there."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.config import ResourcesConfig

LOOPBACK = "127.0.0.1"

OBJECT_STORE_BYTES = 256 << 20
"""Only summaries travel through Ray, so the local object store is small."""

CONNECT_SECONDS = 5.0

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
}


class SessionError(RuntimeError):
    """Ray cannot be used as asked; the message says why."""


@contextmanager
def session(resources: ResourcesConfig) -> Iterator[None]:
    """Connect to `resources.address`, or start a local Ray for the time of the block.

    Raises:
        SessionError: the cluster is out of reach, or Ray was imported before it could be kept to loopback.
    """
    local = resources.address is None
    if local:
        os.environ.update(LOCAL_ENVIRONMENT)
    else:
        _check_in_reach(str(resources.address))
    import ray  # after the environment: Ray reads it when it is imported

    try:
        ray.init(
            address="local" if local else resources.address,
            runtime_env={"env_vars": WORKER_ENVIRONMENT},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(_local_options() if local else {}),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SessionError(f"Ray at {resources.address or 'this machine'}: {error}") from error
    try:
        if local and ray.util.get_node_ip_address() != LOOPBACK:
            raise SessionError("Ray was imported before jobs.session and would listen on the network.")
        yield
    finally:
        ray.shutdown()


def _check_in_reach(address: str) -> None:
    """Ray itself tries a dead address for minutes."""
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
