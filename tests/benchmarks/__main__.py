"""`make bench`: one table of ratios, measured in one run on this machine."""

import argparse
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.config import InputLimits
from pipeline.demo.shards import draw_demo
from pipeline.images import ImageError, decode
from pipeline.samples import RawSample, read_samples
from pipeline.spotting import Image
from tests.benchmarks import (
    assignment,
    clip_retrieval,
    feed,
    gate,
    growth,
    overlap,
    precision,
    profile,
    query,
    spotting,
    throughput,
)
from tests.benchmarks.figure import Figure
from tests.benchmarks.rates import machine, record
from tests.conftest import SHARED_DATA

REAL = "real pairs"

KINDS = (
    "throughput", "clip-retrieval", "feed", "precision", "spotting", "gate", "overlap", "assignment", "profile",
    "query", "growth",
)  # fmt: skip


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=KINDS, help="may be repeated; left out: all of them")
    parser.add_argument("--samples", type=int, default=640, help="at most so many of the real or the demo samples")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    table = Table("what", "result", "ratio", title=f"{datetime.now(UTC):%Y-%m-%d}, {machine()}", title_justify="left")
    for figure in _figures(arguments.only or KINDS, arguments.samples):
        table.add_row(figure.what, figure.result, figure.ratio)
        if figure.rate:
            record(*figure.rate, figure.what)
    Console(width=None if os.isatty(1) else 200).print(table)


def _figures(kinds: Sequence[str], most: int) -> Iterator[Figure]:
    threads = len(os.sched_getaffinity(0))
    if not {"throughput", "clip-retrieval", "feed", "precision"}.isdisjoint(kinds):
        samples, source = _samples(most)
        if "throughput" in kinds:
            yield from throughput.measure(samples, source)
        if "clip-retrieval" in kinds:
            yield from clip_retrieval.measure(samples, source)
        if "feed" in kinds:
            yield from feed.measure(samples, source)
        if "precision" in kinds:
            images = [_pixels(sample) for sample in samples]
            yield from precision.measure(images, [sample.caption for sample in samples], source, threads)
    if "spotting" in kinds:
        yield from spotting.measure(threads, most)
    if "gate" in kinds:
        samples, source = _samples(most)
        yield from gate.measure(samples if source == REAL else (), most)
    if "overlap" in kinds:
        yield from overlap.measure()
    if "assignment" in kinds:
        yield from assignment.measure(threads)
    if "profile" in kinds:
        yield from profile.measure()
    if "query" in kinds:
        yield from query.measure()
    if "growth" in kinds:
        yield from growth.measure()


def _samples(most: int) -> tuple[list[RawSample], str]:
    """Real image-text pairs where they are beside the checkout, else the demo's; those that decode."""
    with tempfile.TemporaryDirectory() as folder:
        real = sorted((SHARED_DATA / "real").glob("*.tar"))
        if not real:
            draw_demo(Path(folder))
        samples: list[RawSample] = []
        for shard in real or sorted(Path(folder).glob("*.tar")):
            with shard.open("rb") as stream:
                read = read_samples(stream, shard.stat().st_size, InputLimits())
                samples += [sample for sample in read if isinstance(sample, RawSample) and _decodes(sample)]
    return samples[:most], REAL if real else "drawn pairs"


def _decodes(sample: RawSample) -> bool:
    try:
        _pixels(sample)
    except ImageError:
        return False
    return True


def _pixels(sample: RawSample) -> Image:
    limits = InputLimits()
    return decode(sample.image, limits.max_pixels, limits.max_side).pixels


if __name__ == "__main__":
    main()
