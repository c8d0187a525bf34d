"""The text gate: what it skips, and what that saves of the default spotter's time.

Pictures are embedded by the embedded CLIP and spotted by the default spotter, a gate is learnt from that, and images
that it was not learnt from are then spotted without the gate, with it, and with a perfect one, by turns.
"""

import io
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import fsspec
import numpy as np
from rich.console import Console

from jobs.extract import run_extract
from jobs.session import session
from pipeline.batches import Sample
from pipeline.config import Config, ResourcesConfig
from pipeline.config_file import parse
from pipeline.datasets import SAMPLES, Dataset, embeddings_of, spotted_of
from pipeline.demo.shards import draw_demo
from pipeline.gate import GateError
from pipeline.gate.file import Gate
from pipeline.gate.rows import draw_rows
from pipeline.gate.spotting import ShardSpotter, TextGate
from pipeline.gate.training import TENTHS, learn
from pipeline.images import decode
from pipeline.overlap import has_text
from pipeline.run import Run
from pipeline.samples import RawSample, read_samples
from pipeline.sampling import sample_hash
from pipeline.shards import Shard
from pipeline.spotting import load_spotter
from tests.benchmarks.figure import Figure
from tests.benchmarks.throughput import write_shards
from tests.e2e.command import truth_spotter

RECALLS = (0.995, 0.99, 0.98, 0.95, 0.9)
"""The first that so few images can show is the gate's."""

DRAWN_A_SHARD = 160
MOST_TIMED = 200
BATCH = 20
"""Images that are spotted in one way before they are in the other."""


def measure(real: Sequence[RawSample], most: int) -> Iterator[Figure]:
    """As many drawn pictures as are asked for, and the real ones that there are."""
    with tempfile.TemporaryDirectory() as name, session(ResourcesConfig()):
        folder = Path(name)
        draw_demo(folder / "drawn", max(1, most // DRAWN_A_SHARD), min(most, DRAWN_A_SHARD))
        yield from measured(folder, "drawn", "drawn pictures")
        # Where the spotter errs, no embedding can tell: the same without its errors.
        truth = truth_spotter(folder / "drawn") | {"name": "truth"}
        yield from measured(folder, "drawn", "drawn pictures, their text as drawn", truth)
        if real:
            write_shards(real, folder / "real")
            yield from measured(folder, "real", "real images")


def measured(folder: Path, name: str, what: str, teacher: dict[str, Any] | None = None) -> Iterator[Figure]:
    """The shards in FOLDER/NAME; `teacher`: the spotter that says where text is, if it is not the default one."""
    values = {"run": f"{folder}/run-{name}", "input": {"shards": f"{folder}/{name}/*.tar"}}
    values |= {"clip": {"model": "embedded"}}
    config = parse(values)
    taught = parse(values | {"spotting": teacher}) if teacher else config
    run, text = Run(config.run), spotted_of(taught)
    run_extract(taught, Console(file=io.StringIO()))
    rows = draw_rows(run, embeddings_of(config), text)
    for recall in RECALLS:
        try:
            gate = learn(rows, recall)
        except GateError as error:
            if recall == RECALLS[0]:
                yield Figure(f"gate of recall {recall:.1%}, {what}", f"none: {error}")
            continue
        seen, (seconds, timed) = gate.measured, _by_turns(run, config, gate, text)
        (off, on, perfect), learnt = seconds, gate.rows["training"] + gate.rows["choosing"]
        yield Figure(
            f"gate of recall {recall:.1%} learnt from {learnt:,} {what}, embedded CLIP",
            f"skips {seen.skipped:.1%} of {seen.images:,} others, {1 - seen.with_text / seen.images:.1%} have no text; "
            f"recall {seen.recall:.2%} [{seen.recall_low_95:.2%}, {seen.recall_high_95:.2%}], "
            f"of words {seen.word_recall:.2%}",
            f"{timed:,} of those: default spotter takes {on[0] / off[0]:.2f} of its time without "
            f"({on[1] / off[1]:.2f} by CPU), and {perfect[0] / off[0]:.2f} ({perfect[1] / off[1]:.2f}) where exactly "
            "those without text are skipped",
        )
        return


def _by_turns(run: Run, config: Config, gate: Gate, text: Dataset) -> tuple[np.ndarray, int]:
    """Seconds of the clock and of the processor, (3, 2), of the default spotter over held-out images; how many.

    Without a gate, with it, and with one that would skip exactly the images without text.
    """
    spotter, text_gate = load_spotter(config.spotting, 1, "cpu"), TextGate(gate, run, embeddings_of(config))
    shards, seconds, timed, turns = run.shards(), np.zeros((3, 2)), 0, itertools.cycle(itertools.permutations(range(3)))
    for shard in shards:
        found = run.read_part(text, shard.id, ["index", "spotted"])
        without = set(found["index"].filter(~has_text(found["spotted"])).to_pylist())
        ways = [
            ShardSpotter(spotter, decide)
            for decide in (
                None,
                text_gate.over(shard.id, computed=False),
                lambda indexes, _, blank=without: np.array([index in blank for index in indexes]),
            )
        ]
        held_out = itertools.islice(_held_out(run, config, shard), -(-MOST_TIMED // len(shards)))
        while batch := list(itertools.islice(held_out, BATCH)):
            ways[0].spot(batch, None)  # kernels are made when a shape of input is first met
            for way in next(turns):
                start = np.array([perf_counter(), process_time()])
                ways[way].spot(batch, None)
                seconds[way] += np.array([perf_counter(), process_time()]) - start
            timed += len(batch)
    return seconds, timed


def _held_out(run: Run, config: Config, shard: Shard) -> Iterator[Sample]:
    """The samples of a shard of which the gate knows nothing."""
    limits, rows = config.input.limits, run.read_part(SAMPLES, shard.id, ["index", "uid"])
    of_part = np.isin(sample_hash(rows["uid"]) % np.uint64(10), list(TENTHS["measuring"]))
    indexes = set(rows["index"].filter(of_part).to_pylist())
    with fsspec.open(shard.url, "rb") as stream:
        for raw in read_samples(stream, shard.size, limits):
            if isinstance(raw, RawSample) and raw.index in indexes:
                yield Sample(raw, decode(raw.image, limits.max_pixels, limits.max_side), "")
