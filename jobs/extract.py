"""The extract job: actors that hold the models, each on one shard at a time."""

import os
from collections.abc import Collection
from typing import Any, Literal

from rich.console import Console

from jobs.console import say
from jobs.import_embeddings import run_import
from jobs.job import Job, JobError, Ready, run_job
from jobs.pool import Task
from pipeline.claims import resolved
from pipeline.config import Config
from pipeline.datasets import SAMPLES, Dataset, embeddings_of, spotted_of
from pipeline.part_counts import KEPT_FROM, count_parts
from pipeline.run import Run
from pipeline.shards import Shard, list_shards, sample_shards, told_sample
from pipeline.spotting import load_spotter

Part = Literal["clip", "spot"]
PARTS: tuple[Part, ...] = ("clip", "spot")
SECTIONS: dict[Part, str] = {"clip": "clip", "spot": "spotting"}
"""Section of the configuration that a part goes by."""

GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What the drivers of NVIDIA, AMD and WSL put there, in containers too; without any of them torch has no GPU."""


class ExtractActor:
    """Holds CLIP and spotter, and extracts one shard a call.

    Args:
        run: where the parts go.
        config: the run's configuration, `auto` resolved where the run has been begun.
        parts: the models to hold.
    """

    def __init__(self, run: Run, config: Config, parts: Collection[Part]) -> None:
        self._run = run
        self._config = config
        self._parts = parts

    def ready(self) -> Ready:
        # Here, so that the driver does without them.
        from pipeline.extract import Extractor
        from pipeline.threads import limit_threads

        config, threads = self._config, self._config.resources.cpus_per_actor
        limit_threads(threads)
        clip = spotter = None
        if "clip" in self._parts:
            from pipeline.clip import Clip

            clip = Clip(config.clip, threads)
        if "spot" in self._parts:
            spotter = load_spotter(config.spotting, threads, self._device())
        # Libraries loaded with the models bring thread pools of their own.
        limit_threads(threads)
        self._extractor = Extractor(config, clip, spotter)
        about = [f"CLIP {config.clip.model} on {clip.device} in {clip.precision}"] if clip else []
        about += [f"spotter {config.spotting.engine}"] if spotter else []
        return Ready(self._extractor.fields(), ", ".join(about) or "no model is held")

    def _device(self) -> str:
        """Where the spotter works. Torch, asked only if there may be a GPU, takes 0.7 GB with open_clip."""
        device = self._config.clip.device
        if device == "auto" and not any(map(os.path.exists, GPU_DRIVERS)):
            return "cpu"
        from pipeline.clip_model import resolve_device

        return resolve_device(device)

    def work(self, board: Any, shard: Shard, lacking: Collection[Dataset]) -> dict[str, int]:
        def report(rows: int, rejects: int, position: int) -> None:
            board.add.remote(shard.id, rows, rejects, position)

        return self._extractor.extract(self._run, shard, lacking, report)


def run_extract(config: Config, console: Console, parts: Collection[Part] = PARTS) -> None:
    """Extract every shard of the configuration that lacks a part, and import embeddings where that is configured.

    Raises:
        JobError: shards were set aside after their last attempt; the others have all their parts.
        PoolError: no worker could load the models.
        RunError, FingerprintError: the run on disk does not fit the configuration.
        ValueError: a shard pattern matches nothing.
        ImportedError: the import cannot be used.
    """
    if not config.clip.imported:
        _run_pass(config, console, parts)
        return
    try:
        _run_pass(config, console, [part for part in parts if part != "clip"])
    except JobError:
        if "clip" in parts:
            run_import(config, console)
        raise
    if "clip" in parts:
        run_import(config, console)


def _run_pass(config: Config, console: Console, parts: Collection[Part]) -> None:
    """One pass over every shard that lacks a part, with the models of `parts`; errors as `run_extract`."""
    listed = sample_shards(list_shards(config.input.shards, config.input.root), config.input.sample_shards)
    run = Run(config.run)
    collection = run.merged_shards(listed)
    shards = [shard for shard in collection if shard.sampled]
    config = resolved(run, config)
    wanted = [SAMPLES]
    wanted += [embeddings_of(config)] if "clip" in parts else []
    wanted += [spotted_of(config)] if "spot" in parts else []
    done = {dataset: run.done(dataset) for dataset in wanted}
    lacking = {shard: [d for d in wanted if shard.id not in done[d]] for shard in shards}
    tasks = [Task(shard.id, (shard, missing)) for shard, missing in lacking.items() if missing]
    say(console, f"extract: {len(shards)} shards, {len(tasks)} to do, the first is {shards[0].url}")
    if sample := told_sample(collection):
        say(console, f"extract: {sample}")
    if unlisted := len(collection) - len(listed):
        say(console, f"extract: {unlisted} shards of the run are not in input.shards; they stay in it")
    sections = ("input", *(SECTIONS[part] for part in parts))
    job = Job("extract", run, config, sections, collection, tuple(wanted), ExtractActor, (tuple(parts),))
    run_job(job, tasks, console)
    if len(tasks) >= KEPT_FROM:  # so that `status` need not read a footer a shard
        count_parts(run, SAMPLES, run.done(SAMPLES))
