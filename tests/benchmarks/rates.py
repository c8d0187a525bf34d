"""Rates that benchmarks measure and the cost model reads: a small file at the root of the checkout, a stage a line."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "benchmarks.json"


def record(stage: str, per_core: float, what: str, file: Path = FILE) -> None:
    """Keep the rate of a stage, in samples per second of one core, in the place of an older one."""
    entry = {"per_core": per_core, "what": what, "measured": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine()}
    file.write_text(json.dumps(stored(file) | {stage: entry}, indent=1, sort_keys=True) + "\n")


def stored(file: Path = FILE) -> dict[str, dict[str, Any]]:
    """Stage to what was recorded of it last."""
    return json.loads(file.read_text()) if file.exists() else {}


def machine() -> str:
    """The processor, by its own name, and how many cores of it there are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{len(os.sched_getaffinity(0))} cores of {model or platform.machine()}"
