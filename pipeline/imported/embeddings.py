"""Embeddings that are imported: for every sample of a shard the import's row of it, or why it has none.

No image is opened. Shards in the order of the import's files are fast. In a random order every shard reads in many
files, and a npz is inflated as a whole, for no row of it can be found otherwise.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline import schema
from pipeline.claims import check_part, input_digest
from pipeline.config import Config, ImportedEmbeddings
from pipeline.datasets import SAMPLES, embeddings_of, import_of
from pipeline.fingerprint import Fields, digest
from pipeline.imported import ImportedError
from pipeline.imported.arrays import StoredArray
from pipeline.imported.collection import Collection
from pipeline.imported.index import Found, Index, build_index, has_index
from pipeline.parts import part_facts
from pipeline.run import Run
from pipeline.schema import ClipStatus
from pipeline.shards import Shard
from pipeline.stages import Stages
from pipeline.vectors import Singles, to_column

BATCH_ROWS = 16_384
"""Samples whose embeddings are in memory at a time: of most shards, all."""

CAPTION = schema.CAPTION.name
UNSCORED = "unscored"
OK = ClipStatus.OK
STATUSES = tuple(status for status in ClipStatus if status != ClipStatus.FAILED)
"""What an import can say of a sample; only computing fails."""


Report = Callable[[int], None]
"""Called after every batch with its number of samples."""


def import_fields(run: Run, config: Config, collection: Collection | None = None) -> Fields:
    """What imported embeddings depend on: what made them, the import's files, and the samples.

    Args:
        run: the run.
        config: its configuration, with `clip.imported`.
        collection: the import's files, where they are listed already.

    Raises:
        ImportedError: as `Collection`.
        RunError: there are no samples yet.
        FingerprintError: they were made by another configuration.
    """
    collection = collection or Collection(_settings(config))
    return {
        "model": config.clip.model,
        "pretrained": config.clip.pretrained,
        "imported": collection.fields(),
        "dim": collection.dim(),
        "stored_as": config.clip.stored_as,
        "samples": input_digest(run, config, SAMPLES),
    }


def prepare_import(run: Run, config: Config, shards: Sequence[str], threads: int) -> str:
    """Index the import unless it is indexed, and before the first part is written see that something matches.

    Returns:
        What the import holds, in a line.

    Raises:
        ImportedError: its files are damaged or do not fit each other, or have nothing of any sample in `shards`.
    """
    collection, dataset = Collection(_settings(config)), import_of(config)
    if not has_index(run, dataset, collection):
        build_index(run, dataset, collection, threads)
    index = Index(run, dataset, collection)
    if run.is_empty(embeddings_of(config)):
        _refuse_unmatched(run, index, collection.settings, shards)
        _refuse_shared_keys(run, index, collection.settings, shards)
    return f"{index.rows:,} rows of {index.dim} dimensions in {len(collection.fragments):,} files are indexed"


class Importer:
    """A worker's view of an import: its files and their index.

    Args:
        run: the run, in which the import is indexed.
        config: its configuration, with `clip.imported`.

    Raises:
        ImportedError, RunError, FingerprintError: as `import_fields` and `Index`.
    """

    def __init__(self, run: Run, config: Config) -> None:
        self._run = run
        self._config = config
        self._collection = Collection(_settings(config))
        self.fields = import_fields(run, config, self._collection)
        self._index = Index(run, import_of(config), self._collection)

    def import_shard(self, shard: Shard, report: Report) -> dict[str, int]:
        """Write the embeddings part of a shard from its samples part; returns the counts.

        Memory is bounded by BATCH_ROWS embeddings, of images and of texts.

        Raises:
            ImportedError: a file of the import is damaged or has changed.
            RunError: the samples part was made under other settings.
            OSError: the storage failed; worth another try.
        """
        run, dataset = self._run, embeddings_of(self._config)
        stages, counts = Stages(), Counter({"rows": 0, UNSCORED: 0, **{count_name(status): 0 for status in STATUSES}})
        check_part(run, SAMPLES, shard.id, self.fields["samples"])
        with run.part(dataset, shard.id, schema.embeddings(self._index.dim, self._config.clip.stored_as)) as part:
            for samples in run.read_batches(SAMPLES, shard.id, [*schema.IDENTITY_NAMES, CAPTION], BATCH_ROWS):
                with stages.time("find"):
                    found = self._index.find(samples[self._collection.settings.join], samples[CAPTION])
                with stages.time("read"):
                    columns = self._columns(found)
                part.write(pa.table({**{name: samples[name] for name in schema.IDENTITY_NAMES}, **columns}))
                counts.update(map(count_name, found.status))
                counts[UNSCORED] += columns[schema.CLIP_SCORE.name].null_count - int((found.status != OK).sum())
                counts["rows"] += len(samples)
                report(len(samples))
            part.describe(part_facts(dataset, shard, digest(self.fields), counts, stages.seconds))
        return dict(counts)

    def _columns(self, found: Found) -> dict[str, pa.Array]:
        """The columns of an embeddings part; a row that turns out to be none is marked in `found`."""
        image, present = self._unit(found, [fragment.image for fragment in self._collection.fragments])
        found.status[(found.status == OK) & ~present] = ClipStatus.INVALID
        texts = [fragment.text for fragment in self._collection.fragments if fragment.text]
        # Without texts, whatever stands beneath the nulls.
        text, has_text = self._unit(found, texts) if texts else (image, np.zeros_like(present))
        if self._collection.settings.score_column is not None:
            score = found.score
        else:
            score = np.where(has_text, np.einsum("nd,nd->n", image, text), np.float32(np.nan))
        stored_as, unscored = self._config.clip.stored_as, ~(present & np.isfinite(score))
        return {
            schema.CLIP_STATUS.name: pa.array(found.status, pa.string()),
            schema.CLIP_SCORE.name: pa.array(score, mask=unscored),
            schema.CAPTION_TRUNCATED.name: pa.nulls(len(score), pa.bool_()),
            schema.IMAGE_EMBEDDING: to_column(image, stored_as, present),
            schema.TEXT_EMBEDDING: to_column(text, stored_as, has_text),
        }

    def _unit(self, found: Found, arrays: Sequence[StoredArray]) -> tuple[Singles, npt.NDArray[np.bool_]]:
        """Rows of one array per fragment, L2-normalised, (n, d); and (n,): it was found, and is no zero and finite."""
        raw = np.zeros((len(found.status), self._index.dim), np.float32)
        usable = found.status == OK
        with np.errstate(over="ignore"):  # of float64: infinite, as it would be in float32
            for number in np.unique(found.file[usable]):
                samples = np.flatnonzero(usable & (found.file == number))
                rows, places = np.unique(found.row[samples], return_inverse=True)
                shape = (self._index.rows_of_files[number], self._index.dim)
                raw[samples] = arrays[number].read(shape, rows)[places]
        norms = np.sqrt(np.einsum("nd,nd->n", raw, raw, dtype=np.float64))
        present = np.isfinite(norms) & (norms > 0)
        np.divide(raw, np.where(present, norms, 1)[:, np.newaxis], out=raw, casting="same_kind")
        return raw, present


def count_name(status: str) -> str:
    """Of the samples of a status, in a part's counts."""
    return f"clip_{status}"


