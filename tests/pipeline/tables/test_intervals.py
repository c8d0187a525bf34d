import numpy as np
import pyarrow as pa
import pytest

from pipeline.tables.intervals import (
    BOOTSTRAP,
    MIN_SHARDS,
    NORMAL,
    RATES,
    SUMS,
    WILSON,
    bootstrap,
    intervals,
    wilson,
)
from pipeline.tables.table1 import ROWS, table1
from tests.pipeline.tables.rows import failed, profile, table

FOUR = (profile(4, 2, fuzzy_cotr=0.75), profile(10, 1), profile(6, 0, fuzzy_cotr=0.5), profile(20, 0, text=False))


def by_rate(profiles: pa.Table) -> dict[str, dict]:
    return {row["rate"]: row for row in intervals(profiles).to_pylist()}


def test_values_are_those_of_table_1_and_lie_within_their_intervals():
    profiles = table(*FOUR, failed(words=9), profile(0, 0))
    expected, found = table1(profiles), by_rate(profiles)
    assert list(found) == list(RATES)
    for name, row in found.items():
        same = "cotr_macro_in_text" if name == "cotr_in_true_text" else name  # without false alarms
        assert row["value"] == pytest.approx(getattr(expected, same)), name
        assert 0 <= row["low"] < row["value"] < row["high"] <= 1, name
    assert {row["method"] for name, row in found.items() if "share" in name} == {WILSON}
    assert {row["method"] for name, row in found.items() if "share" not in name} == {NORMAL}


def test_every_rate_of_table_1_has_an_interval():
    assert set(RATES) - {"cotr_in_true_text"} == {name for _, name, unit in ROWS if unit == "%"}


def test_wilson_as_published():
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    low, high = wilson(np.array([81, 15, 0, 1]), np.array([263, 148, 20, 29]))
    np.testing.assert_allclose(low, [0.2553, 0.0624, 0, 0.0061], atol=5e-5)
    np.testing.assert_allclose(high, [0.3662, 0.1605, 0.1611, 0.1718], atol=5e-5)


def test_mean_rates_of_few_shards_by_hand():
    found = by_rate(table(*FOUR, failed()))["cotr_macro"]
    rates = np.array([0.5, 0.1, 0, 0])
    error = np.sqrt(np.sum((rates - 0.15) ** 2)) / 4
    assert found["high"] == pytest.approx(0.15 + 1.959964 * error)
    assert found["low"] == 0  # cut
    micro = by_rate(table(*FOUR))["cotr_micro_in_text"]
    ratio = 3 / 20
    residuals = np.array([2 - ratio * 4, 1 - ratio * 10, 0 - ratio * 6])
    assert micro["high"] == pytest.approx(ratio + 1.959964 * np.sqrt(np.sum(residuals**2)) / 20)


def test_images_with_text_are_counted_less_the_false_alarms():
    profiles = table(*FOUR, failed())
    rows = {row["rate"]: row for row in intervals(profiles, false_alarms=0.25).to_pylist()}
    # A quarter of 4 images is one of the 3 with text.
    assert rows["cotr_in_true_text"]["value"] == pytest.approx((0.5 + 0.1) / 2)
    error = np.sqrt(np.sum((np.array([0.5, 0.1, 0, 0]) - 0.3 * np.array([0.75, 0.75, 0.75, -0.25])) ** 2)) / 2
    assert rows["cotr_in_true_text"]["high"] == pytest.approx(0.3 + 1.959964 * error)
    assert rows["cotr_macro_in_text"] == by_rate(profiles)["cotr_macro_in_text"]
    nothing = {row["rate"]: row for row in intervals(profiles, false_alarms=0.75).to_pylist()}["cotr_in_true_text"]
    assert nothing["value"] is nothing["low"] is None


def test_nothing_gives_nulls():
    for profiles in (table(), table(failed(), failed(shard="1"))):
        assert all(row["value"] is row["low"] is row["high"] is None for row in intervals(profiles).to_pylist())
    many = table(*(failed(shard=str(number)) for number in range(MIN_SHARDS)))
    assert all(row["low"] is None for row in intervals(many).to_pylist())


def test_twenty_shards_are_drawn_and_nineteen_are_not():
    rows = [profile(4, shared, shard=f"{number:02d}") for number in range(20) for shared in (0, 1, number % 3)]
    rows += [profile(4, 0, text=number % 4 > 0, shard=f"{number:02d}") for number in range(20)]
    assert {row["method"] for row in intervals(table(*rows)).to_pylist()} == {BOOTSTRAP}
    assert BOOTSTRAP not in {
        row["method"] for row in intervals(table(*(row for row in rows if row["shard"] > "00"))).to_pylist()
    }


def test_units_that_are_all_alike_give_no_interval_of_no_width():
    rows = [profile(4, 2, shard=str(number)) for number in range(30)]
    for profiles in (table(*rows), table(*rows[:2])):
        found = by_rate(profiles)
        assert found["text_share"]["method"] == WILSON
        assert found["text_share"]["low"] < 1 == pytest.approx(found["text_share"]["high"])
        assert found["co_emb_share_of_text"]["method"] == WILSON
        assert found["cotr_macro"]["value"] == 0.5
        assert found["cotr_macro"]["low"] is found["cotr_macro"]["high"] is found["cotr_macro"]["method"] is None


def sums(**columns: np.ndarray) -> np.ndarray:
    return np.stack([columns.get(name, np.ones(len(columns["measured"]))) for name in SUMS], axis=1)


def test_a_bootstrap_of_many_shards_is_as_wide_as_the_closed_form():
    generator = np.random.default_rng(1)
    hits = generator.binomial(100, generator.beta(5, 5, 3_000)).astype(float)
    low, high = bootstrap(sums(measured=np.full(3_000, 100.0), with_text=hits))["text_share"]
    expected = 2 * 1.96 * (hits / 100).std() / np.sqrt(3_000)
    assert high - low == pytest.approx(expected, rel=0.06)
    assert (low + high) / 2 == pytest.approx(hits.sum() / 300_000, abs=expected / 20)
    again = bootstrap(sums(measured=np.full(3_000, 100.0), with_text=hits))["text_share"]
    assert again == (low, high)


def test_blocks_of_replicates_give_what_one_block_gives(monkeypatch):
    matrix = np.random.default_rng(2).random((50, len(SUMS))) + 1
    expected = bootstrap(matrix)
    monkeypatch.setattr("pipeline.tables.intervals.BLOCK", 700)
    for name, interval in bootstrap(matrix).items():
        assert interval == pytest.approx(expected[name], rel=1e-12)


@pytest.mark.parametrize("shards", [20, 60])
def test_intervals_cover_the_true_share_where_shards_differ(shards):
    """Shards differ eight times as much as images drawn one by one would make them."""
    generator, covered, rounds = np.random.default_rng(3), 0, 400
    for _ in range(rounds):
        sizes = generator.integers(300, 700, shards).astype(float)
        hits = generator.binomial(sizes.astype(int), generator.beta(3, 3, shards)).astype(float)
        low, high = bootstrap(sums(measured=sizes, with_text=hits), replicates=400)["text_share"]
        covered += low <= 0.5 <= high
    # 95 % of 400 is 380; three standard deviations are 13.
    assert 363 <= covered <= 397
