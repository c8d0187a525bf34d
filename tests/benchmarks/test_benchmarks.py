"""The benchmarks run, on little; what they measure is for `make bench` on a quiet machine."""

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.query import measure

ROOT = Path(__file__).resolve().parents[2]


def test_every_kind_gives_its_lines() -> None:
    kinds = ("throughput", "precision", "overlap", "assignment")
    options = [option for kind in kinds for option in ("--only", kind)]
    command = [sys.executable, "-m", "tests.benchmarks", *options, "--samples", "24"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600).stdout
    for line in ("CLIP alone", "of what both ceilings allow", "of CLIP alone", "plain-Python way", "matrix product"):
        assert line in printed


def test_queries_of_small_and_large_files_agree() -> None:
    assert [figure.what for figure in measure(parts=12, part_rows=20)]
