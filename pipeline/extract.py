"""Extract: one pass over a shard that opens every image once and fills the datasets the shard lacks."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa

from pipeline import schema
from pipeline.config import Config, InputConfig
from pipeline.datasets import REJECTS, SAMPLES, Dataset, embeddings_of, spotted_of
from pipeline.fingerprint import Fields, digest
from pipeline.images import DecodedImage, ImageError, decode
from pipeline.metadata import typed_metadata
from pipeline.parts import PartWriter, part_facts
from pipeline.run import Run, RunError
from pipeline.samples import RawSample, ReadCounts, Reject, read_samples
from pipeline.shards import Shard, sample_uid
from pipeline.spotting import Spotter, Spotting
from pipeline.stages import Stages
from pipeline.vectors import to_column

if TYPE_CHECKING:
    # It takes torch and open_clip, which a pass without CLIP does not.
    from pipeline.clip import Clip

BATCH_PIXELS = 64_000_000
"""Decoded pixels a batch may hold (3 bytes each), unless one image alone has more."""

BATCH_REJECTS = 1024
"""Rejects that may wait for a batch to fill: a shard can hold nothing else."""

READ_BLOCK_BYTES = 8 << 20

Report = Callable[[int, int, int], None]
"""Called after every batch with the rows and rejects since the last call, and the bytes of the shard read."""


@dataclass(frozen=True)
class Sample:
    """A usable sample: what the shard holds of it, and its picture."""

    raw: RawSample
    image: DecodedImage
    uid: str


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
    """

    def __init__(self, config: Config, clip: "Clip | None", spotter: Spotter | None) -> None:
        self._config = config
        self._clip = clip
        self._spotter = spotter
        samples = sample_fields(config.input)
        self._fields: dict[Dataset, Fields] = {SAMPLES: samples}
        columns = (*schema.SAMPLES, *schema.metadata_columns(config.input.metadata))
        self._columns: dict[Dataset, tuple[schema.Column, ...]] = {REJECTS: schema.REJECTS, SAMPLES: columns}
        if clip:
            embeddings, stored_as = embeddings_of(config), config.clip.stored_as
            self._fields[embeddings] = {**clip.fields(), "stored_as": stored_as, "samples": digest(samples)}
            self._columns[embeddings] = schema.embeddings(clip.dim, stored_as)
        if spotter:
            self._fields[spotted_of(config)] = {**spotter.fingerprint(), "samples": digest(samples)}
            self._columns[spotted_of(config)] = schema.SPOTTED_TEXT

    def fields(self) -> dict[Dataset, Fields]:
        """What each dataset depends on, for the fingerprints."""
        return self._fields

    def extract(self, run: Run, shard: Shard, lacking: Collection[Dataset], report: Report) -> dict[str, int]:
        """Read a shard once and write the parts it lacks; returns the counts, and milliseconds by stage.

        Rows are those of the samples dataset, in the order of the tar. Rejects appear first, then samples,
        then what stands on them.

        Raises:
            OSError: the storage failed or gave fewer bytes than the object has; worth another try.
            RunError: an earlier pass over this shard saw other samples.
        """
        stages, counts, reasons = Stages(), ReadCounts(), Counter[str]()
        kept: list[int] = []
        with ExitStack() as open_parts, _open(shard.url) as stream:
            # Parts are committed in the reverse order of their opening.
            parts = {
                dataset: open_parts.enter_context(run.part(dataset, shard.id, self._columns[dataset]))
                for dataset in reversed(list(self._columns))
                if dataset in lacking or (dataset == REJECTS and SAMPLES in lacking)
            }
            source = read_samples(stream, shard.size, self._config.input.limits, self._config.input.caption_key, counts)
            items = self._decoded(shard, source, stages)
            for samples, rejects in batches(items, self._config.clip.batch_size):
                reasons.update(reject.reason for reject in rejects)
                kept.extend(sample.raw.index for sample in samples)
                self._fill(parts, shard, samples, rejects, stages)
                report(len(samples), len(rejects), stream.tell())
            total = {
                "rows": len(kept),
                "rejects": sum(reasons.values()),
                **asdict(counts),
                **{f"reject_{reason}": n for reason, n in sorted(reasons.items())},
            }
            for dataset, part in parts.items():
                fingerprint = digest(self._fields.get(dataset, self._fields[SAMPLES]))
                part.describe(part_facts(dataset, shard, fingerprint, total, stages.seconds))
            if SAMPLES not in lacking:
                _check_same_samples(run, shard, kept)
        return total | stages.milliseconds()

    def _decoded(self, shard: Shard, source: Iterable[RawSample | Reject], stages: Stages) -> Iterator[Sample | Reject]:
        limits = self._config.input.limits
        for item in source:
            if isinstance(item, Reject):
                yield item
                continue
            try:
                with stages.time("decode"):
                    image = decode(item.image, limits.max_pixels, limits.max_side)
            except ImageError as error:
                yield Reject(item.index, item.key, error.reason, str(error), item.image_offset)
                continue
            yield Sample(item, image, sample_uid(shard.id, item.index, item.key, item.metadata))

    def _fill(
        self,
        parts: dict[Dataset, PartWriter],
        shard: Shard,
        samples: Sequence[Sample],
        rejects: Sequence[Reject],
        stages: Stages,
    ) -> None:
        """Write one batch into the open parts."""
        images = [sample.image.pixels for sample in samples]
        identity = [_identity(shard, sample) for sample in samples]
        if REJECTS in parts:
            parts[REJECTS].write([_reject_row(shard, reject) for reject in rejects])
        if not samples:
            return
        if SAMPLES in parts:
            keys = self._config.input.metadata
            parts[SAMPLES].write(
                [row | _sample_row(sample, keys) for row, sample in zip(identity, samples, strict=True)]
            )
        if self._clip and (part := parts.get(embeddings_of(self._config))):
            with stages.time("clip"):
                embedded = self._clip(images, [sample.raw.caption for sample in samples])
            table = pa.Table.from_pylist(identity, schema.arrow(schema.IDENTITY))
            stored_as = self._config.clip.stored_as
            for name, values in {
                schema.CLIP_STATUS.name: [schema.ClipStatus.OK] * len(samples),
                schema.CLIP_SCORE.name: embedded.score,
                schema.CAPTION_TRUNCATED.name: embedded.truncated,
                schema.IMAGE_EMBEDDING: to_column(embedded.image, stored_as),
                schema.TEXT_EMBEDDING: to_column(embedded.text, stored_as),
            }.items():
                table = table.append_column(name, pa.array(values))
            part.write(table)
        if self._spotter and (part := parts.get(spotted_of(self._config))):
            with stages.time("spot"):
                spottings = self._spotter.spot(images)
            part.write([row | _spotted_row(found) for row, found in zip(identity, spottings, strict=True)])


