"""Which shard in flight is worth a copy."""

import math

import pytest

from jobs.stragglers import MIN_SECONDS, Flight, Pace


@pytest.fixture
def pace() -> Pace:
    """A second a megabyte."""
    pace = Pace()
    for size, seconds in [(100, 100), (50, 49), (200, 230), (10, 10)]:
        pace.add(size * 10**6, seconds)
    return pace


def flight(size: int, position: int, seconds: float) -> Flight:
    return Flight(f"{size}-{position}", size * 10**6, position * 10**6, seconds)


def test_a_shard_on_a_slow_worker_is_copied(pace) -> None:
    slow, slower = flight(100, 40, 400), flight(100, 10, 400)
    assert pace.straggler([flight(100, 90, 95), slow, slower]) is slower
    assert pace.straggler([slow]) is slow
    assert pace.straggler([]) is None


@pytest.mark.parametrize(
    "early",
    [
        flight(100, 40, 150),  # less than twice what its size predicts
        flight(100, 80, 300),  # done before a copy is
        flight(5000, 1000, 1000),  # huge, and on its way
        flight(5, 1, MIN_SECONDS - 1),
    ],
)
def test_what_a_copy_would_not_hasten_is_not_copied(pace, early) -> None:
    assert pace.straggler([early]) is None


def test_a_shard_that_said_nothing_may_take_for_ever(pace) -> None:
    silent = flight(100, 0, 201)
    assert silent.left == math.inf
    assert pace.straggler([silent]) is silent


def test_too_few_shards_predict_nothing() -> None:
    pace = Pace()
    pace.add(100, 1)
    pace.add(0, 1)  # of a source that tells no size
    assert pace.straggler([flight(1, 0, 10_000)]) is None
