"""The extract job beside its ceilings: CLIP alone and the spotter alone, on images that are decoded already."""

import io
import itertools
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from time import perf_counter

import open_clip
import ray
import safetensors.torch
import torch
from rich.console import Console

from jobs.extract import PARTS, Part, run_extract
from jobs.session import session
from pipeline.clip import Clip
from pipeline.config import Config, InputLimits, ResourcesConfig
from pipeline.config_file import parse
from pipeline.extract import Sample, batches
from pipeline.images import decode
from pipeline.samples import RawSample, read_samples
from pipeline.spotting import load_spotter
from pipeline.threads import limit_threads
from tests.benchmarks.figure import Figure

MODEL = "ViT-B-32-quickgelu"
SHARDS = 8
"""Of equal content, so that no worker waits for another at the end."""

ROUNDS = 2
"""Times that ceilings and jobs are measured in turns."""


def measure(samples: Sequence[RawSample], source: str) -> Iterator[Figure]:
    """Ceilings and shares on `samples`, with random weights: they cost what trained ones do."""
    with tempfile.TemporaryDirectory() as name, session(ResourcesConfig()):
        folder = Path(name)
        write_shards(samples, folder / "shards")
        write_weights(folder / "weights.safetensors")
        ceilings: list[tuple[float, float]] = []
        jobs: dict[tuple[Part, ...], list[float]] = {PARTS: [], ("clip",): []}
        for number in range(ROUNDS):
            ceilings.append(ceiling(config(folder, "unused")))
            for parts, rates in jobs.items():
                rates.append(job(config(folder, f"{'-'.join(parts)}-{number}"), parts))
    clip, spot = (fmean(rates) for rates in zip(*ceilings, strict=True))
    both, alone = (fmean(rates) for rates in jobs.values())
    allowed = 1 / (1 / clip + 1 / spot)
    about = f"{len(samples):,} {source}, {MODEL}"
    yield Figure(f"CLIP alone, {about}", f"{clip:.1f} samples/s")
    yield Figure("default spotter alone, the same", f"{spot:.1f} samples/s")
    yield Figure("extract with both", f"{both:.1f} samples/s", f"{both / allowed:.2f} of what both ceilings allow")
    yield Figure("extract without a spotter", f"{alone:.1f} samples/s", f"{alone / clip:.2f} of CLIP alone")


def config(folder: Path, run: str) -> Config:
    """One worker per core, as the quickstart has."""
    clip = {"model": MODEL, "pretrained": str(folder / "weights.safetensors")}
    return parse({"run": str(folder / run), "input": {"shards": f"{folder}/shards/*.tar"}, "clip": clip})


def write_shards(samples: Sequence[RawSample], folder: Path) -> None:
    """The samples dealt out over SHARDS tars."""
    folder.mkdir()
    for number in range(SHARDS):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as archive:
            for index, sample in itertools.islice(enumerate(samples), number, None, SHARDS):
                for suffix, data in (("jpg", sample.image), ("txt", sample.caption.encode())):
                    member = tarfile.TarInfo(f"{index:09d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


def write_weights(file: Path) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model(MODEL, pretrained=None)
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, file)


def job(settings: Config, parts: tuple[Part, ...]) -> float:
    """Samples per second of an extract job, from its first worker at work to its end."""
    told = io.StringIO()
    run_extract(settings, Console(file=told, width=200), parts)
    return float(re.findall(r"samples, ([\d,.]+)/s", told.getvalue())[-1].replace(",", ""))


def ceiling(settings: Config) -> tuple[float, float]:
    """Samples per second of CLIP alone and of the spotter alone, all workers at work."""
    shards = sorted(Path(settings.input.shards[0]).parent.glob("*.tar"))
    workers = int(ray.cluster_resources()["CPU"])
    time = ray.remote(num_cpus=1)(_seconds)
    told = ray.get([time.remote(settings, shards[worker::workers]) for worker in range(workers)])
    return sum(rows / clip for rows, clip, _ in told), sum(rows / spot for rows, _, spot in told)


def _seconds(settings: Config, shards: Sequence[Path]) -> tuple[int, float, float]:
    """Samples, and seconds that CLIP and spotter, loaded as in the job, take for them in the job's batches."""
    limit_threads(1)
    clip, spotter = Clip(settings.clip, 1), load_spotter(settings.spotting, 1, "cpu")
    limit_threads(1)
    rows, clip_seconds, spot_seconds = 0, 0.0, 0.0
    warm = False  # the first batch is not counted
    for shard in shards:
        for samples, _ in batches(_decoded(shard), settings.clip.batch_size):
            images = [sample.image.pixels for sample in samples]
            start = perf_counter()
            clip(images, [sample.raw.caption for sample in samples])
            between = perf_counter()
            spotter.spot(images)
            if warm:
                rows += len(samples)
                clip_seconds += between - start
                spot_seconds += perf_counter() - between
            warm = True
    return rows, clip_seconds, spot_seconds


def _decoded(shard: Path) -> Iterator[Sample]:
    limits = InputLimits()
    with shard.open("rb") as stream:
        for raw in read_samples(stream, shard.stat().st_size, limits):
            if isinstance(raw, RawSample):
                yield Sample(raw, decode(raw.image, limits.max_pixels, limits.max_side), "")
