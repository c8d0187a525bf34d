"""The quick benchmarks run; those of whole jobs are for `make bench` on a quiet machine."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import cost, kmeans, profile, rates, scale
from tests.benchmarks.query import measure
from tests.benchmarks.spotting import beside_stock
from tests.pipeline.spotting.truth import Score

ROOT = Path(__file__).resolve().parents[2]


def test_each_gives_its_line() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "--only", "overlap", "--only", "assignment"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600).stdout
    for line in ("plain-Python way", "matrix product"):
        assert line in printed


def test_queries_of_small_and_large_files_agree() -> None:
    assert [figure.what for figure in measure(parts=12, part_rows=20)]


def test_tables_at_scale_are_asked_of_parts_and_of_compacted_files(tmp_path) -> None:
    measured = list(scale.measure(str(tmp_path), parts=3, part_rows=50))
    assert [what for what, _, _ in measured].count("compaction") == 1
    assert len(measured) == 2 + 2 * len(scale.QUESTIONS)
    assert all(seconds > 0 and peak > 0 for _, seconds, peak in measured)
    assert scale.Run(str(tmp_path)).compacted(scale.PROFILES, {"00000", "00001", "00002"})
    again = next(scale.measure(str(tmp_path), parts=3, part_rows=50))
    assert again[0] == "drawing 0 parts"


def test_a_spotter_beside_stock_has_an_interval_over_images() -> None:
    stock = [Score(found=8, written=10, spotted=10)] * 50
    assert beside_stock(stock, stock) == "recall +0.00 points [+0.00, +0.00], precision +0.00 points [+0.00, +0.00]"
    # One word in ten more, in half of the images: five points, and more or less so by which half is drawn.
    better = [Score(found=8 + number % 2, written=10, spotted=10) for number in range(50)]
    name, difference, _, low, high, *_ = beside_stock(better, stock).replace("[", "").replace(",", "").split(" ")
    assert name == "recall"
    assert 0 < float(low) < 5 == float(difference) < float(high.rstrip("]")) < 10


def test_the_profile_gives_a_rate_for_the_cost_model() -> None:
    figures = list(profile.measure(rows=200, k=20))
    assert [figure.rate[0] for figure in figures if figure.rate] == ["profile", "cluster"]
    assert all(stage in cost.STAGES and rate > 0 for stage, rate in (figure.rate for figure in figures if figure.rate))


def test_kmeans_of_both_ways_comes_to_the_same() -> None:
    found = kmeans.measure(points=3_000, k=20, niter=10)
    assert found["ours"].objective == pytest.approx(found["the authors'"].objective, rel=0.03)
    assert all(one.memory > 0 for one in found.values())


def test_rates_are_kept_by_stage_and_make_hours(tmp_path) -> None:
    file = tmp_path / "rates.json"
    assert rates.stored(file) == {}
    rates.record("clip", 5.0, "before", file)
    rates.record(cost.FIXED, 1.5, "a fit", file)
    rates.record("clip", 10.0, "extract", file)
    kept = rates.stored(file)
    assert kept["clip"]["what"] == "extract"
    assert cost.core_hours("clip", kept["clip"], 72_000) == pytest.approx(2.0)
    assert cost.core_hours(cost.FIXED, kept[cost.FIXED], 72_000) == pytest.approx(1.5)