def batches(items: Iterable[Sample | Reject], size: int) -> Iterator[tuple[list[Sample], list[Reject]]]:
    """Group samples by number and decoded pixels; rejects travel with the batch they were met in.

    The grouping depends on the items alone, so the same shard always gives the same batches.
    """
    samples: list[Sample] = []
    rejects: list[Reject] = []
    pixels = 0
    for item in items:
        if isinstance(item, Reject):
            rejects.append(item)
            if len(rejects) == BATCH_REJECTS:
                yield samples, rejects
                samples, rejects, pixels = [], [], 0
            continue
        height, width = item.image.pixels.shape[:2]
        if samples and (len(samples) == size or pixels + height * width > BATCH_PIXELS):
            yield samples, rejects
            samples, rejects, pixels = [], [], 0
        samples.append(item)
        pixels += height * width
    if samples or rejects:
        yield samples, rejects


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


def _identity(shard: Shard, sample: Sample) -> dict[str, Any]:
    return {"shard": shard.id, "index": sample.raw.index, "key": sample.raw.key, "uid": sample.uid}


def _sample_row(sample: Sample, keys: Any) -> dict[str, Any]:
    raw, image = sample.raw, sample.image
    height, width = image.pixels.shape[:2]
    metadata, mismatch = typed_metadata(raw.metadata, {"url": "string", **keys})
    status = raw.metadata_status
    if mismatch and status is schema.MetadataStatus.OK:
        status = schema.MetadataStatus.MISMATCH
    return metadata | {
        "caption": raw.caption,
        "width": width,
        "height": height,
        "image_format": image.format,
        "image_offset": raw.image_offset,
        "image_size": raw.image_size,
        "metadata_status": status,
    }


def _reject_row(shard: Shard, reject: Reject) -> dict[str, Any]:
    return {
        "shard": shard.id,
        "index": reject.index,
        "key": reject.key,
        "reason": reject.reason,
        "message": reject.message,
        "offset": reject.offset,
    }


def _spotted_row(found: Spotting) -> dict[str, Any]:
    failed = found.status is schema.SpotStatus.FAILED
    return {
        "spot_status": found.status,
        "spot_message": found.message,
        "spotted": None
        if failed
        else [
            {
                "text": word.text,
                "confidence": word.confidence,
                "polygon": [{"x": x, "y": y} for x, y in word.polygon.tolist()],
            }
            for word in found.words
        ],
    }
