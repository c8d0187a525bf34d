"""How fast a shard comes to CLIP: read, opened, cropped and tokenised, with CLIP itself taken out.

What a GPU can be fed is bounded by this. In CLIP's place stands nothing, and then a wait as long as the opening of a
batch takes, as of a GPU that is as fast: threads that open images ahead do so meanwhile.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.clip import Clip
from pipeline.config import ClipConfig, InputLimits
from pipeline.config_file import parse
from pipeline.datasets import SAMPLES, embeddings_of
from pipeline.extract import Extractor
from pipeline.images import decode
from pipeline.run import Run
from pipeline.samples import RawSample
from pipeline.shards import list_shards
from pipeline.threads import limit_threads
from tests.benchmarks.figure import Figure
from tests.benchmarks.throughput import MODEL, write_weights
from tests.pipeline.shard_factory import tar

A100 = 2_500
"""Samples a second of ViT-B/32 on one A100, as clip-retrieval publishes them."""


class Waiting(Clip):
    """CLIP that waits so many seconds for each image, in place of computing; what comes before it is real."""

    seconds = 0.0

    def embed_crops(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        torch.from_numpy(np.stack(crops))
        time.sleep(self.seconds * len(crops))
        return self._blank(len(crops))

    def embed_texts(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        if captions == [""]:  # it asks for its dimension so
            return super().embed_texts(captions)
        self._tokenizer(list(captions))
        return self._blank(len(captions)), np.zeros(len(captions), bool)

    def _blank(self, rows: int) -> np.ndarray:
        return np.full((rows, self.dim), self.dim**-0.5, np.float32)


def measure(samples: Sequence[RawSample], source: str) -> Iterator[Figure]:
    """Samples a second without threads and with one a core, on one shard that holds all samples."""
    cores = len(os.sched_getaffinity(0))
    limit_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "all.tar").write_bytes(tar([*_members(samples)]))
        write_weights(folder / "weights.safetensors")
        values = {"model": MODEL, "pretrained": str(folder / "weights.safetensors"), "device": "cpu"}
        clip = Waiting(ClipConfig.model_validate(values), 1)
        _seconds(folder, clip, 0)  # what is first done takes longer
        alone = len(samples) / _seconds(folder, clip, 0)
        fed = len(samples) / _seconds(folder, clip, cores)
        clip.least_side = clip.crop(np.zeros((9, 9, 3), np.uint8)).shape[0]
        reduced = len(samples) / _seconds(folder, clip, cores)
        clip.least_side = None
        clip.seconds = 1 / fed
        behind, ahead = (len(samples) / _seconds(folder, clip, threads) for threads in (0, cores))
    about = f"{len(samples):,} {source}, CLIP taken out"
    yield Figure(f"read, opened, cropped and tokenised: {about}", f"{alone:.0f} samples/s")
    yield Figure(
        f"the same with {cores} threads",
        f"{fed:.0f} samples/s",
        f"{fed / alone:.1f} times; {A100 * cores / fed:.0f} such cores for {A100:,} samples/s",
    )
    yield Figure("the same with clip.reduced_decoding", f"{reduced:.0f} samples/s", _reduced(samples))
    yield Figure(
        f"the same before a stand-in for a GPU of {fed:.0f} samples/s",
        f"{ahead:.0f} samples/s",
        f"{ahead / fed:.2f} of what it allows; {behind / fed:.2f} without threads",
    )


def _reduced(samples: Sequence[RawSample]) -> str:
    """What reduced decoding changes in the embedded CLIP's scores."""
    clip = Clip(ClipConfig.model_validate({"model": "embedded", "precision": "fp32", "device": "cpu"}), 1)
    limits, captions = InputLimits(), [sample.caption for sample in samples]
    side = clip.crop(np.zeros((9, 9, 3), np.uint8)).shape[0]
    whole, reduced = (
        [decode(sample.image, limits.max_pixels, limits.max_side, least).pixels for sample in samples]
        for least in (None, side)
    )
    smaller = np.array([a.shape != b.shape for a, b in zip(whole, reduced, strict=True)])
    scores = [clip(images, captions).score for images in (whole, reduced)]
    error = np.abs(scores[1] - scores[0])[smaller]
    return (
        f"embedded CLIP, {smaller.mean():.0%} of the images smaller: score off by {error.mean():.4f} in their mean, "
        f"{error.max():.4f} at worst; standard deviation of the scores {scores[0].std():.4f}"
    )


def _members(samples: Sequence[RawSample]) -> Iterator[tuple[str, bytes]]:
    for number, sample in enumerate(samples):
        yield f"{number:09d}.jpg", sample.image
        yield f"{number:09d}.txt", sample.caption.encode()


def _seconds(folder: Path, clip: Clip, threads: int) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as run:
        values: dict[str, Any] = {"run": run, "input": {"shards": f"{folder}/*.tar"}}
        config = parse({**values, "resources": {"decode_threads": threads}})
        (shard,) = list_shards(config.input.shards)
        extractor = Extractor(config, clip, None)
        start = time.perf_counter()
        extractor.extract(Run(run), shard, [SAMPLES, embeddings_of(config)], lambda *_: None)
        return time.perf_counter() - start
