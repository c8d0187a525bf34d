"""The quick benchmarks run; those of whole jobs are for `make bench` on a quiet machine."""

import subprocess
import sys
from pathlib import Path

from tests.benchmarks import scale
from tests.benchmarks.query import measure

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
