"""Fixtures shared by the tests: one local Ray for all of them, and where the real data lies."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.session import LOCAL_ENVIRONMENT, session
from pipeline.config import ResourcesConfig

# Ray reads it when it is first imported, whichever test does that. Its workers are nice by default: the tests beside
# them would starve them.
os.environ.update(LOCAL_ENVIRONMENT, RAY_worker_niceness="0")

# A shell lets what it starts in the background ignore Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    with session(ResourcesConfig()):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real shards and OCR truth are not beside the checkout ({SHARED_DATA})")
    return SHARED_DATA