def told_counts(counts: Mapping[str, int], rows: int | None) -> str:
    """Counts of parts, summed, in a line.

    Args:
        counts: of `Importer.import_shard`.
        rows: of the import; None where it is not known.
    """
    imported = counts[count_name(OK)]
    line = f"embeddings imported for {imported:,} of {counts['rows']:,} samples"
    misses = {status.value: counts[count_name(status)] for status in STATUSES if status != OK}
    misses["without a score"] = counts[UNSCORED]
    if told := ", ".join(f"{count:,} {what}" for what, count in misses.items() if count):
        line += f"; {told}"
    # Samples of one key in two shards take one row.
    if rows is not None and rows > imported:
        line += f"; at least {rows - imported:,} of the import's {rows:,} rows were not used"
    return line


def _settings(config: Config) -> ImportedEmbeddings:
    if config.clip.imported is None:
        raise ValueError("clip.imported is not set")
    return config.clip.imported


def _refuse_shared_keys(run: Run, index: Index, settings: ImportedEmbeddings, shards: Sequence[str]) -> None:
    """Raise if the first two shards have a key in common, and nothing but keys tells whose a row is."""
    if settings.join == "uid" or index.captions or len(shards) < 2:
        return
    first, second = (
        set(run.read_part(SAMPLES, shard, [settings.join])[settings.join].to_pylist()) for shard in shards[:2]
    )
    if shared := first & second:
        raise ImportedError(
            f"Shards {shards[0]} and {shards[1]} both have a sample of key {min(shared)!r}, and {settings.folder} has "
            "no captions that tell whose a row is: join by uid."
        )


def _refuse_unmatched(run: Run, index: Index, settings: ImportedEmbeddings, shards: Iterable[str]) -> None:
    """Raise unless some sample has a row; shards are read up to the first that has."""
    statuses, example = Counter[str](), ""
    for shard in shards:
        for samples in run.read_batches(SAMPLES, shard, [settings.join, CAPTION], BATCH_ROWS):
            found = index.find(samples[settings.join], samples[CAPTION])
            if OK in found.status:
                return
            statuses.update(found.status)
            example = samples[settings.join][0].as_py()
    if statuses:
        told = ", ".join(f"{count:,} {status}" for status, count in statuses.items())
        raise ImportedError(
            f"No sample has embeddings in {settings.folder}: {told}. The {settings.join} of a sample is {example!r}, "
            f"the {settings.key_column} of the import's first row {index.key!r}: see clip.imported.join and key_column."
        )
