"""Images of a run that are both embedded and spotted, drawn to learn a gate from them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.claims import check_part, claimed
from pipeline.datasets import Dataset
from pipeline.fingerprint import Fields, digest
from pipeline.gate import GateError
from pipeline.gate.file import clip_part, spotter_part
from pipeline.overlap import has_text
from pipeline.run import Run, RunError
from pipeline.sampling import Hashes, sample_hash, sampling_threshold
from pipeline.vectors import Floats, to_matrix

MOST_ROWS = 200_000
"""Drawn at most: some 0.2 GB of embeddings of 512 dimensions."""

UID = schema.UID.name
IDENTITY = [schema.SHARD.name, schema.INDEX.name, UID]


@dataclass(frozen=True, eq=False)
class Rows:
    """n images. `left_out`: drawn rows that can teach nothing, by reason. `clip`, `spotter`: what made them."""

    embeddings: Floats
    """(n, d), as stored."""
    has_text: npt.NDArray[np.bool_]
    """(n,), by the rule of the profiles' `text_class`."""
    words: npt.NDArray[np.int64]
    """(n,), spotted strings."""
    hashes: Hashes
    """(n,), of their uids: those of the smallest were drawn, so the lower bits are still evenly spread."""
    left_out: Mapping[str, int]
    clip: Fields
    spotter: Fields


def draw_rows(run: Run, embeddings: Dataset, spotted: Dataset, most: int = MOST_ROWS) -> Rows:
    """Draw the rows of the smallest hashes of their uids from the shards that have both datasets.

    Memory: `most` embeddings, twice when all are read, and a row group of each dataset.

    Raises:
        GateError: no shard has both, or the text was itself spotted through a gate.
        RunError: parts of a shard are of other samples or settings than their datasets.
    """
    made = {dataset: _made_with(run, dataset) for dataset in (embeddings, spotted)}
    shards = sorted(run.done(embeddings) & run.done(spotted))
    if not shards:
        raise GateError(f"No shard of {run.url} has both {embeddings} and {spotted}.")
    for dataset, fields in made.items():
        for shard in shards:
            check_part(run, dataset, shard, digest(fields))
    threshold = sampling_threshold((run.read_part(spotted, shard, [UID])[UID] for shard in shards), most)
    found: list[tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.int64], Hashes]] = []
    left_out, count = Counter[str](), 0
    for vectors, texts in _aligned(run, embeddings, spotted, shards):
        hashes = sample_hash(texts[UID])
        # Uids that repeat, as DataComp's may, could be more than were asked for.
        drawn = np.flatnonzero(hashes <= threshold)[: most - count]
        count += len(drawn)
        vectors, texts, hashes = vectors.take(drawn), texts.take(drawn), hashes[drawn]
        blind = vectors[schema.IMAGE_EMBEDDING].is_null().to_numpy()
        failed = texts[schema.SPOTTED.name].is_null().to_numpy()
        left_out["without_embedding"] += int(blind.sum())
        left_out["spotting_failed"] += int((failed & ~blind).sum())
        usable = np.flatnonzero(~blind & ~failed)
        words = texts[schema.SPOTTED.name].take(usable)
        found.append((
            to_matrix(vectors[schema.IMAGE_EMBEDDING].take(usable)),
            has_text(words),
            pc.list_value_length(words).to_numpy().astype(np.int64),
            hashes[usable],
        ))  # fmt: skip
    if not found:
        raise GateError(f"The shards of {run.url} that have both {embeddings} and {spotted} have no sample.")
    matrix, with_text, counts, all_hashes = (np.concatenate(each) for each in zip(*found, strict=True))
    clip, spotter = clip_part(made[embeddings]), spotter_part(made[spotted])
    return Rows(matrix, with_text, counts, all_hashes, dict(left_out), clip, spotter)


def _made_with(run: Run, dataset: Dataset) -> Fields:
    """What a dataset was made with."""
    fields = claimed(run, dataset)
    if fields is None:
        raise GateError(f"{run.url} has no {dataset} yet: extract a part of the shards, embeddings and text.")
    if "gate" in fields:
        raise GateError(
            f"{dataset} of {run.url} was spotted through a gate, which hides what it missed: name one that was not."
        )
    return fields


def _aligned(run: Run, embeddings: Dataset, spotted: Dataset, shards: list[str]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The same rows of both datasets, batch by batch."""
    for shard in shards:
        for vectors, texts in zip_longest(
            run.read_batches(embeddings, shard, [*IDENTITY, schema.IMAGE_EMBEDDING]),
            run.read_batches(spotted, shard, [*IDENTITY, schema.SPOTTED.name]),
        ):
            if vectors is None or texts is None or not vectors.select(IDENTITY).equals(texts.select(IDENTITY)):
                raise RunError(f"Shard {shard}: {embeddings} and {spotted} hold different samples.")
            yield vectors, texts
