from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline import schema
from pipeline.tables.published import CC12M, LAION_2B, MMC4
from pipeline.tables.table1 import IdentityError, Table1, check_identities, rows, table1
from tests.pipeline.tables.rows import failed, profile

# Columns that Table 1 reads; a profile has them all, and more.
SCHEMA = schema.arrow([schema.SPOT_STATUS, *schema.OVERLAP])


def _row(words: int, shared: int, fuzzy: int, text: bool = True, **changes) -> dict:
    """A profile row of a caption of so many words, of which so many were spotted, exactly and fuzzily."""
    return profile(words, shared, text, **{"fuzzy_cotr": fuzzy / max(words, 1), **changes})


def _failed(words: int) -> dict:
    return failed(words=words, caption_unspaced=True)


def _profiles(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


FOUR = (_row(4, 2, 3), _row(10, 1, 5), _row(6, 0, 3), _row(20, 0, 0, text=False))


def test_macro_and_micro_by_hand():
    table = table1(_profiles(*FOUR))
    assert (table.images, table.measured, table.with_text, table.with_co_emb) == (4, 4, 3, 2)
    assert table.cotr_macro == pytest.approx((0.5 + 0.1) / 4)
    assert table.cotr_macro_in_text == pytest.approx((0.5 + 0.1) / 3)
    assert table.fuzzy_macro == pytest.approx((0.75 + 0.5 + 0.5) / 4)
    assert table.fuzzy_macro_in_text == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    assert table.literal_macro == pytest.approx((0.25 + 0.05) / 4)
    assert table.cotr_micro == pytest.approx(3 / 40)
    assert table.cotr_micro_in_text == pytest.approx(3 / 20)
    assert table.fuzzy_micro == pytest.approx(11 / 40)
    assert table.fuzzy_micro_in_text == pytest.approx(11 / 20)
    assert len(check_identities(table)) == 11


def test_failed_spottings_are_counted_and_in_no_rate():
    sound, all_ = table1(_profiles(*FOUR)), table1(_profiles(*FOUR, _failed(100), _failed(7)))
    assert (all_.images, all_.spot_failed) == (6, 2)
    assert replace(all_, images=4, spot_failed=0, caption_unspaced=0) == sound
    assert all_.caption_unspaced == 2
    check_identities(all_)


def test_captions_without_words_and_unspaced_scripts_are_counted():
    table = table1(_profiles(_row(0, 0, 0), _row(2, 1, 1, caption_unspaced=True), _row(1, 0, 0, text_unspaced=True)))
    assert (table.caption_wordless, table.caption_unspaced, table.text_unspaced) == (1, 1, 1)
    assert table.cotr_macro == pytest.approx(0.5 / 3)
    check_identities(table)


def test_rows_drawn_in_the_published_proportions_give_the_published_shares():
    # LAION-2B in 100,000 images.
    kinds = _profiles(_row(5, 0, 0, text=False), _row(5, 0, 0), _row(5, 2, 3))
    table = table1(kinds.take(np.repeat([0, 1, 2], [45_403, 21_171, 33_426])))
    shown = dict(rows(table))
    assert shown["Share of images with embedded text"] == "54.60%"
    assert shown["Share of images with co-embedded text"] == "33.43%"
    assert shown["Co-embedded among images with text"] == "61.22%"
    assert shown["Share of images without text"] == "45.40%"
    assert shown["Share of images with text, none in the caption"] == "21.17%"


def test_the_published_counts_give_the_published_shares():
    shown = dict(rows(LAION_2B))
    shares = [value for label, value in shown.items() if label.startswith(("Share", "Co-embedded"))]
    assert shares == ["45.40%", "21.17%", "33.43%", "54.60%", "61.22%"]
    assert shown["Images"] == "1,985,284,122"
    assert shown["CoTR, mean of all images"] == "15.42%"
    assert shown["CoTR, words of all images"] == "–"
    assert dict(rows(MMC4))["Share of images with embedded text"] == "50.20%"
    assert dict(rows(CC12M))["Share of images with embedded text"] == "37.07%"  # printed 37.06
    assert dict(rows(CC12M))["Images with co-embedded text"] == "–"


def test_published_rates_of_laion_are_means_of_images_and_the_others_are_not():
    def gap(published) -> float:
        return abs(published.cotr_macro_in_text * published.text_share - published.cotr_macro)

    assert gap(LAION_2B) < 1e-4
    assert gap(MMC4) > 0.01
    assert gap(CC12M) < 0.01  # 5.91 for 6.21: near, and not equal


def test_every_column_is_one_of_the_schema():
    table = table1(schema.arrow(schema.PROFILES).empty_table())
    assert (table.images, table.cotr_macro, table.text_share, table.cotr_micro) == (0, None, None, None)
    shown = dict(rows(table))
    assert shown["Images"] == "0"
    assert shown["CoTR, mean of all images"] == "–"
    check_identities(table)


def test_a_dataset_of_parts_gives_the_table_of_all_rows(tmp_path):
    pq.write_table(_profiles(*FOUR[:1]), tmp_path / "a.parquet")
    pq.write_table(_profiles(*FOUR[1:], _failed(3)), tmp_path / "b.parquet")
    assert table1(ds.dataset(tmp_path)) == table1(_profiles(*FOUR, _failed(3)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": 5}, "images = measured"),
        ({"class_none": 2}, "measured = none"),
        ({"spot_skipped": 2}, "that a gate skipped are among none"),
        ({"with_text": 2}, "images with text ="),
        ({"with_co_emb": 1}, "a CoTR above 0"),
        ({"with_co_emb": 4, "class_co_emb": 4}, "are among those with text"),
        ({"cotr_macro": 0.2}, "CoTR of all = CoTR of images"),
        ({"fuzzy_macro": 0.2}, "fuzzy CoTR of all = fuzzy CoTR"),
        ({"fuzzy_macro": 0.1, "fuzzy_macro_in_text": 0.4 / 3}, "fuzzy CoTR >= CoTR"),
        ({"fuzzy_words": 2}, "words: co-embedded"),
        ({"literal_macro": 1.5}, r"rates are in \[0, 1\]"),
    ],
)
def test_a_doctored_table_is_refused_by_the_broken_identity(changes, sentence):
    table = table1(_profiles(*FOUR))
    with pytest.raises(IdentityError, match=sentence):
        check_identities(replace(table, **changes))


def test_profiles_that_contradict_themselves_are_refused():
    claims_text = _row(4, 0, 0, text=False, cotr=0.5, fuzzy_cotr=0.5)
    with pytest.raises(IdentityError, match="a CoTR above 0 = co_emb"):
        check_identities(table1(_profiles(*FOUR, claims_text)))
    unknown_status = _row(4, 0, 0, text=False, spot_status="lost")
    with pytest.raises(IdentityError, match="images = measured"):
        check_identities(table1(_profiles(*FOUR, unknown_status)))


def test_every_row_has_a_label_of_its_own_and_a_value():
    shown = rows(table1(_profiles(*FOUR)))
    assert len(dict(shown)) == len(shown) == 22
    assert "–" not in dict(shown).values()


def test_the_table_is_frozen():
    table: Table1 = table1(_profiles(*FOUR))
    with pytest.raises(AttributeError):
        table.images = 3  # type: ignore[misc]
