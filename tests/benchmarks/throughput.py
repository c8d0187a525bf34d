"""The extract job beside its ceilings: CLIP alone and the spotter alone, on images that are decoded already.

One worker a core holds the models, as in the job, and takes every shard three ways, one after the other: what else the
machine has to do then disturbs all three alike.
"""

import io
import itertools
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter, process_time

import fsspec
import open_clip
import ray
import safetensors.torch
import torch

from jobs.extract import PARTS, ExtractActor
from jobs.heartbeats import Board
from jobs.job import Ready
from jobs.session import session
from pipeline.batches import Sample, batches
from pipeline.clip import Clip
from pipeline.config import Config, InputLimits, ResourcesConfig
from pipeline.config_file import parse
from pipeline.datasets import SAMPLES, Dataset, embeddings_of, spotted_of
from pipeline.images import decode
from pipeline.run import Run
from pipeline.samples import RawSample, read_samples
from pipeline.shards import Shard, list_shards
from pipeline.spotting import load_spotter
from tests.benchmarks.figure import Figure

MODEL = "ViT-B-32-quickgelu"
SHARD_SAMPLES = 64
"""A batch: small, so that the three ways are close to each other in time."""


@dataclass(frozen=True)
class Seconds:
    """Samples, and the seconds that they took in each way; `…_cpu` are the processor's."""

    rows: int
    decode: float
    clip: float
    spot: float
    with_both: float
    with_both_cpu: float
    with_clip: float
    with_clip_cpu: float


class MeasuredActor(ExtractActor):
    """A worker of the job that tells how long its models alone take."""

    def ready(self) -> Ready:
        ready = super().ready()
        self._clip: Clip = self._extractor._clip  # type: ignore[assignment]
        self._spotter = self._extractor._spotter or load_spotter(self._config.spotting, 1, "cpu")
        return ready

    def measure(self, board: object, shard: Shard, models_first: bool) -> Seconds:
        """One shard by its models alone, and by the job with both and with CLIP only."""
        if models_first:
            alone = self._alone(shard)
        jobs = [seconds for name in ("both", "clip") for seconds in self._job(board, shard, name)]
        if not models_first:
            alone = self._alone(shard)
        return Seconds(*alone, *jobs)

    def _job(self, board: object, shard: Shard, name: str) -> tuple[float, float]:
        config, run = self._config, Run(f"{self._config.run}-{name}")
        lacking: Collection[Dataset] = [SAMPLES, embeddings_of(config)]
        lacking = [*lacking, spotted_of(config)] if name == "both" else lacking
        self._run, start, cpu = run, perf_counter(), process_time()
        self.work(board, shard, lacking)
        return perf_counter() - start, process_time() - cpu

    def _alone(self, shard: Shard) -> tuple[int, float, float, float]:
        start = perf_counter()
        decoded = [samples for samples, _ in batches(_decoded(shard), self._config.clip.batch_size)]
        decode_seconds, clip_seconds, spot_seconds = perf_counter() - start, 0.0, 0.0
        for samples in decoded:
            images = [sample.image.pixels for sample in samples]
            start = perf_counter()
            self._clip(images, [sample.raw.caption for sample in samples])
            between = perf_counter()
            self._spotter.spot(images)
            clip_seconds += between - start
            spot_seconds += perf_counter() - between
        return sum(map(len, decoded)), decode_seconds, clip_seconds, spot_seconds


def measure(samples: Sequence[RawSample], source: str) -> Iterator[Figure]:
    """Ceilings and shares on `samples`, with random weights: they cost what trained ones do."""
    with tempfile.TemporaryDirectory() as name, session(ResourcesConfig()):
        folder = Path(name)
        write_shards(samples, folder / "shards")
        write_weights(folder / "weights.safetensors")
        workers = int(ray.cluster_resources()["CPU"])
        if len(samples) <= workers * SHARD_SAMPLES:
            least = f"--samples must be above {workers * SHARD_SAMPLES}: a worker's first shard does not count"
            yield Figure("extract beside its models", f"not measured: {least}")
            return
        each = _measured(config(folder), list_shards([f"{folder}/shards/*.tar"]), workers)
    total = Seconds(*(sum(getattr(shard, field.name) for shard in each) for field in fields(Seconds)))

    def rate(*seconds: float) -> float:
        return workers * total.rows / sum(seconds)

    about = f"{total.rows:,} {source}, {MODEL}, {workers} workers"
    yield Figure(f"CLIP alone, {about}", f"{rate(total.clip):.1f} samples/s")
    yield Figure("default spotter alone, the same", f"{rate(total.spot):.1f} samples/s")
    yield Figure("reading and decoding alone, the same", f"{rate(total.decode):.1f} samples/s")
    # What spotting adds to a pass with CLIP, so that the sum of both is a pass.
    spotting = total.with_both_cpu - total.with_clip_cpu
    for title, job, models, cost in (
        ("both", total.with_both, (total.clip, total.spot), ("spot", total.rows / spotting)),
        ("CLIP only", total.with_clip, (total.clip,), ("clip", total.rows / total.with_clip_cpu)),
    ):
        yield Figure(
            f"extract with {title}",
            f"{rate(job):.1f} samples/s",
            f"{rate(job) / rate(*models):.2f} of what the models allow, "
            f"{rate(job) / rate(*models, total.decode):.2f} of what they and decoding allow",
            cost,
        )


def _measured(settings: Config, shards: Sequence[Shard], workers: int) -> list[Seconds]:
    """Every shard measured, but for each worker's first, in which kernels are compiled and memory is taken."""
    board = ray.remote(num_cpus=0)(Board).remote()
    actor = ray.remote(num_cpus=1)(MeasuredActor)
    actors = [actor.remote(Run(settings.run), settings, PARTS) for _ in range(workers)]
    ray.get([actor.ready.remote() for actor in actors])
    told = [
        actors[number % workers].measure.remote(board, shard, models_first=number // workers % 2 == 0)
        for number, shard in enumerate(shards)
    ]
    return list(ray.get(told))[workers:]


def config(folder: Path) -> Config:
    """As a run of one worker per core has it."""
    clip = {"model": MODEL, "pretrained": str(folder / "weights.safetensors")}
    return parse({"run": str(folder / "run"), "input": {"shards": f"{folder}/shards/*.tar"}, "clip": clip})


def write_shards(samples: Sequence[RawSample], folder: Path) -> None:
    """The samples in tars of SHARD_SAMPLES, dealt out so that every shard has some of every kind."""
    folder.mkdir()
    shards = -(-len(samples) // SHARD_SAMPLES)
    for number in range(shards):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as archive:
            for index, sample in itertools.islice(enumerate(samples), number, None, shards):
                for suffix, data in (("jpg", sample.image), ("txt", sample.caption.encode())):
                    member = tarfile.TarInfo(f"{index:09d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


def write_weights(file: Path) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model(MODEL, pretrained=None)
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, file)


def _decoded(shard: Shard) -> Iterator[Sample]:
    limits = InputLimits()
    with fsspec.open(shard.url, "rb") as stream:
        for raw in read_samples(stream, shard.size, limits):
            if isinstance(raw, RawSample):
                yield Sample(raw, decode(raw.image, limits.max_pixels, limits.max_side), "")
