"""A worker's memory does not grow with the samples of a shard, nor a table's with the parts that it counts."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from jobs.session import WORKER_ENVIRONMENT
from pipeline.claims import claim
from pipeline.clusters import load_clusters
from pipeline.config_file import parse
from pipeline.datasets import SAMPLES, spotted_of
from pipeline.extract import Extractor
from pipeline.profile import profile_fields, profile_shard
from pipeline.run import Run
from pipeline.shards import list_shards
from pipeline.tables.table1 import table1
from tests.benchmarks.drawn import draw_clusters, draw_embeddings
from tests.benchmarks.growth import PEAK, draw_shards
from tests.benchmarks.query import PROFILES, draw_parts
from tests.e2e.blank_spotter import BlankSpotter
from tests.e2e.command import BLANK

FEW, MANY = 1_000, 30_000
"""Samples of a shard: less than a row group of its parts, and several."""
FEW_PARTS, MANY_PARTS, PART_ROWS = 10, 300, 1_000


def shard_peaks(folder: str) -> tuple[list[float], list[float]]:
    """Peak memory in MB of one process while it extracts a small and a large shard, and while it profiles them."""
    values = {"run": f"{folder}/run", "input": {"shards": f"{folder}/*/*.tar", "root": folder}, "spotting": BLANK}
    config = parse({**values, "cluster": {"k": 8, "pca_dim": 8}})
    run, shards = Run(config.run), sorted(list_shards(config.input.shards, folder), key=lambda shard: shard.size or 0)
    extractor = Extractor(config, None, BlankSpotter(1, "cpu"))
    extracted, profiled = [], []
    for dataset, fields in extractor.fields().items():
        claim(run, config, dataset, fields)
    for shard in shards:
        _forget_peak()
        extractor.extract(run, shard, (SAMPLES, spotted_of(config)), lambda *_: None)
        extracted.append(_peak())
    draw_embeddings(run, config, 16)
    draw_clusters(run, config, 16)
    fields, clusters = profile_fields(run, config), load_clusters(run, config)
    for shard in shards:
        _forget_peak()
        assert profile_shard(run, shard, config, clusters, fields)["rows"] in (FEW, MANY)
        profiled.append(_peak())
    return extracted, profiled


def _forget_peak() -> None:
    """Importing takes more than working does: the kernel is told to begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    found = PEAK.search(Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1000


def table_peaks(folder: str) -> list[float]:
    """Peak memory in MB of one process that makes Table 1 of few parts, then of many."""
    peaks = []
    for parts in (FEW_PARTS, MANY_PARTS):
        profiles = Run(f"{folder}/{parts}").dataset(PROFILES)
        _forget_peak()
        assert table1(profiles).images == parts * PART_ROWS
        peaks.append(_peak())
    return peaks


def test_workers_peak_memory_is_flat_within_ten_percent(tmp_path, monkeypatch) -> None:
    for name, value in WORKER_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for samples in (FEW, MANY):  # here: drawing takes more memory than reading
        draw_shards(tmp_path / str(samples), samples, samples)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        extracted, profiled = process.submit(shard_peaks, str(tmp_path)).result()
    assert extracted[1] < 1.1 * extracted[0]
    assert profiled[1] < 1.1 * profiled[0]


def test_a_tables_peak_memory_is_flat_within_ten_percent(tmp_path) -> None:
    draw_parts(Run(str(tmp_path / "one")), 1, PART_ROWS)
    (part,) = (tmp_path / "one").rglob("*.parquet")
    for parts in (FEW_PARTS, MANY_PARTS):
        folder = (tmp_path / str(parts) / part.relative_to(tmp_path / "one")).parent
        folder.mkdir(parents=True)
        for number in range(parts):
            (folder / f"{number}.parquet").hardlink_to(part)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        few, many = process.submit(table_peaks, str(tmp_path)).result()
    assert many < 1.1 * few
