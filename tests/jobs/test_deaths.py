"""Ray's words for the end of an actor, and a real node that is lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayError

from jobs.deaths import as_a_death, by_itself, detail

CRASH = ActorDiedError(
    ActorDiedErrorContext(
        actor_id=bytes(16),
        error_message="The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
        "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common "
        "causes include: (1) the process was killed by the OOM killer",
    )
)
LOST = ActorDiedError(
    ActorDiedErrorContext(
        actor_id=bytes(16),
        error_message="The actor died because its node has died. Node Id: 0a\n\tthe actor's node was terminated "
        "unexpectedly: health check failed",
    )
)


@pytest.mark.parametrize(
    ("error", "alone", "told"),
    [
        (CRASH, True, "Worker unexpectedly exits with a connection error code 2. End of file."),
        (LOST, False, "the actor's node was terminated unexpectedly: health check failed"),
        (OutOfMemoryError("Memory on the node\n\nRefer to the documentation"), True, "its node ran low on memory"),
        (ActorUnavailableError("RpcError: Socket closed", bytes(16)), False, "Socket closed"),
    ],
)
def test_a_process_that_died_is_told_from_a_node_that_is_gone(error: RayError, alone: bool, told: str) -> None:
    assert by_itself(error) is alone
    assert told in detail(error)
    assert "common causes" not in detail(error)


def test_errors_that_a_sample_may_bring_on_in_any_worker_are_as_deaths() -> None:
    for error in (torch.AcceleratorError("an illegal access"), torch.OutOfMemoryError("CUDA"), MemoryError()):
        assert as_a_death(error)
    for other in (OSError("storage"), RuntimeError("a mistake"), ValueError("1")):
        assert not as_a_death(other)


def test_a_lost_node_is_held_against_no_sample_and_no_shard(tmp_path) -> None:
    script = Path(__file__).with_name("lost_node.py")
    environment = {**os.environ, "FOLDER": str(tmp_path), "PYTHONPATH": str(script.parents[2])}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(("finished", "failed"))]
    # One row, no try of the one there is, and no search was begun.
    assert line.startswith("finished 1 0 True ['its node was lost: "), done.stdout + done.stderr
