"""A campaign: what its rounds share is made once, then they are played one after the other."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.command import REPOSITORY, parrotscope
from tests.faults.cluster import cluster
from tests.faults.disk import disk
from tests.faults.plan import KINDS, draw_round
from tests.faults.rounds import Result, Stage, play
from tests.faults.world import draw_world, upload
from tests.faulty_proxy import FaultyProxy
from tests.s3_server import s3_server


@contextmanager
def stage(folder: Path, seed: int) -> Iterator[Stage]:
    """Shards, an undisturbed run over them, a disk, an S3 server behind a proxy, and a Ray cluster.

    Args:
        folder: an empty folder with a short name, as sockets lie below it.
        seed: of the shards.
    """
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        tmpfs = stack.enter_context(disk(folder / "disk"))
        (tmpfs.folder / "tmp").mkdir()
        world = draw_world(folder, seed)
        proxy = FaultyProxy(stack.enter_context(s3_server()))
        stack.callback(proxy.close)
        upload(world)
        # All that follows is for the nodes, which hand it on to their workers, and for the drivers.
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve the workers, not the drivers
        # Workers that wait for work cost time to start; ours are started with an environment of their own.
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        patch.setenv("RAY_enable_worker_prestart", "0")
        patch.setenv("TMPDIR", str(tmpfs.folder / "tmp"))
        patch.setattr(tempfile, "tempdir", None)
        nodes = stack.enter_context(cluster())
        config = world.config(folder, world.reference.url, False, nodes.address, 0.0)
        parrotscope("profile", str(config), folder=folder)
        yield Stage(folder, nodes, tmpfs, proxy, world)


def rounds(scene: Stage, seed: int, numbers: Iterable[int]) -> Iterator[Result]:
    for number in numbers:
        yield play(scene, draw_round(seed, number))


def told(result: Result) -> str:
    """A round that went wrong: what was planned, what happened, what is wrong, and how to see it again."""
    lines = [str(result.plan), "what happened:", *result.events, "what is wrong:"]
    return "\n".join([*lines, *(f"  {problem}" for problem in result.problems), f"again: {result.plan.replay}"])


def summary(results: Iterable[Result]) -> str:
    """Rounds, commands and faults by kind, in lines."""
    done = list(results)
    struck = sum((result.struck for result in done), Counter[str]())
    seconds = sum(result.seconds for result in done)
    first = (
        f"{len(done)} rounds in {seconds:.0f} s on {os.cpu_count()} cores: "
        f"{sum(result.commands for result in done)} commands, {struck.total()} faults, "
        f"{sum(bool(result.problems) for result in done)} rounds with a bug"
    )
    return "\n".join([first, *(f"  {kind}: {struck[kind]}" for kind in KINDS)])
