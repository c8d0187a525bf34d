"""The quickstart with its real parts: embedded CLIP, RapidOCR, real clusters, from an empty folder."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.datasets import Dataset
from pipeline.run import Run
from tests.e2e.command import parrotscope


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def quickstart(folder):
    output = parrotscope("quickstart", folder=folder)
    rows = Run(str(folder / "runs/quickstart")).dataset(Dataset("profiles", "main")).to_table().to_pylist()
    truth = pq.read_table(folder / "demo/truth.parquet").to_pylist()
    known = {(row["file"].removesuffix(".tar"), row["key"]): row for row in truth}
    return output, [(row, known[row["shard"], row["key"]]) for row in rows]


def test_it_prints_the_run_beside_truth_and_paper_and_says_what_is_next(quickstart) -> None:
    output, _ = quickstart
    for text in (
        "this run",
        "truth",
        "LAION-2B",
        "54.60%",
        "runs/quickstart/profiles/main/",
        "parrotscope status",
    ):
        assert text in output


def test_again_it_finds_everything_done(quickstart, folder) -> None:
    again = parrotscope("quickstart", folder=folder)
    assert "extract: 4 shards, 0 to do" in again
    assert "cluster: clusters/main is fitted" in again
    assert "profile: 4 shards, 0 to do" in again


def test_the_spotter_reads_the_demo(quickstart) -> None:
    """Words as multisets, case aside: what the real spotter misses and invents stays small."""
    _, rows = quickstart
    hits = drawn = spotted = 0
    for row, truth in rows:
        found = [word["text"].lower() for word in row["spotted"]]
        drawn += len(truth["words"])
        spotted += len(found)
        for word in truth["words"]:
            if word["text"].lower() in found:
                found.remove(word["text"].lower())
                hits += 1
    assert hits / drawn > 0.95
    assert hits / spotted > 0.9


def test_classes_and_rates_are_near_the_truth(quickstart) -> None:
    _, rows = quickstart
    agree = sum(row["text_class"] == truth["text_class"] for row, truth in rows) / len(rows)
    off = [abs(row["cotr"] - truth["cotr"]) for row, truth in rows]
    assert agree > 0.93
    assert sum(off) / len(off) < 0.04


def test_tables_corrected_by_the_measured_accuracy_tell_the_truth(quickstart, folder) -> None:
    """What the spotter does on the demo is counted against its truth; Table 1, told of it, holds the truth's values."""
    _, rows = quickstart
    (hits, with_text), (quiet, without) = (0, 0), (0, 0)
    read = drawn = 0
    for row, truth in rows:
        found = row["text_class"] != "none"
        if truth["text_class"] == "none":
            quiet, without = quiet + (not found), without + 1
        else:
            hits, with_text = hits + found, with_text + 1
        # Words of the captions that stand in the image: those that a CoTR is made of.
        drawn += len(truth["co_emb_words"])
        read += len(set(truth["co_emb_words"]) & set(row["co_emb_words"]))
    accuracy = {"sensitivity": hits / with_text, "specificity": quiet / without, "word-recall": read / drawn}
    options = [text for name, value in accuracy.items() for text in (f"--{name}", f"{value!r}")]
    parrotscope("tables", "runs/quickstart", "--no-sheets", *options, folder=folder)
    table = pq.read_table(folder / "runs/quickstart/tables/table1.parquet").to_pylist()
    corrected = {row["name"]: row for row in table if row["corrected_ours"] is not None}
    assert corrected["text_share"]["corrected_ours"] == pytest.approx(with_text / len(rows))
    cotr = sum(truth["cotr"] for _, truth in rows) / len(rows)
    assert corrected["cotr_macro"]["corrected_low_95"] < cotr < corrected["cotr_macro"]["corrected_high_95"]
    assert corrected["cotr_macro"]["corrected_ours"] == pytest.approx(cotr, rel=0.02)
    in_text = cotr * len(rows) / with_text
    assert corrected["cotr_macro_in_text"]["corrected_ours"] == pytest.approx(in_text, rel=0.02)


def test_scores_of_drawn_captions_beat_unmentioned_text(quickstart) -> None:
    """The embedded CLIP reads: a caption that quotes the drawn word scores above one that promises another."""
    _, rows = quickstart

    def mean(story: str) -> float:
        scores = [row["clip_score"] for row, truth in rows if truth["story"] == story]
        return sum(scores) / len(scores)

    assert mean("quoted") > mean("promised") + 0.05
