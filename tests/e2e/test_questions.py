"""The README's ten questions, asked of the demo run as they stand there: each answer is also computed in Python."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import open_run
from pipeline.datasets import REJECTS, Dataset
from tests.e2e.command import parrotscope
from tests.e2e.conftest import Chain

README = Path(__file__).parents[2] / "README.md"
SECTION = README.read_text().partition("\n### Ten questions\n")[2].partition("\n### ")[0]
QUESTIONS = dict(re.findall(r"^\*\*(.+?)\*\*.*?^```sql\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL))

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows(chain: Chain) -> list[Row]:
    found: list[Row] = chain.run.dataset(Dataset("profiles", "main")).to_table().to_pylist()
    return found


@pytest.fixture(scope="module")
def ask(chain: Chain):
    run = open_run(chain.run.url)
    return lambda beginning: run.sql(question(beginning)).arrow().to_pylist()


def question(beginning: str) -> str:
    (query,) = [query for text, query in QUESTIONS.items() if text.startswith(beginning)]
    return query


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def share(rows: list[Row], *classes: str) -> float:
    return mean(row["text_class"] in classes for row in rows)


def test_there_are_ten_and_each_is_answered_on_the_command_line(chain: Chain, tmp_path) -> None:
    assert len(QUESTIONS) == SECTION.count("```sql") == 10
    columns = {
        "Which clusters": "cluster_id images parrots cotr clip_score",
        "Which captions": "caption clip_score url",
        "What has the highest": "caption clip_score url",
        "What would the paper's": "images without_text kept share",
        "Which words": "word times in_caption",
        "What is the largest": "text area caption url",
        "How does the threshold": "threshold fuzzy_cotr",
        "Do the top": "top images parrots cotr",
        "How do the shares": "NSFW images with_text parrots",
        "What was rejected": "reason shard rejects example",
    }
    run = open_run(chain.run.url)
    for beginning, names in columns.items():
        answer = run.sql(question(beginning))
        assert answer.columns == names.split()
        assert answer.arrow().num_rows
    output = parrotscope("query", chain.run.url, question("Which clusters"), folder=tmp_path)
    assert "parrots" in output


def test_clusters_of_parrots(ask, rows) -> None:
    expected = {}
    for cluster in {row["cluster_id"] for row in rows}:
        members = [row for row in rows if row["cluster_id"] == cluster]
        if (parrots := share(members, "co_emb")) > 0.5:
            cotr, score = mean(row["cotr"] for row in members), mean(row["clip_score"] for row in members)
            expected[cluster] = (len(members), parrots, cotr, score)
    found = ask("Which clusters")
    assert {row["cluster_id"] for row in found} == set(expected)
    for row in found:
        values = (row["images"], row["parrots"], row["cotr"], row["clip_score"])
        assert values == pytest.approx(expected[row["cluster_id"]], abs=0.006)
    assert [row["parrots"] for row in found] == sorted((row["parrots"] for row in found), reverse=True)


def test_captions_that_stand_in_full_in_their_image_are_those_of_the_truth(ask, rows, demo) -> None:
    truth = {
        (row["file"].removesuffix(".tar"), row["key"]): row for row in pq.read_table(demo / "truth.parquet").to_pylist()
    }
    full = [row for row in rows if len(row["caption_words"]) > 1 and truth[row["shard"], row["key"]]["cotr"] == 1]
    top = sorted((row["clip_score"] for row in full), reverse=True)[:20]
    found = ask("Which captions")
    assert [row["clip_score"] for row in found] == top
    assert {row["caption"] for row in found} <= {row["caption"] for row in full}


def test_the_highest_score_without_text(ask, rows) -> None:
    scores = sorted((row["clip_score"] for row in rows if not row["spotted"]), reverse=True)
    assert [row["clip_score"] for row in ask("What has the highest")] == scores[:20]


def test_the_papers_filter(ask, rows) -> None:
    without = [row for row in rows if not row["spotted"]]
    kept = sum(row["clip_score"] > 0.3 for row in without)
    (found,) = ask("What would the paper's")
    assert found == {
        "images": len(rows),
        "without_text": len(without),
        "kept": kept,
        "share": pytest.approx(kept / len(rows), abs=1e-4),
    }
    assert 0 < kept < len(without)


def test_the_commonest_words(ask, rows) -> None:
    words = Counter(word["text"].lower() for row in rows for word in row["spotted"])
    found = ask("Which words")
    assert [(row["word"], row["times"]) for row in found] == sorted(words.items(), key=lambda w: (-w[1], w[0]))[:20]
    for row in found:
        repeated = [co_emb for r in rows for word, co_emb in zip(r["spotted"], r["spotted_co_emb"], strict=True)
                    if word["text"].lower() == row["word"]]  # fmt: skip
        assert row["in_caption"] == pytest.approx(mean(repeated), abs=0.006)


def test_the_largest_text_that_is_not_in_the_caption(ask, rows) -> None:
    areas = [
        area
        for row in rows
        for area, co_emb in zip(row["spotted_area"], row["spotted_co_emb"], strict=True)
        if not co_emb
    ]
    found = ask("What is the largest")
    assert [row["area"] for row in found] == pytest.approx(sorted(areas, reverse=True)[:20], abs=6e-4)
    for row in found:
        assert row["text"].lower() not in row["caption"].lower().split()


def test_the_threshold_moves_the_rate_between_the_stored_ones(ask, rows) -> None:
    found = {round(row["threshold"], 2): row["fuzzy_cotr"] for row in ask("How does the threshold")}
    assert found[0.75] == pytest.approx(mean(row["fuzzy_cotr"] for row in rows), abs=1e-6)
    assert found[1] == pytest.approx(mean(row["cotr"] for row in rows), abs=1e-6)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found[0.6] > found[1]


def test_the_top_of_each_cluster(ask, rows) -> None:
    bins = [(row["cluster_id"], np.floor(row["clip_score"] * 1000)) for row in rows]
    top, rest = [], []
    for row, (cluster, score) in zip(rows, bins, strict=True):
        percentile = mean(other <= score for of, other in bins if of == cluster)
        (top if percentile > 0.95 else rest).append(row)
    found = {row["top"]: row for row in ask("Do the top")}
    for is_top, members in ((True, top), (False, rest)):
        assert found[is_top]["images"] == len(members)
        assert found[is_top]["parrots"] == pytest.approx(share(members, "co_emb"), abs=6e-4)
        assert found[is_top]["cotr"] == pytest.approx(mean(row["cotr"] for row in members), abs=6e-4)
    assert len(top) >= 0.05 * len(rows)


def test_shares_by_metadata(ask, rows) -> None:
    expected = {
        value: (len(members), share(members, "text", "co_emb"), share(members, "co_emb"))
        for value in {row["NSFW"] for row in rows}
        for members in [[row for row in rows if row["NSFW"] == value]]
    }
    found = {row["NSFW"]: (row["images"], row["with_text"], row["parrots"]) for row in ask("How do the shares")}
    assert found.keys() == expected.keys()
    for value, values in found.items():
        assert values == pytest.approx(expected[value], abs=6e-4)


def test_rejects_by_reason_and_shard(ask, chain: Chain) -> None:
    rejects = chain.run.dataset(REJECTS).to_table().to_pylist()
    expected = Counter((row["reason"], row["shard"]) for row in rejects)
    found = ask("What was rejected")
    assert {(row["reason"], row["shard"]): row["rejects"] for row in found} == expected
    messages = {row["message"] for row in rejects}
    assert {row["example"] for row in found} <= messages


def test_the_readmes_python_runs(chain: Chain, capsys, monkeypatch) -> None:
    section = README.read_text().partition("\n## Ask the profile\n")[2].partition("\n### ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(chain.config.parent)
    code = code.replace("runs/quickstart", chain.run.url)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - the README's own
    assert list(names["frame"].columns) == ["cluster_id", "cotr"]
    printed = capsys.readouterr().out.splitlines()
    assert len([line for line in printed if line.endswith(", 3)")]) == 5  # the pictures' shapes


def test_every_sample_comes_with_the_picture_its_spotter_saw(chain: Chain, rows) -> None:
    count = 0
    for sample in open_run(chain.run.url).samples(limit=None):
        assert sample.reason is None
        assert sample.image.shape == (sample.row["height"], sample.row["width"], 3)
        count += 1
    assert count == len(rows)
