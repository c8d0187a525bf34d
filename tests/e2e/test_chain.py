"""The whole chain on a real local Ray, with the spotter replaced by the truth: every value is exact."""

import json
import tarfile
from collections import Counter
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import schema
from pipeline.clip_model import resolve_precision
from pipeline.datasets import REJECTS, SAMPLES, Dataset
from pipeline.tables.table1 import check_identities, table1
from tests.e2e.command import parrotscope

PROFILES = Dataset("profiles", "main")
EMBEDDINGS = Dataset("embeddings", "main")


@pytest.fixture(scope="module")
def profiles(chain):
    return chain.run.dataset(PROFILES).to_table().to_pylist()


@pytest.fixture(scope="module")
def truth(chain):
    rows = pq.read_table(chain.demo / "truth.parquet").to_pylist()
    return {(row["file"].removesuffix(".tar"), row["key"]): row for row in rows}


def test_every_sound_sample_is_one_row_and_no_other_is(profiles, truth) -> None:
    assert Counter((row["shard"], row["key"]) for row in profiles) == Counter(truth.keys())
    assert len({row["uid"] for row in profiles}) == len(profiles)


@pytest.mark.parametrize(
    "column",
    [
        "caption",
        "width",
        "height",
        "text_class",
        "cotr",
        "cotr_literal",
        "fuzzy_cotr",
        "co_emb_words",
        "caption_words",
        "caption_wordless",
        "caption_unspaced",
        "text_unspaced",
    ],
)
def test_values_are_those_of_the_truth(profiles, truth, column) -> None:
    for row in profiles:
        expected = truth[row["shard"], row["key"]]
        assert row[column] == pytest.approx(expected[column]), (row["key"], expected["story"])


def test_spotted_words_and_polygons_are_those_drawn(profiles, truth) -> None:
    for row in profiles:
        found = [{"text": w["text"], "polygon": w["polygon"]} for w in row["spotted"]]
        assert found == truth[row["shard"], row["key"]]["words"]
        assert (row["text_area"] > 0) == bool(found)


def test_hostile_samples_are_rejected_for_their_reason(chain) -> None:
    expected = Counter(
        (entry["file"].removesuffix(".tar"), entry["key"], entry["reason"])
        for entry in json.loads((chain.demo / "hostile.json").read_text())
    )
    rejects = chain.run.dataset(REJECTS).to_table().to_pylist()
    assert Counter((row["shard"], row["key"], row["reason"]) for row in rejects) == expected


def test_rows_and_rejects_are_all_sample_groups(chain) -> None:
    """Samples counted by tarfile: a group is a run of members with one key."""
    for shard in chain.run.shards():
        groups, last = 0, None
        suffixes: set[str] = set()
        with tarfile.open(shard.url.removeprefix("file://")) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                if key != last or suffix in suffixes:
                    groups, last, suffixes = groups + 1, key, set()
                suffixes.add(suffix)
        rows = chain.run.read_part(SAMPLES, shard.id, ["index"])["index"].to_pylist()
        rejects = chain.run.read_part(REJECTS, shard.id, ["index"])["index"].to_pylist()
        assert sorted(rows + rejects) == list(range(groups))


def test_table1_equals_the_truth_and_its_identities_hold(chain, truth) -> None:
    table = table1(chain.run.dataset(PROFILES))
    check_identities(table)
    rows = truth.values()
    text = [row for row in rows if row["text_class"] != "none"]
    assert table.images == len(rows)
    assert table.with_text == len(text)
    assert table.with_co_emb == sum(row["text_class"] == "co_emb" for row in rows)
    assert table.cotr_macro == pytest.approx(np.mean([row["cotr"] for row in rows]), abs=1e-6)
    assert table.cotr_macro_in_text == pytest.approx(np.mean([row["cotr"] for row in text]), abs=1e-6)
    assert table.fuzzy_macro == pytest.approx(np.mean([row["fuzzy_cotr"] for row in rows]), abs=1e-6)
    assert table.fuzzy_macro_in_text == pytest.approx(np.mean([row["fuzzy_cotr"] for row in text]), abs=1e-6)


def test_clip_scores_tell_right_from_wrong_captions(chain) -> None:
    """The scores mean something: an image's own caption beats the caption of the next sample."""
    part = chain.run.dataset(EMBEDDINGS).to_table()
    image = np.array(part["image_embedding"].to_pylist(), np.float32)
    text = np.array(part["text_embedding"].to_pylist(), np.float32)
    own = (image * text).sum(1)
    other = (image * np.roll(text, 1, axis=0)).sum(1)
    assert np.mean(own > other) > 0.9
    np.testing.assert_allclose(own, part["clip_score"], atol=2e-3)


