"""The default spotter beside RapidOCR as it comes: speed by turns in one run, words against what a person read.

Both get images that are decoded already. RapidOCR as it comes is onnxruntime with its own settings and one image a
call. Either runs as one process that has every core, and as one process a core, side by side, each on one thread.
"""

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino
import ray

from jobs.session import session
from pipeline.config import ClipConfig, ResourcesConfig
from pipeline.spotting import Image, load_spotter
from pipeline.spotting.config import RapidOCRConfig
from pipeline.spotting.openvino_models import resolve_precision
from pipeline.threads import limit_threads
from tests.benchmarks.figure import Figure
from tests.conftest import SHARED_DATA
from tests.pipeline.spotting.truth import Score, score, truth

STOCK = "RapidOCR as it comes"
ROUND = ClipConfig().batch_size
"""Images that every way gets before the next ones: a batch of `extract`."""
PASSES = 5
"""Of the default spotter over a round: once takes a second or two, and it has been idle for a minute."""
RESAMPLES = 10_000

Read = Callable[[Sequence[Image]], list[list[str]]]


@dataclass(frozen=True)
class Way:
    """How images are read: by RapidOCR as it comes or by the default spotter at a precision, in how many processes."""

    reader: str
    processes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.reader}, {self.processes} x {self.threads} threads"


Seconds = npt.NDArray[np.float64]
"""(2,) of the clock and of the CPU, which other work on the machine disturbs less."""


class Reader:
    """A process that reads images and tells how long it took."""

    def __init__(self, reader: str, threads: int) -> None:
        self._read, self._passes = (stock(threads), 1) if reader == STOCK else (ours(reader, threads), PASSES)
        limit_threads(threads)

    def read(self, images: Sequence[Image]) -> tuple[Seconds, list[list[str]]]:
        start = np.array([perf_counter(), process_time()])
        for _ in range(self._passes):
            words = self._read(images)
        return (np.array([perf_counter(), process_time()]) - start) / self._passes, words


def ours(precision: str, threads: int) -> Read:
    """The default spotter."""
    spotter = load_spotter(RapidOCRConfig.model_validate({"precision": precision}), threads, "cpu")
    return lambda images: [[word.text for word in spotting.words] for spotting in spotter.spot(images)]


def stock(threads: int) -> Read:
    """RapidOCR as it comes, which takes BGR; left alone, onnxruntime takes every core."""
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"EngineConfig.onnxruntime.intra_op_num_threads": threads})
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)  # it warns of every image without text
    return lambda images: [list(engine(np.ascontiguousarray(image[..., ::-1])).txts or ()) for image in images]


def measure(cores: int, most: int) -> Iterator[Figure]:
    """Speed of either in both ways on at most so many images; recall, precision and false alarms of either."""
    if not SHARED_DATA.is_dir():
        yield Figure(f"default spotter beside {STOCK}", "not measured: the real images are not beside the checkout")
        return
    samples = list(truth(SHARED_DATA, dense=True))
    random.Random(0).shuffle(samples)
    del samples[most:]
    rows, images = [row for row, _ in samples], [image for _, image in samples]
    fast = resolve_precision("auto", openvino.Core())
    ways = [Way(reader, *shape) for reader in (STOCK, fast) for shape in ((1, cores), (cores, 1))]
    with session(ResourcesConfig()):
        seconds, words = _by_turns(ways, images)
        if fast != "fp32":
            (_, words["fp32"]) = ray.get(_start(Way("fp32", 1, cores)).read.remote(images))
    for way, (clock, cpu) in seconds.items():
        beside = [other for other in ways if other.reader == STOCK] if way.reader != STOCK else []
        ratios = [
            f"{seconds[other][0] / other.processes / (clock / way.processes):.1f} times {other} "
            f"({seconds[other][1] / cpu:.1f} by CPU seconds)"
            for other in beside
        ]
        rate = f"{way.processes * len(images) / clock:.2f} images/s, {cpu / len(images):.3f} CPU seconds an image"
        yield Figure(f"spotting: {way}, {len(images)} real images", rate, "; ".join(ratios))
    scores = {
        reader: [score(row, read) for row, read in zip(rows, each, strict=True) if row["kind"] != "dense"]
        for reader, each in words.items()
    }
    for reader, each in scores.items():
        blank = [one for one in each if not one.written]
        yield Figure(
            f"words: {reader}, {len(each)} real images that a person read",
            f"recall {_recall(each):.2%}, precision {_precision(each):.2%}, "
            f"words in {sum(one.spotted > 0 for one in blank)} of {len(blank)} images without",
            "" if reader == STOCK else beside_stock(each, scores[STOCK]),
        )


def _by_turns(ways: Sequence[Way], images: Sequence[Image]) -> tuple[dict[Way, Seconds], dict[str, list[list[str]]]]:
    """Seconds of all processes of a way together, and the words of every reader."""
    readers = {way: [_start(way) for _ in range(way.processes)] for way in ways}
    for way in ways:  # kernels are made when a shape of input is first met: once in a worker's life
        ray.get([reader.read.remote(images[:3] if way.reader == STOCK else images) for reader in readers[way]])
    seconds = {way: np.zeros(2) for way in ways}
    words: dict[str, list[list[str]]] = {way.reader: [] for way in ways}
    for start in range(0, len(images), ROUND):
        some = images[start : start + ROUND]
        for way in ways:
            shares = [some[number :: way.processes] for number in range(way.processes)]
            told = ray.get([reader.read.remote(share) for reader, share in zip(readers[way], shares, strict=True)])
            seconds[way] += np.sum([spent for spent, _ in told], axis=0)
            if way.processes == 1:
                words[way.reader] += told[0][1]
    return seconds, words


def _start(way: Way) -> Any:
    return ray.remote(num_cpus=0)(Reader).remote(way.reader, way.threads)


def _recall(scores: Sequence[Score]) -> float:
    return sum(one.found for one in scores) / sum(one.written for one in scores)


def _precision(scores: Sequence[Score]) -> float:
    return sum(one.found for one in scores) / sum(one.spotted for one in scores)


def beside_stock(scores: Sequence[Score], stock_scores: Sequence[Score]) -> str:
    """Differences of recall and precision in points, with 95 % intervals of a paired bootstrap over images."""
    pairs = zip(scores, stock_scores, strict=True)
    counts = np.array([[a.found, b.found, a.written, b.written, a.spotted, b.spotted] for a, b in pairs])
    draws = np.random.default_rng(0).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES)
    found, stock_found, written, stock_written, spotted, stock_spotted = (draws @ counts).T
    told = []
    for name, rate, stock_rate in (
        ("recall", (found, written), (stock_found, stock_written)),
        ("precision", (found, spotted), (stock_found, stock_spotted)),
    ):
        # Where all drawn images are without text, as happens among a handful, there is no rate to divide for.
        one, other = (
            np.divide(*counted, out=np.full(RESAMPLES, np.nan), where=counted[1] > 0) for counted in (rate, stock_rate)
        )
        low, middle, high = np.nanquantile(100 * (one - other), (0.025, 0.5, 0.975))
        told.append(f"{name} {middle:+.2f} points [{low:+.2f}, {high:+.2f}]")
    return ", ".join(told)
