"""The extract job: actors that hold the models, each on one shard at a time."""

import os
import platform
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Literal

import ray
from rich.console import Console

from jobs.console import say
from jobs.import_embeddings import run_import
from jobs.job import Job, JobError, Ready, run_job
from jobs.search import Search
from jobs.startup import load_gate, low_disk
from jobs.tasks import Task
from pipeline.claims import resolved
from pipeline.config import Config
from pipeline.crashes import NO_CRASHES, Crashes, Place
from pipeline.datasets import SAMPLES, Dataset, embeddings_of, spotted_of
from pipeline.gate.file import Gate
from pipeline.part_counts import KEPT_FROM, count_parts
from pipeline.run import Run
from pipeline.shards import Shard, list_shards, sample_shards, told_sample
from pipeline.spotting import load_spotter

Part = Literal["clip", "spot"]
PARTS: tuple[Part, ...] = ("clip", "spot")
SECTIONS: dict[Part, str] = {"clip": "clip", "spot": "spotting"}
"""Section of the configuration that a part goes by."""

Work = Sequence[tuple[Shard, list[Dataset]]]
"""Shards, and the datasets that each of them lacks."""

GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What the drivers of NVIDIA, AMD and WSL put there, in containers too; without any of them torch has no GPU."""


class ExtractActor:
    """Holds CLIP and spotter, and extracts one shard a call.

    Args:
        run: where the parts go.
        config: the run's configuration, `auto` resolved where the run has been begun.
        parts: the models to hold.
        gate: what keeps images from the spotter, or None.
    """

    def __init__(self, run: Run, config: Config, parts: Collection[Part], gate: Gate | None = None) -> None:
        self._run = run
        self._config = config
        self._parts = parts
        self._gate = gate

    def ready(self) -> Ready:
        # Here, so that the driver does without them.
        from pipeline.extract import Extractor
        from pipeline.gate.spotting import TextGate
        from pipeline.threads import limit_threads

        config, threads = self._config, self._config.resources.cpus_per_actor
        limit_threads(threads)
        clip = spotter = None
        device = _device(config) if self._parts else "cpu"
        if "clip" in self._parts:
            from pipeline.clip import Clip

            clip = Clip(config.clip, threads)
        if "spot" in self._parts:
            spotter = load_spotter(config.spotting, threads, device)
        # Libraries loaded with the models bring thread pools of their own.
        limit_threads(threads)
        gate = TextGate(self._gate, self._run, embeddings_of(config)) if self._gate else None
        if self._gate and clip:
            self._gate.check_embeddings(clip.fields(), clip.dim)
        if self._gate and spotter:
            self._gate.check_spotter(spotter.fingerprint())
        self._extractor = Extractor(config, clip, spotter, gate)
        about = [f"CLIP {config.clip.model} on {clip.device} in {clip.precision}"] if clip else []
        about += [f"spotter {config.spotting.engine}"] if spotter else []
        about += [self._gate.told()] if self._gate else []
        return Ready(self._extractor.fields(), ", ".join(about) or "no model is held")

    def work(
        self, board: Any, shard: Shard, lacking: Collection[Dataset], crashes: Crashes = NO_CRASHES
    ) -> dict[str, int]:
        last: list[Any] = []

        def report(rows: int, rejects: int, position: int, after: int) -> None:
            # The word before must have arrived: so no more than one is lost with this process.
            if last:
                ray.wait(last)
            last[:] = [board.add.remote(shard.id, rows, rejects, position, after)]

        return self._extractor.extract(self._run, shard, lacking, report, crashes)

    def search(self, board: Any, shard: Shard, lacking: Collection[Dataset], first: int, crashes: Crashes) -> None:
        def announce(place: Place | None) -> None:
            ray.get(board.announce.remote(shard.id, place))

        self._extractor.search(shard, lacking, first, crashes, announce)


def _device(config: Config) -> str:
    """Torch's name of the device. Torch, asked only where there may be a GPU, takes 0.7 GB with open_clip.

    Raises:
        ClipError: a GPU is asked for and absent.
    """
    asked, gpus = config.clip.device, config.resources.gpus_per_actor
    if asked == "cpu" or (asked == "auto" and not gpus and not any(map(os.path.exists, GPU_DRIVERS))):
        return "cpu"
    from pipeline.clip_model import ClipError, resolve_device

    device = resolve_device(asked)
    if gpus and device == "cpu":
        raise ClipError(
            f"resources.gpus_per_actor is {gpus:g}, but torch sees no CUDA device on {platform.node()}: install a "
            "torch for its driver, or set clip.device to cpu."
        )
    return device


def run_extract(config: Config, console: Console, parts: Collection[Part] = PARTS) -> None:
    """Extract every shard of the configuration that lacks a part, and import embeddings where that is configured.

    Raises:
        JobError: shards were set aside after their last attempt; the others have all their parts.
        PoolError: no worker could load the models.
        RunError, FingerprintError: the run on disk does not fit the configuration.
        ValueError: a shard pattern matches nothing.
        ImportedError: the import cannot be used.
        GateError: the text gate cannot be used.
    """
    gate = load_gate(Run(config.run), config) if "spot" in parts else None
    if not config.clip.imported:
        _run_pass(config, console, parts, gate)
        return
    others: list[Part] = [part for part in parts if part != "clip"]
    steps = [partial(_run_pass, config, console, others, gate)]
    if "clip" in parts:
        importing = partial(run_import, config, console)
        # The gate goes by the embeddings, and the import by the samples.
        steps = [partial(_run_pass, config, console, ()), importing, *steps] if gate else [*steps, importing]
    failed: list[JobError] = []
    for step in steps:
        try:
            step()
        except JobError as error:  # shards set aside keep no other from what comes next
            failed.append(error)
    if failed:
        raise failed[0]


def _run_pass(config: Config, console: Console, parts: Collection[Part], gate: Gate | None = None) -> None:
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
    todo = [(shard, missing) for shard, missing in lacking.items() if missing]
    blind = _without_embeddings(run, config, todo) if gate and "clip" not in parts else set()
    todo = [(shard, missing) for shard, missing in todo if shard.id not in blind]
    if blind and not todo:
        raise _blind_error(blind)
    # The largest first: one that began last would be worked on alone.
    todo.sort(key=lambda work: work[0].size or 0, reverse=True)
    tasks = [Task(shard.id, (shard, missing), Search(), shard.size or 0) for shard, missing in todo]
    say(console, f"extract: {len(shards)} shards, {len(tasks)} to do, the first is {shards[0].url}")
    if sample := told_sample(collection):
        say(console, f"extract: {sample}")
    if unlisted := len(collection) - len(listed):
        say(console, f"extract: {unlisted} shards of the run are not in input.shards; they stay in it")
    if warning := low_disk(run, sum(task.size for task in tasks)):
        say(console, f"extract: warning: {warning}")
    sections = ("input", *(SECTIONS[part] for part in parts))
    job = Job("extract", run, config, sections, collection, tuple(wanted), ExtractActor, (tuple(parts), gate))
    run_job(job, tasks, console)
    if len(tasks) >= KEPT_FROM:  # so that `status` need not read a footer a shard
        count_parts(run, SAMPLES, run.done(SAMPLES))
    if blind:
        raise _blind_error(blind)


def _without_embeddings(run: Run, config: Config, todo: Work) -> set[str]:
    """Shards to be spotted that have no embeddings for the gate to go by."""
    embedded, spotted = run.done(embeddings_of(config)), spotted_of(config)
    return {shard.id for shard, missing in todo if spotted in missing and shard.id not in embedded}


def _blind_error(blind: Collection[str]) -> JobError:
    return JobError(
        f"extract: {len(blind)} shards have no embeddings yet, {min(blind)} first, and the text gate goes by them: "
        "extract them before, or without --only."
    )
