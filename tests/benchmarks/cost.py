"""What two billion samples take, by stage: `python -m tests.benchmarks.cost`, from what benchmarks have measured.

Every stage but one costs so much a sample, and shards do not wait for each other: hours are the measured rate times the
samples. k-means sees a million embeddings however large the run is. Nothing is added for idle or lost machines,
for downloads that are slower than the work, or for another processor than the one that was measured.
"""

import argparse
import os
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.rates import stored

STAGES: Mapping[str, str] = {
    "clip": "python -m tests.benchmarks --only throughput",
    "spot": "python -m tests.benchmarks --only throughput",
    "cluster": "python -m tests.benchmarks --only profile",
    "k-means": "python -m tests.benchmarks.kmeans",
    "profile": "python -m tests.benchmarks --only profile",
    "compaction": "python -m tests.benchmarks.scale FOLDER --parts 2000",
    "tables": "python -m tests.benchmarks.scale FOLDER --parts 2000",
}
"""Stage to the command that measures it; `spot` is what it adds to a pass with CLIP, `cluster` draws its sample."""

FIXED = "k-means"
"""Recorded in core-hours, not as a rate."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=2_000_000_000)
    parser.add_argument("--cores", type=int, default=64, help="of one machine")
    asked = parser.parse_args()
    table = Table("stage", "samples/s of a core", "core-hours", f"hours of {asked.cores} cores")
    table.title = f"{asked.samples:,} samples: rates measured, hours extrapolated"
    rates, notes = stored(), []
    for stage, command in STAGES.items():
        if entry := rates.get(stage):
            hours = core_hours(stage, entry, asked.samples)
            rate = "once a run" if stage == FIXED else f"{entry['per_core']:,.1f}"
            table.add_row(stage, rate, f"{hours:,.1f}", f"{hours / asked.cores:,.2f}")
            notes.append(f"{stage}: {entry['what']} ({entry['measured']}, {entry['machine']}; {command})")
        else:
            table.add_row(stage, "–", "not measured", "–")
            notes.append(f"{stage}: {command}")
    console = Console(width=None if os.isatty(1) else 140, markup=False, highlight=False)
    console.print(table, *notes, sep="\n")


def core_hours(stage: str, entry: Mapping[str, Any], samples: int) -> float:
    """Of one core, for so many samples."""
    per_core = float(entry["per_core"])
    return per_core if stage == FIXED else samples / per_core / 3600


if __name__ == "__main__":
    main()
