"""The quick benchmarks run; those of whole jobs are for `make bench` on a quiet machine."""

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.query import measure

ROOT = Path(__file__).resolve().parents[2]


def test_each_gives_its_line() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "--only", "overlap", "--only", "assignment"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600).stdout
    for line in ("plain-Python way", "matrix product"):
        assert line in printed


def test_queries_of_small_and_large_files_agree() -> None:
    assert [figure.what for figure in measure(parts=12, part_rows=20)]
