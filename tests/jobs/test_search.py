"""What deaths tell of the samples of a shard: which are left out, and when the search ends."""

from jobs.search import MAX_FOUND, MAX_VAIN_DEATHS, Search
from pipeline.crashes import NO_CRASHES, Crashes, Place


def alone(index: int) -> Place:
    return Place("alone", index)


def test_a_sample_that_twice_ended_a_worker_by_itself_is_left_out() -> None:
    search = Search()
    search.begin(64)
    search.died(alone(70), "killed")
    assert (search.first, search.crashes) == (64, NO_CRASHES)
    search.died(alone(71), "killed by chance")
    assert "left out" in search.died(alone(70), "killed")
    assert list(search.crashes.samples) == [70]
    assert search.crashes.samples[70].startswith("killed; ")
    # The batch may hold others.
    assert search.first == 64
    search.end()
    assert (search.first, search.found) == (None, True)


def test_a_batch_that_ends_a_worker_though_no_sample_does_runs_as_single_samples() -> None:
    search = Search()
    search.begin(64)
    search.died(Place("batch", 128), "out of memory")
    assert search.crashes == Crashes({}, frozenset({128}))
    assert (search.first, search.found) == (None, True)


def test_deaths_that_tell_nothing_end_the_search() -> None:
    search = Search()
    search.begin(0)
    for _ in range(MAX_VAIN_DEATHS):
        search.died(None, "killed")
        assert search.first == 0
    assert "given up" in search.died(None, "killed")
    assert (search.first, search.found, search.crashes) == (None, False, NO_CRASHES)


def test_what_was_found_outlasts_the_search_but_is_not_found_again() -> None:
    search = Search()
    search.begin(0)
    search.died(alone(1), "killed")
    search.died(alone(1), "killed")
    search.end()
    search.begin(8)
    assert (search.found, list(search.crashes.samples)) == (False, [1])


def test_too_much_that_is_found_is_hopeless() -> None:
    search = Search()
    for index in range(MAX_FOUND + 1):
        assert not search.hopeless
        search.begin(index)
        search.died(alone(index), "killed")
        search.died(alone(index), "killed")
    assert "more than 8 samples" in search.hopeless
