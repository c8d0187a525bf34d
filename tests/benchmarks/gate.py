"""The text gate: what it skips, and what that saves of the default spotter's time.

Pictures are embedded by the embedded CLIP and spotted by the default spotter, a gate is learnt from that, and images
that it was not learnt from are then spotted with the gate off and on, by turns.
"""

import io
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter, process_time

import fsspec
import numpy as np
from rich.console import Console

from jobs.extract import run_extract
from jobs.session import session
from pipeline.batches import Sample
from pipeline.config import Config, ResourcesConfig
from pipeline.config_file import parse
from pipeline.datasets import SAMPLES, embeddings_of, spotted_of
from pipeline.demo.shards import draw_demo
from pipeline.gate import GateError
from pipeline.gate.file import Gate
from pipeline.gate.rows import draw_rows
from pipeline.gate.spotting import ShardSpotter, TextGate
from pipeline.gate.training import TENTHS, learn
from pipeline.images import decode
from pipeline.run import Run
from pipeline.samples import RawSample, read_samples
from pipeline.sampling import sample_hash
from pipeline.shards import Shard
from pipeline.spotting import load_spotter
from tests.benchmarks.figure import Figure
from tests.benchmarks.throughput import write_shards

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
        yield from _measured(folder, "drawn", "drawn pictures")
        if real:
            write_shards(real, folder / "real")
            yield from _measured(folder, "real", "real images")


def _measured(folder: Path, name: str, what: str) -> Iterator[Figure]:
    values = {"run": f"{folder}/run-{name}", "input": {"shards": f"{folder}/{name}/*.tar"}}
    config = parse(values | {"clip": {"model": "embedded"}})
    run = Run(config.run)
    run_extract(config, Console(file=io.StringIO()))
    rows = draw_rows(run, embeddings_of(config), spotted_of(config))
    for recall in RECALLS:
        try:
            gate = learn(rows, recall)
        except GateError as error:
            if recall == RECALLS[0]:
                yield Figure(f"gate of recall {recall:.1%}, {what}", f"none: {error}")
            continue
        seen, (off, on), timed = gate.measured, *_by_turns(run, config, gate)
        learnt = gate.rows["training"] + gate.rows["choosing"]
        yield Figure(
            f"gate of recall {recall:.1%} learnt from {learnt:,} {what}, embedded CLIP, default spotter",
            f"skips {seen.skipped:.1%} of {seen.images:,} others; recall {seen.recall:.2%} [{seen.recall_low_95:.2%}, "
            f"{seen.recall_high_95:.2%}] of {seen.with_text:,} with text, {seen.word_recall:.2%} of their words",
            f"{timed:,} of those are spotted in {on[0] / off[0]:.2f} of the time without ({on[1] / off[1]:.2f} by CPU)",
        )
        return


def _by_turns(run: Run, config: Config, gate: Gate) -> tuple[np.ndarray, int]:
    """Seconds of the clock and of the processor, (2, 2), of held-out images with the gate off and on; how many."""
    spotter, text_gate = load_spotter(config.spotting, 1, "cpu"), TextGate(gate, run, embeddings_of(config))
    shards, seconds, timed, turn = run.shards(), np.zeros((2, 2)), 0, itertools.cycle(((0, 1), (1, 0)))
    for shard in shards:
        ways = ShardSpotter(spotter, None), ShardSpotter(spotter, text_gate.over(shard.id, computed=False))
        held_out = itertools.islice(_held_out(run, config, shard), -(-MOST_TIMED // len(shards)))
        while batch := list(itertools.islice(held_out, BATCH)):
            ways[0].spot(batch, None)  # kernels are made when a shape of input is first met
            for way in next(turn):
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