def test_clusters_are_used_and_distances_positive(chain, profiles) -> None:
    facts = chain.run.read_json("clusters", "main", "facts.json")
    assert {row["cluster_id"] for row in profiles} == set(range(4))
    assert all(row["cluster_distance"] > 0 for row in profiles)
    assert facts["samples"] == len(profiles)


def test_profiles_have_the_columns_the_schema_names(chain) -> None:
    part = pq.read_schema(chain.run.part_path(PROFILES, chain.run.shards()[0].id))
    names = [column.name for column in schema.PROFILES]
    assert part.names[: len(names)] == names
    assert {"NSFW", "similarity", "SAMPLE_ID", "original_width"} <= set(part.names)
    assert all(part.field(column.name).type == column.type for column in schema.PROFILES)


def test_duckdb_reads_the_profiles(chain) -> None:
    found = duckdb.sql(
        f"select text_class, count(*), avg(clip_score) from '{chain.run.root}/profiles/main/*.parquet' group by 1"  # noqa: S608
    ).fetchall()
    assert {row[0] for row in found} == {"none", "text", "co_emb"}


def test_output_names_device_shards_and_table(chain) -> None:
    assert "extract: 4 shards, 4 to do, the first is " in chain.output
    assert f"CLIP embedded on cpu in {resolve_precision('auto', 'cpu')}" in chain.output
    assert "LAION-2B" in chain.output


def test_status_says_what_is_done_and_rejected(chain) -> None:
    status = parrotscope("status", chain.run.url, folder=chain.config.parent)
    assert "4 shards" in status
    assert "failed shards: 0" in status
    for reason in {entry["reason"] for entry in json.loads((chain.demo / "hostile.json").read_text())}:
        assert f"  {reason}: " in status


def test_again_does_nothing_and_a_changed_setting_is_refused(chain) -> None:
    folder = chain.config.parent
    before = {dataset: chain.run.done(dataset) for dataset in (SAMPLES, EMBEDDINGS, PROFILES)}
    again = parrotscope("profile", str(chain.config), folder=folder)
    assert "extract: 4 shards, 0 to do" in again
    assert before == {dataset: chain.run.done(dataset) for dataset in (SAMPLES, EMBEDDINGS, PROFILES)}
    for change, field in {
        "overlap.threshold=0.9": "overlap.threshold = 0.75, now it is 0.9",
        "cluster.k=5": "k = 4, now it is 5",
        "input.caption_key=alt": "caption_key = 'caption', now it is 'alt'",
    }.items():
        refused = parrotscope("profile", str(chain.config), "--set", change, folder=folder, status=1)
        assert field in refused


def test_a_reprofile_under_another_model_is_refused_and_leaves_no_trace(chain) -> None:
    before = chain.run.config()
    for change, field in {
        "clip.model=ViT-L-14": "embeddings/main was made with model = 'embedded'",
        "spotting.settings.seconds=1": "spotted/main was made with settings.seconds",
        "input.metadata={}": "samples was made with metadata.",
    }.items():
        refused = parrotscope(
            "reprofile", str(chain.config), "--set", change, "--set", "profile.name=wrong",
            folder=chain.config.parent, status=1,
        )  # fmt: skip
        assert field in refused
    assert chain.run.config() == before
    assert chain.run.done(Dataset("profiles", "wrong")) == set()


def test_a_new_threshold_is_a_new_profile_without_spotting_again(chain, profiles) -> None:
    parrotscope(
        "reprofile", str(chain.config), "--set", "overlap.threshold=1", "--set", "profile.name=exact",
        folder=chain.config.parent,
    )  # fmt: skip
    exact = chain.run.dataset(Dataset("profiles", "exact")).to_table()
    assert exact["fuzzy_cotr"].to_pylist() == exact["cotr"].to_pylist()
    assert exact["cotr"].to_pylist() == [row["cotr"] for row in profiles]


def test_an_early_edit_of_a_shard_is_noticed(chain, tmp_path) -> None:
    """A source that changed since the run began is an error that names the shard."""
    shard = chain.run.shards()[0]
    demo = tmp_path / "demo"
    demo.mkdir()
    content = Path(shard.url.removeprefix("file://")).read_bytes()
    (demo / "00000.tar").write_bytes(content)
    text = chain.config.read_text().replace(f"{chain.demo}/*.tar", f"{demo}/*.tar")
    config = tmp_path / "edited.yaml"
    config.write_text(text.replace(str(chain.run.url), str(tmp_path / "run")))
    parrotscope("extract", str(config), "--only", "spot", folder=tmp_path)
    (demo / "00000.tar").write_bytes(content + bytes(512))
    said = parrotscope("extract", str(config), folder=tmp_path, status=1)
    assert "Shard 00000 changed at its source" in said
