"""The bounds of the fuzzes do bound."""

import time

import numpy as np
import pytest

from tests.fuzz.bounds import bounded


def busy(seconds: float) -> None:
    deadline = time.process_time() + seconds
    while time.process_time() < deadline:
        pass


def test_too_much_time_and_too_much_memory_are_errors() -> None:
    with pytest.raises(TimeoutError), bounded(0.05, 64):
        busy(5)
    with bounded(5, 64):
        np.zeros(16 << 20, np.uint8)
        with pytest.raises(MemoryError):
            np.ones(512 << 20, np.uint8)
    np.zeros(512 << 20, np.uint8)
