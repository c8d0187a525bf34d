"""Whether a job's memory and its time for a sample stay what they are, however many samples there are.

`python -m tests.benchmarks.growth --samples 1000 --samples 1000000` runs extract and profile as a user does, over real
tars of tiny pictures. The spotter finds nothing, and embeddings and clusters are drawn: what grows is not hidden behind
models. A shard holds `--shard-samples`; shards of one size are one file by many names.
"""

import argparse
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from pipeline.config_file import load
from pipeline.run import Run
from tests.benchmarks.drawn import draw_clusters, draw_embeddings
from tests.benchmarks.figure import Figure
from tests.e2e.command import BLANK, start, write_config
from tests.pipeline.shard_factory import picture, tar

SHARD_SAMPLES = 10_000
DIM = 32
POLL_SECONDS = 0.1
RATE = re.compile(r" samples, ([\d,.]+)/s, 0 rejects, ")
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
WORKERS = ("ray::ExtractActor", "ray::ProfileActor")


@dataclass(frozen=True)
class Measured:
    """One command: samples a second as it told at its end, and the peak memory of its processes in MB."""

    command: str
    samples: int
    shard_samples: int
    rate: float
    driver: float
    worker: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", action="append", type=int, help="may be repeated")
    parser.add_argument("--shard-samples", type=int, default=SHARD_SAMPLES)
    asked = parser.parse_args()
    table = Table("command", "samples", "a shard", "samples/s", "driver, MB", "largest worker, MB")
    for samples in asked.samples or (1_000, 10_000, 100_000):
        with tempfile.TemporaryDirectory() as folder:
            for one in grown(Path(folder), samples, asked.shard_samples):
                told = (f"{one.samples:,}", f"{one.shard_samples:,}", f"{one.rate:,.0f}", f"{one.driver:.0f}")
                table.add_row(one.command, *told, f"{one.worker:.0f}")
                print(one, flush=True)  # the next may take long
    Console(width=None if os.isatty(1) else 120).print(table)


def measure() -> Iterator[Figure]:
    """A hundred times the samples beside as many as make a run at all."""
    with tempfile.TemporaryDirectory() as folder:
        few, many = (list(grown(Path(folder) / str(samples), samples)) for samples in (1_000, 100_000))
    for small, large in zip(few, many, strict=True):
        yield Figure(
            f"{large.command} of {large.samples:,} tiny samples beside {small.samples:,}, no model",
            f"{large.rate:,.0f} samples/s, worker {large.worker:.0f} MB, driver {large.driver:.0f} MB",
            f"{large.worker / small.worker:.2f} times the worker's, {large.driver / small.driver:.2f} the driver's",
        )


def grown(folder: Path, samples: int, shard_samples: int = SHARD_SAMPLES) -> Iterator[Measured]:
    """Extract and profile `samples` samples on one worker; the run is in `folder`."""
    draw_shards(folder / "shards", samples, shard_samples)
    cluster, resources = {"k": 8, "pca_dim": 8}, {"max_actors": 1}
    file = write_config(folder, f"{folder}/shards/*.tar", BLANK, cluster=cluster, resources=resources)
    shape = (samples, min(samples, shard_samples))
    yield Measured("extract", *shape, *watched("extract", str(file), "--only", "spot", folder=folder))
    config = load(str(file))
    run = Run(config.run)
    draw_embeddings(run, config, DIM)
    draw_clusters(run, config, DIM)
    yield Measured("profile", *shape, *watched("reprofile", str(file), folder=folder))


def draw_shards(folder: Path, samples: int, shard_samples: int) -> None:
    """Tars of one tiny picture and caption under different keys."""
    folder.mkdir(parents=True)
    shown = picture()
    first: dict[int, Path] = {}
    for number, begin in enumerate(range(0, samples, shard_samples)):
        count, path = min(shard_samples, samples - begin), folder / f"{number:06d}.tar"
        if count in first:
            path.hardlink_to(first[count])
            continue
        members = (
            (f"{key:09d}.{kind}", data)
            for key in range(count)
            for kind, data in (("jpg", shown), ("txt", b"a tiny picture"))
        )
        path.write_bytes(tar(list(members)))
        first[count] = path


def watched(*command: str, folder: Path) -> tuple[float, float, float]:
    """Run a command: samples a second as it says at its end, peak MB of its process and of its largest worker."""
    process = start(*command, folder=folder)
    with ThreadPoolExecutor(1) as reader:
        output = reader.submit(process.communicate)
        peaks: dict[bool, float] = {False: 0.0, True: 0.0}
        while process.poll() is None:
            for is_worker, peak in _peaks(psutil.Process(process.pid)):
                peaks[is_worker] = max(peaks[is_worker], peak)
            time.sleep(POLL_SECONDS)
        out, error = output.result()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}\n{out}\n{error}")
    rates = [float(rate.replace(",", "")) for rate in RATE.findall(out)]
    return (rates[-1] if rates else math.nan), peaks[False], peaks[True]


def _peaks(driver: psutil.Process) -> Iterator[tuple[bool, float]]:
    """Whether it is a worker, and the MB it once had, of the driver and of each of its workers."""
    with suppress(psutil.Error, OSError):
        for process in (driver, *driver.children(recursive=True)):
            with suppress(psutil.Error, OSError):
                is_worker = process.cmdline()[:1] != [] and process.cmdline()[0].startswith(WORKERS)
                if is_worker or process == driver:
                    # The kernel remembers the peak itself: none is missed between two looks.
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    if peak := PEAK.search(status):
                        yield is_worker, int(peak[1]) / 1000


if __name__ == "__main__":
    main()
