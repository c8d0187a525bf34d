import pytest

from pipeline.tables.intervals import intervals
from pipeline.tables.sensitivity import SpotterAccuracy, corrected, rogan_gladen
from tests.pipeline.tables.rows import profile, table


def rates(*profiles: dict, specificity: float = 1.0) -> dict[str, float | None]:
    rows = intervals(table(*profiles), 1 - specificity).to_pylist()
    return {row["rate"]: row["value"] for row in rows}


@pytest.mark.parametrize(
    ("share", "sensitivity", "specificity", "expected"),
    [
        (0.3, 0.9, 0.8, 0.1 / 0.7),  # Rogan & Gladen's formula by hand
        (0.546, 0.95, 0.98, 0.526 / 0.93),
        (0.4, 1, 1, 0.4),
        (0.1, 0.9, 0.8, 0),  # fewer than false alarms alone would give
        (0.95, 0.9, 0.8, 1),
        (0.5, 0.5, 0.5, None),
        (0.5, 0.2, 0.3, None),
        (None, 0.9, 0.8, None),
    ],
)
def test_rogan_gladen_by_hand(share, sensitivity, specificity, expected):
    assert rogan_gladen(share, sensitivity, specificity) == (expected if expected is None else pytest.approx(expected))


def test_a_known_spotter_is_undone():
    """1,000 images, 600 with text; the spotter finds text in 540 of those and in 40 of the others."""
    found = rates(*[profile(4, 1)] * 580, *[profile(4, 0, text=False)] * 420)
    assert corrected(found, SpotterAccuracy(0.9, 0.9))["text_share"] == pytest.approx(0.6)
    assert corrected(found, SpotterAccuracy(0.9, 0.9))["without_text_share"] == pytest.approx(0.4)


def test_rates_are_divided_by_word_recall_and_stay_rates():
    found = rates(profile(4, 3), profile(4, 0), profile(4, 0, text=False))
    recall = SpotterAccuracy(word_recall=0.5)
    assert corrected(found, recall) == {"cotr_macro": pytest.approx(0.5), "cotr_micro": pytest.approx(0.5)}
    assert corrected(found, SpotterAccuracy(word_recall=0.1))["cotr_macro"] == 1
    assert corrected(found, SpotterAccuracy(word_recall=0.0))["cotr_macro"] is None


@pytest.mark.parametrize(("specificity", "share"), [(0.95, (2 / 3 - 0.05) / 0.85), (0.2, 0), (1.0, 2 / 3 / 0.9)])
def test_the_identity_of_table_1_holds_for_corrected_values(specificity, share):
    found = rates(profile(4, 1), profile(4, 0), profile(4, 0, text=False), specificity=specificity)
    ours = corrected(found, SpotterAccuracy(0.9, specificity, 0.8))
    assert ours["text_share"] == pytest.approx(share)
    assert ours["cotr_macro"] == pytest.approx(1 / 12 / 0.8)
    if share:
        assert ours["cotr_macro"] == pytest.approx(ours["cotr_macro_in_text"] * ours["text_share"])
    else:
        assert ours["cotr_macro_in_text"] is None


def test_the_identity_holds_where_a_corrected_share_is_cut_to_one():
    found = rates(profile(4, 1), profile(4, 0), profile(4, 0))
    ours = corrected(found, SpotterAccuracy(0.5, 1.0, 0.8))
    assert ours["text_share"] == 1
    assert ours["cotr_macro_in_text"] == pytest.approx(ours["cotr_macro"])


def test_nothing_known_corrects_nothing():
    assert not SpotterAccuracy().known
    assert corrected(rates(profile()), SpotterAccuracy()) == {}
    assert corrected(rates(), SpotterAccuracy(0.9, 0.9, 0.9))["cotr_macro"] is None


@pytest.mark.parametrize(
    "values", [{"sensitivity": 0.9}, {"specificity": 0.9}, {"word_recall": 1.1}, {"word_recall": float("nan")}]
)
def test_impossible_values_are_refused(values):
    with pytest.raises(ValueError, match=r"sensitivity|word recall"):
        SpotterAccuracy(**values)
