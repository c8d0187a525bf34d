"""Extract: one pass over a shard that opens every image once and fills the datasets the shard lacks."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa

from pipeline import schema
from pipeline.batches import Sample, batches
from pipeline.config import Config, InputConfig
from pipeline.crashes import NO_CRASHES, Announce, Crashes, Place, rejected_crashes
from pipeline.datasets import REJECTS, SAMPLES, Dataset, embeddings_of, spotted_of
from pipeline.decoding import Decoder, Item, Opened, Wanted
from pipeline.extracted_rows import crash_reject, embedding_rows, identity, reject_row, sample_row, spotted_row
from pipeline.fingerprint import Fields, digest
from pipeline.gate.spotting import ShardSpotter, TextGate
from pipeline.parts import PartWriter, part_facts
from pipeline.run import Run, RunError
from pipeline.samples import RawSample, ReadCounts, read_samples
from pipeline.shards import Shard
from pipeline.spotting import Spotter
from pipeline.stages import Stages
from pipeline.vectors import to_column

if TYPE_CHECKING:
    # It takes torch and open_clip, which a pass without CLIP does not.
    from pipeline.clip import Clip, ClipBatch

READ_BLOCK_BYTES = 8 << 20

SEARCHED_BATCHES = 2
"""Batches of a search: a process that died may have been one further than it was heard to say."""
SEARCHED_AHEAD = 2
"""Batches more that threads may have begun to open by then."""

Report = Callable[[int, int, int, int], None]
"""Called after every batch with the rows and rejects since the last call, the bytes of the shard read, and the
index after the batch."""


def sample_fields(config: InputConfig) -> dict[str, Any]:
    """What the samples dataset depends on, for its fingerprint."""
    return {
        "schema_version": schema.VERSION,
        "caption_key": config.caption_key,
        "metadata": dict(config.metadata),
        "limits": config.limits.model_dump(),
    }


class Extractor:
    """A worker's loaded models, and the pass over a shard that feeds them.

    Args:
        config: the run's configuration.
        clip: the CLIP model, or None where this worker fills no embeddings.
        spotter: the text spotter, or None where this worker spots no text.
        gate: what keeps images from the spotter, or None where it gets all.
    """

    def __init__(
        self, config: Config, clip: "Clip | None", spotter: Spotter | None, gate: TextGate | None = None
    ) -> None:
        self._config = config
        self._clip = clip
        self._spotter = spotter
        self._gate = gate
        threads = config.resources.decode_threads
        if threads is None:
            threads = config.resources.cpus_per_actor if clip and clip.device != "cpu" else 0
        self._decoder = Decoder(config.input.limits, threads, config.clip.batch_size)
        self._one_by_one = Decoder(config.input.limits)
        samples = sample_fields(config.input)
        self._fields: dict[Dataset, Fields] = {SAMPLES: samples}
        columns = (*schema.SAMPLES, *schema.metadata_columns(config.input.metadata))
        self._columns: dict[Dataset, tuple[schema.Column, ...]] = {REJECTS: schema.REJECTS, SAMPLES: columns}
        if clip:
            embeddings, stored_as = embeddings_of(config), config.clip.stored_as
            self._fields[embeddings] = {**clip.fields(), "stored_as": stored_as, "samples": digest(samples)}
            self._columns[embeddings] = schema.embeddings(clip.dim, stored_as)
        if spotter:
            gated = {"gate": gate.fields()} if gate else {}
            self._fields[spotted_of(config)] = {**spotter.fingerprint(), "samples": digest(samples), **gated}
            self._columns[spotted_of(config)] = schema.SPOTTED_TEXT

    def fields(self) -> dict[Dataset, Fields]:
        """What each dataset depends on, for the fingerprints."""
        return self._fields

    def extract(
        self, run: Run, shard: Shard, lacking: Collection[Dataset], report: Report, crashes: Crashes = NO_CRASHES
    ) -> dict[str, int]:
        """Read a shard once and write the parts it lacks; returns the counts, and milliseconds by stage.

        Rows are those of the samples dataset, in the order of the tar. Rejects appear first, then samples,
        then what stands on them. A sample of `crashes` is a reject of the pass that writes the samples; to a
        later pass it is the row that it has been since, with a failed status.

        Raises:
            OSError: the storage failed or gave fewer bytes than the object has; worth another try.
            RunError: an earlier pass over this shard saw other samples.
        """
        stages, counts, reasons = Stages(), ReadCounts(), Counter[str]()
        kept: list[int] = []
        after = 0
        rejected = crashes.samples if SAMPLES in lacking else rejected_crashes(run, shard.id)
        spotter = self._over(shard, lacking)
        with ExitStack() as open_parts, _open(shard.url) as stream:
            # Parts are committed in the reverse order of their opening.
            parts = {
                dataset: open_parts.enter_context(run.part(dataset, shard.id, self._columns[dataset]))
                for dataset in reversed(list(self._columns))
                if dataset in lacking or (dataset == REJECTS and SAMPLES in lacking)
            }
            source = read_samples(stream, shard.size, self._config.input.limits, self._config.input.caption_key, counts)
            items = self._decoder(shard, source, {**rejected, **crashes.samples}, stages, self._wanted(lacking))
            for samples, rejects in batches(items, self._config.clip.batch_size):
                rejects += [crash_reject(sample) for sample in samples if sample.raw.index in rejected]
                reasons.update(reject.reason for reject in rejects)
                kept.extend(sample.raw.index for sample in samples if sample.raw.index not in rejected)
                if REJECTS in parts:
                    parts[REJECTS].write([reject_row(shard, reject) for reject in rejects])
                singly = samples and samples[0].raw.index in crashes.singly
                for together in [[sample] for sample in samples] if singly else [samples]:
                    self._fill(parts, shard, together, rejected, spotter, stages)
                after = samples[-1].raw.index + 1 if samples else after
                report(len(samples), len(rejects), stream.tell(), after)
            total = {
                "rows": len(kept),
                "rejects": sum(reasons.values()),
                **asdict(counts),
                **{f"reject_{reason}": n for reason, n in sorted(reasons.items())},
                **(spotter.counts() if spotter else {}),
            }
            for dataset, part in parts.items():
                fingerprint = digest(self._fields.get(dataset, self._fields[SAMPLES]))
                part.describe(part_facts(dataset, shard, fingerprint, total, stages.seconds))
            if SAMPLES not in lacking:
                _check_same_samples(run, shard, kept)
        return total | stages.milliseconds()

    def search(
        self, shard: Shard, lacking: Collection[Dataset], first: int, crashes: Crashes, announce: Announce
    ) -> None:
        """Run what may have ended a process: from the sample `first` on, which began a batch, every sample of the
        next batches by itself and then each batch. Nothing is written.

        Raises:
            OSError: as `extract`.
        """
        config, run = self._config, partial(self._run, lacking, self._over(shard, lacking))
        with _open(shard.url) as stream:
            source = read_samples(stream, shard.size, config.input.limits, config.input.caption_key)
            suspects = (item for item in source if item.index is not None and item.index >= first)
            items = self._alone(shard, suspects, lacking, run, crashes, announce)
            searched = SEARCHED_BATCHES + (SEARCHED_AHEAD if self._decoder.threads else 0)
            for samples, _ in islice(batches(items, config.clip.batch_size), searched):
                if samples and samples[0].raw.index not in crashes.singly:
                    announce(Place("batch", samples[0].raw.index))
                    run(samples)
                    announce(None)

    def _alone(
        self,
        shard: Shard,
        suspects: Iterable[Item],
        lacking: Collection[Dataset],
        run: Callable[[Sequence[Sample]], None],
        crashes: Crashes,
        announce: Announce,
    ) -> Iterator[Opened]:
        """What comes of each suspect, opened and run by itself."""

        def announced() -> Iterator[Item]:
            for item in suspects:
                if isinstance(item, RawSample):
                    announce(Place("alone", item.index))
                yield item

        for item in self._one_by_one(shard, announced(), crashes.samples, Stages(), self._wanted(lacking)):
            if isinstance(item, Sample) and item.crash is None:
                run([item])
            announce(None)
            yield item

    def _wanted(self, lacking: Collection[Dataset]) -> Wanted:
        if self._clip is None or embeddings_of(self._config) not in lacking:
            return Wanted()
        spots = self._spotter is not None and spotted_of(self._config) in lacking
        return Wanted(spots, self._clip.crop, self._clip.least_side)

    def _run(self, lacking: Collection[Dataset], spotter: ShardSpotter | None, samples: Sequence[Sample]) -> None:
        column = None
        if self._clip and embeddings_of(self._config) in lacking:
            embedded = _embedded(self._clip, samples)
            column = to_column(embedded.image, self._config.clip.stored_as)
        if spotter:
            spotter.spot(samples, column)

    def _over(self, shard: Shard, lacking: Collection[Dataset]) -> ShardSpotter | None:
        """The spotter, as far as the gate lets images through; None where the shard lacks no text."""
        if self._spotter is None or spotted_of(self._config) not in lacking:
            return None
        computed = self._clip is not None and embeddings_of(self._config) in lacking
        return ShardSpotter(self._spotter, self._gate.over(shard.id, computed) if self._gate else None)

    def _fill(
        self,
        parts: dict[Dataset, PartWriter],
        shard: Shard,
        samples: Sequence[Sample],
        rejected: Collection[int],
        spotter: ShardSpotter | None,
        stages: Stages,
    ) -> None:
        """Run one batch and write its rows, all but those `rejected`, into the open parts."""
        if not samples:
            return
        column = None
        rows = [sample.raw.index not in rejected for sample in samples]
        identities = [identity(shard, sample) for sample in samples]
        if SAMPLES in parts:
            keys = self._config.input.metadata
            row_of = zip(rows, identities, samples, strict=True)
            parts[SAMPLES].write([of | sample_row(sample, keys) for is_row, of, sample in row_of if is_row])
        if self._clip and (part := parts.get(embeddings_of(self._config))):
            with stages.time("clip"):
                embedded = _embedded(self._clip, samples)
            table = embedding_rows(identities, samples, embedded, self._config.clip.stored_as)
            column = table[schema.IMAGE_EMBEDDING].combine_chunks()
            part.write(table if all(rows) else table.filter(pa.array(rows)))
        if spotter:
            with stages.time("spot"):
                found = spotter.spot(samples, column)
            row_found = zip(rows, identities, found, strict=True)
            part = parts[spotted_of(self._config)]
            part.write([of | spotted_row(spotting) for is_row, of, spotting in row_found if is_row])


def _embedded(clip: "Clip", samples: Sequence[Sample]) -> "ClipBatch":
    crops = [sample.crop for sample in samples if sample.crop is not None]
    return clip.embed(crops, [sample.raw.caption for sample in samples])


def _open(url: str) -> Any:
    """Open a shard for one forward pass: on remote storage by large blocks, of which only the last is kept."""
    fs, path = fsspec.core.url_to_fs(url)
    options = {} if "file" in fs.protocol else {"block_size": READ_BLOCK_BYTES, "cache_type": "readahead"}
    return fs.open(path, "rb", **options)


def _check_same_samples(run: Run, shard: Shard, kept: list[int]) -> None:
    stored = run.read_part(SAMPLES, shard.id, ["index"])["index"].to_pylist()
    if stored != kept:
        raise RunError(
            f"Shard {shard.id}: this pass kept {len(kept)} samples, the samples part holds {len(stored)} and "
            "not the same ones: images decode differently here. Use the software versions of run.yaml."
        )
