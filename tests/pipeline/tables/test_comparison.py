import numpy as np
import pyarrow as pa
import pytest

from pipeline.tables.comparison import compare
from pipeline.tables.intervals import INDEPENDENT
from pipeline.tables.published import LAION_2B
from pipeline.tables.sensitivity import SpotterAccuracy
from pipeline.tables.table1 import check_identities, table1
from tests.pipeline.tables.rows import profile, table

UNKNOWN = SpotterAccuracy()


@pytest.fixture(scope="module")
def laion() -> pa.Table:
    """100,000 images in 200 shards, in LAION-2B's proportions of classes and with its mean rates."""
    kinds = table(
        profile(5, 0, text=False),
        profile(5, 0, fuzzy_cotr=0.2),
        profile(5, 0, fuzzy_cotr=0.8),
        profile(10, 5, fuzzy_cotr=0.9),
        profile(5, 2, fuzzy_cotr=0.6),
    ).select(["spot_status", "text_class", "cotr", "fuzzy_cotr", "cotr_literal", "word_similarity",
              "caption_wordless", "caption_unspaced", "text_unspaced"])  # fmt: skip
    rows = np.repeat(np.arange(5), [45_403, 21_134, 37, 20_493, 12_933])
    rows = np.random.default_rng(0).permutation(rows)
    shards = [f"{number:03d}" for number in np.arange(len(rows)) // 500]
    return kinds.take(rows).append_column("shard", pa.array(shards))


def test_rows_in_the_published_proportions_give_the_published_table_intervals_included(laion):
    found = table1(laion)
    check_identities(found)
    result = compare(found, laion, UNKNOWN)
    rates = [row for row in result.table.to_pylist() if row["laion_2b_published"] and row["interval"]]
    assert len(rates) == 9
    for row in rates:
        assert f"{row['this_run']:.2%}" == f"{row['laion_2b_published']:.2%}", row["name"]
        assert row["low_95"] < row["laion_2b_published"] < row["high_95"]
        if row["name"].endswith("_share"):
            share = row["this_run"]
            width = 2 * 1.96 * np.sqrt(share * (1 - share) / 100_000)  # images are independent here
            assert row["high_95"] - row["low_95"] == pytest.approx(width, rel=0.2)
    assert INDEPENDENT not in result.notes


def test_published_columns_are_marked_and_nothing_is_corrected_without_being_asked():
    profiles = table(profile(4, 1), profile(4, 0))
    result = compare(table1(profiles), profiles, UNKNOWN)
    assert [name for name in result.table.column_names if "published" in name] == [
        "laion_2b_published", "mmc4_published", "cc12m_published"]  # fmt: skip
    assert result.shown.column_names == [
        "", "this run", "95 % interval", "LAION-2B (published)", "MMC4 (published)", "CC12M (published)"]  # fmt: skip
    by_name = {row["name"]: row for row in result.table.to_pylist()}
    assert by_name["images"]["laion_2b_published"] == LAION_2B.images
    assert by_name["cotr_micro"]["laion_2b_published"] is None
    assert INDEPENDENT in result.notes


def test_the_corrected_column_is_marked_as_ours():
    profiles = table(*[profile(4, 1)] * 6, *[profile(4, 0, text=False)] * 4)
    result = compare(table1(profiles), profiles, SpotterAccuracy(0.9, 0.8, 0.5))
    values = dict(zip(result.table["name"].to_pylist(), result.table["corrected_ours"].to_pylist(), strict=True))
    assert values["text_share"] == pytest.approx(0.4 / 0.7)
    assert values["cotr_macro"] == pytest.approx(0.3)
    assert values["fuzzy_macro"] is None
    shown = dict(zip(result.shown[""].to_pylist(), result.shown["corrected (ours)"].to_pylist(), strict=True))
    assert shown["Share of images with embedded text"] == "57.14%"
    (row,) = (row for row in result.table.to_pylist() if row["name"] == "text_share")
    assert row["corrected_low_95"] == pytest.approx((row["low_95"] - 0.2) / 0.7)
    assert row["corrected_high_95"] == pytest.approx((row["high_95"] - 0.2) / 0.7)
    shown = dict(zip(result.shown[""].to_pylist(), result.shown["95 % interval (ours)"].to_pylist(), strict=True))
    assert shown["Fuzzy CoTR, mean of all images"] == ""
    assert "sensitivity 0.9, specificity 0.8, word recall 0.5" in result.notes[-1]


def test_every_corrected_value_lies_in_its_interval(laion):
    columns = compare(table1(laion), laion, SpotterAccuracy(0.9, 0.95, 0.8)).table.to_pylist()
    rows = {row["name"]: row for row in columns if row["corrected_ours"] is not None}
    assert set(rows) == {"text_share", "without_text_share", "cotr_macro", "cotr_micro", "cotr_macro_in_text"}
    for row in rows.values():
        assert row["corrected_low_95"] < row["corrected_ours"] < row["corrected_high_95"]
    width = {name: row["corrected_high_95"] - row["corrected_low_95"] for name, row in rows.items()}
    assert width["without_text_share"] == pytest.approx(width["text_share"])


def test_a_spotter_that_tells_nothing_corrects_no_share():
    profiles = table(profile(4, 1))
    result = compare(table1(profiles), profiles, SpotterAccuracy(0.0, 1.0, 0.5))
    values = dict(zip(result.table["name"].to_pylist(), result.table["corrected_ours"].to_pylist(), strict=True))
    assert values["text_share"] is values["cotr_macro_in_text"] is None
    assert values["cotr_macro"] == pytest.approx(0.5)
    assert "sensitivity 0, specificity 1" in result.notes[-2]
    assert "tells nothing" in result.notes[-1]


def test_a_run_without_rows_has_a_table():
    result = compare(table1(table()), table(), UNKNOWN)
    assert set(result.shown["95 % interval"].to_pylist()) == {""}
