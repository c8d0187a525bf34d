"""A gate at work: which images of a batch are skipped, by embeddings of the same pass or of an earlier one."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.batches import Sample
from pipeline.claims import check_part, claimed
from pipeline.datasets import Dataset
from pipeline.fingerprint import digest
from pipeline.gate.file import Gate, scores
from pipeline.run import Run
from pipeline.schema import SpotStatus
from pipeline.spotting import Spotter, Spotting
from pipeline.vectors import to_matrix

SKIPPED = Spotting(SpotStatus.SKIPPED, ())

Flags: TypeAlias = npt.NDArray[np.bool_]

Decide = Callable[[Sequence[int], "pa.Array | None"], Flags]
"""Of samples of one shard, by their ascending indexes (n,): which are skipped, (n,). The column holds their image
embeddings as they are stored, and is given where this pass computes them."""


class TextGate:
    """A gate, and where the embeddings lie by which it decides.

    Args:
        gate: weights and threshold.
        run: whose images they are.
        embeddings: dataset of the embeddings.
    """

    def __init__(self, gate: Gate, run: Run, embeddings: Dataset) -> None:
        self._gate = gate
        self._run = run
        self._embeddings = embeddings
        self._weights = np.array(gate.weights)

    def fields(self) -> dict[str, Any]:
        """What text depends on that is spotted through it, for the fingerprint."""
        return self._gate.fields()

    def over(self, shard: str, computed: bool) -> Decide:
        """What decides over the samples of a shard, whose embeddings are `computed` in this pass or are stored.

        Raises:
            RunError: the stored part was made under other settings, or is damaged.
        """
        if computed:
            return lambda indexes, column: self._skips(pa.chunked_array([column]))
        check_part(self._run, self._embeddings, shard, self._fingerprint)
        columns = [schema.INDEX.name, schema.IMAGE_EMBEDDING]
        stored = StoredEmbeddings(self._run.read_batches(self._embeddings, shard, columns))
        return lambda indexes, column: self._skips(stored.of(indexes))

    def _skips(self, column: pa.ChunkedArray) -> Flags:
        """(n,) of image embeddings as they are stored; one that is not there is never skipped."""
        skipped: Flags = column.is_valid().to_numpy().copy()
        if skipped.any():
            skipped[skipped] = scores(to_matrix(column), self._weights, self._gate.bias) < self._gate.threshold
        return skipped

    @cached_property
    def _fingerprint(self) -> str:
        return digest(claimed(self._run, self._embeddings) or {})


class StoredEmbeddings:
    """The image embeddings of a shard's part, asked for in ascending order of the samples' indexes.

    Of what was read the last two tables are kept: a search for a sample that kills goes back by a batch.

    Args:
        tables: `index` and `image_embedding`, each longer than a batch but for the last.
    """

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._kept: list[pa.Table] = []

    def of(self, indexes: Sequence[int]) -> pa.ChunkedArray:
        """Those of the samples of these indexes, null where there is none."""
        while not self._kept or self._kept[-1][schema.INDEX.name][-1].as_py() < indexes[-1]:
            if (table := next(self._tables, None)) is None:
                break
            self._kept = [*self._kept[-1:], table]
        if not self._kept:
            return pa.chunked_array([pa.nulls(len(indexes))])
        rows = pa.concat_tables(self._kept)
        places = pc.index_in(pa.array(indexes, pa.int32()), rows[schema.INDEX.name].combine_chunks())
        return rows[schema.IMAGE_EMBEDDING].take(places)


class ShardSpotter:
    """A spotter over the samples of one shard, behind a gate or without one.

    Args:
        spotter: gets the images that are not skipped; where all of a batch are, it is not called.
        decide: says which are; None: no gate.
    """

    def __init__(self, spotter: Spotter, decide: Decide | None) -> None:
        self._spotter = spotter
        self._decide = decide
        self._skipped = 0

    def spot(self, samples: Sequence[Sample], column: pa.Array | None) -> list[Spotting]:
        """One outcome per sample, in order; the column is that of `Decide`. What is known to crash has failed."""
        sound = np.array([sample.crash is None for sample in samples])
        skipped = np.zeros(len(samples), bool)
        if self._decide is not None:
            skipped = sound & self._decide([sample.raw.index for sample in samples], column)
        self._skipped += int(skipped.sum())
        # A blank picture stands for one that crashes: the others' batch stays as large.
        kept = [sample.image.pixels for sample, skip in zip(samples, skipped, strict=True) if not skip]
        spotted = iter(self._spotter.spot(kept) if kept else ())
        found = [SKIPPED if skip else next(spotted) for skip in skipped]
        return [
            spotting if sample.crash is None else Spotting(SpotStatus.FAILED, (), sample.crash)
            for sample, spotting in zip(samples, found, strict=True)
        ]

    def counts(self) -> dict[str, int]:
        """For the parts' footers."""
        return {} if self._decide is None else {"spot_skipped": self._skipped}
