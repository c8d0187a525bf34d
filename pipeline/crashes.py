"""Samples that end the process which opens them: by a crash inside a library, or by the memory they take."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow.compute as pc

from pipeline.datasets import REJECTS
from pipeline.run import Run
from pipeline.schema import RejectReason


@dataclass(frozen=True)
class Place:
    """What a search is at: the sample of that index by itself, or the batch that begins with it."""

    what: Literal["alone", "batch"]
    index: int


Announce = Callable[[Place | None], None]
"""Called before a place is run, and with None after it; returns when that is known outside of the process."""


@dataclass(frozen=True)
class Crashes:
    """What earlier tries at a shard have found.

    Attributes:
        samples: index to what is known of its crash; these images are not opened.
        singly: first indexes of batches that end their process though none of their samples does: too much
            memory. Their samples are run one by one.
    """

    samples: Mapping[int, str] = field(default_factory=dict)
    singly: frozenset[int] = frozenset()


NO_CRASHES = Crashes()


def rejected_crashes(run: Run, shard: str) -> dict[int, str]:
    """Index and message of the samples that the pass which wrote a shard's samples rejected as crashed."""
    rejects = run.read_part(REJECTS, shard, ["index", "reason", "message"])
    crashed = rejects.filter(pc.equal(rejects["reason"], RejectReason.CRASHED.value))
    return dict(zip(crashed["index"].to_pylist(), crashed["message"].to_pylist(), strict=True))
