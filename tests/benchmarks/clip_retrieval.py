"""CLIP embeddings beside the way a user would else go: clip-retrieval's `clip_inference`.

clip-retrieval 2.45 wants numpy 1, pyarrow 15 and webdataset 0.2, and so an environment of its own. This is its method,
after its `clip_inference/reader.py` and `mapper.py`: webdataset through a DataLoader's workers, open_clip's transform
image by image, batches of 256, the model in fp32 on a CPU, features divided by their norms. Nothing is written, which
clip-retrieval would do, and malloc is told to keep memory, as in our workers. Both ways read the same shards on all
cores, one after the other.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.util import ActorPool

from jobs.extract import ExtractActor
from jobs.heartbeats import Board
from jobs.session import session
from pipeline import schema
from pipeline.config import Config, ResourcesConfig
from pipeline.datasets import SAMPLES, embeddings_of
from pipeline.run import Run
from pipeline.samples import RawSample
from pipeline.shards import Shard, list_shards
from pipeline.vectors import to_matrix
from tests.benchmarks.figure import Figure
from tests.benchmarks.throughput import MODEL, config, write_shards, write_weights

BATCH = 256
ROUNDS = 3
LEAST_COSINE = 0.99
"""In the median, between an embedding of ours, in bf16 where the processor has it, and theirs in fp32."""


class TheirActor:
    """The model in fp32, and a DataLoader for every pass."""

    def __init__(self, weights: str, threads: int) -> None:
        import open_clip
        import torch

        torch.set_num_threads(threads)
        self._threads = threads
        self._model, _, self._transform = open_clip.create_model_and_transforms(MODEL, pretrained=weights)
        self._model.eval()
        self._tokenizer = open_clip.get_tokenizer(MODEL)

    def embed(self, shards: Sequence[str]) -> dict[str, np.ndarray]:
        """The image embedding of every key; those of the texts are made and dropped."""
        import torch
        import webdataset

        samples = (
            webdataset.WebDataset(list(shards), shardshuffle=False, handler=webdataset.warn_and_continue)
            .decode("pil", handler=webdataset.warn_and_continue)
            .map(lambda found: (found["__key__"], self._transform(found["jpg"]), self._tokenizer([found["txt"]])[0]))
        )
        workers = min(self._threads, len(shards))
        found: dict[str, np.ndarray] = {}
        with torch.no_grad():
            for keys, images, texts in torch.utils.data.DataLoader(samples, BATCH, num_workers=workers):
                features = [self._model.encode_image(images), self._model.encode_text(texts)]
                image, _ = (feature / feature.norm(dim=-1, keepdim=True) for feature in features)
                found |= zip(keys, image.numpy(), strict=True)
        return found


def measure(samples: Sequence[RawSample], source: str, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Samples a second of either, after a check that the embeddings are the same."""
    with tempfile.TemporaryDirectory() as name, session(ResourcesConfig()):
        folder, cores = Path(name), len(os.sched_getaffinity(0))
        write_shards(samples, folder / "shards")
        write_weights(folder / "weights.safetensors")
        settings = config(folder)
        run, shards = Run(settings.run), list_shards([f"{folder}/shards/*.tar"])
        board = ray.remote(num_cpus=0)(Board).remote()
        ours = [ray.remote(num_cpus=1)(ExtractActor).remote(run, settings, ("clip",)) for _ in range(cores)]
        theirs = ray.remote(num_cpus=0)(TheirActor).remote(str(folder / "weights.safetensors"), cores)
        ray.get([actor.ready.remote() for actor in ours])

        def embed(actor: Any, shard: Shard) -> Any:
            return actor.work.remote(board, shard, (SAMPLES, embeddings_of(settings)))

        seconds = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            rows = sum(counts["rows"] for counts in ActorPool(ours).map_unordered(embed, shards))
            between = time.perf_counter()
            found = ray.get(theirs.embed.remote([shard.url.removeprefix("file://") for shard in shards]))
            seconds.append((between - start, time.perf_counter() - between))
        _check_same(run, settings, shards, found)
    # Not the first round: kernels are compiled in it, and memory is taken.
    our_seconds, their_seconds = (statistics.median(times) for times in zip(*seconds[1:], strict=True))
    yield Figure(
        f"extract with CLIP only, {rows:,} {source}, {MODEL}, beside clip-retrieval's method in fp32",
        f"{rows / our_seconds:.1f} samples/s, {rows / their_seconds:.1f} samples/s",
        f"{their_seconds / our_seconds:.2f} times as fast",
    )


def _check_same(run: Run, settings: Config, shards: Sequence[Shard], theirs: Mapping[str, np.ndarray]) -> None:
    """Both ways gave embeddings of the same samples, and of most nearly the same ones: theirs ignores EXIF, for one."""
    ours: dict[str, np.ndarray] = {}
    for shard in shards:
        table = run.read_part(embeddings_of(settings), shard.id, [schema.KEY.name, schema.IMAGE_EMBEDDING])
        ours |= zip(table[schema.KEY.name].to_pylist(), to_matrix(table[schema.IMAGE_EMBEDDING]), strict=True)
    cosine = statistics.median(float(ours[key] @ theirs[key]) for key in ours.keys() & theirs.keys())
    if len(ours) != len(theirs) or cosine < LEAST_COSINE:
        raise AssertionError(f"the two ways give other embeddings: {len(ours)}, {len(theirs)}, cosine {cosine:.4f}")
