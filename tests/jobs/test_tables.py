"""The tables job over runs of drawn parts: which files it writes where, and what it refuses."""

import io
import re
from dataclasses import replace
from pathlib import Path

import duckdb
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from jobs.cli import app
from jobs.table_files import MARKDOWN_ROWS, escaped, markdown
from jobs.tables import run_tables
from pipeline.claims import claim
from pipeline.clustering import ClusterModel
from pipeline.clusters import MODEL, cluster_facts, cluster_fields
from pipeline.config_file import parse
from pipeline.datasets import CLUSTER_FACTS, Dataset, clusters_of, embeddings_of, profiles_of
from pipeline.fingerprint import digest
from pipeline.folder import Folder
from pipeline.run import Run, RunError
from pipeline.shards import Shard, list_shards
from pipeline.tables.clusters import cluster_tables
from pipeline.tables.of_run import centroids_to_merge
from pipeline.tables.sensitivity import SpotterAccuracy
from pipeline.tables.sheets import HEADING, MARGIN, MISSING, TILE
from pipeline.tables.table1 import IdentityError
from tests.benchmarks.query import draw_profiles
from tests.pipeline.shard_factory import offsets, sample, tar
from tests.pipeline.tables.rows import COLUMNS, failed, profile
from tests.pipeline.tables.rows import table as table_of
from tests.s3_server import s3_server

TABLES = """table1 clusters clip_score_by_class clip_score_by_cluster_and_class clip_score_histogram figure_3a figure_4a
    figure_4b figure_4c figure_4c_quantiles figure_3b_images figure_16_images caption_1grams caption_2grams
    co_emb_1grams""".split()
FIGURES = ["clip_score", "figure_3a", "figure_4a", "figure_4b", "figure_4c"]
FILES = {f"{name}.{kind}" for name in TABLES for kind in ("csv", "parquet", "md")} | {"index.md"}
FILES |= {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}

SHEET = {"figure_16.png"}
"""Of ROWS: they have one cluster, and not enough text for Figure 3b."""

ROWS = [profile(4, 2, caption="Red | <b>fish</b>\n\x1b[31m"), profile(4, 0), profile(4, 0, text=False), failed()]


def write_run(url: str, *rows: dict | pa.Table, columns=COLUMNS, name: str = "main") -> Run:
    """A run of one shard per argument, and one more that is pending."""
    run = Run(url)
    run.write_config(parse({"run": url, "input": {"shards": "x"}, "cluster": {"k": 150}}), ())
    run.write_shards([Shard(str(number), f"{number}.tar", 1, "e") for number in range(len(rows) + 1)])
    for number, shard in enumerate(rows):
        table = shard if isinstance(shard, pa.Table) else table_of({**shard, "shard": str(number)})
        with run.part(Dataset("profiles", name), str(number), columns) as part:
            part.write(table.select([column.name for column in columns]))
            part.describe({"fingerprint": "f", "counts": {"rows": 1}})
    return run


def tables(run: Run, name: str = "main", folder: str | None = None, **settings) -> str:
    """What it says."""
    console = Console(file=io.StringIO(), width=200)
    run_tables(run.url, name, folder, settings.pop("accuracy", SpotterAccuracy()), console, **settings)
    return console.file.getvalue()


def names(folder: str) -> set[str]:
    place = Folder(folder)
    return {path.rpartition("/")[2] for path in place.fs.ls(place.root, detail=False)}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return write_run(str(tmp_path_factory.mktemp("tables") / "run"), *ROWS)


@pytest.fixture(scope="module")
def said(run) -> str:
    return tables(run)


def test_every_table_and_figure_is_written_said_and_linked(run, said) -> None:
    assert names(run.path("tables")) == FILES | SHEET
    index = Folder(run.path("tables")).fs.cat_file(run.path("tables", "index.md")).decode()
    for text in (said, index):
        assert "1 of its 5 shards have no such profiles yet" in text
    assert set(re.findall(r"\]\((\S+)\)", index)) == FILES - {"index.md"} | SHEET
    assert all(file in said for file in FILES)
    assert "Table 1 of" in said
    assert "11 identities hold" in said
    assert "the intervals are too narrow" in said
    assert "LAION-2B" in said
    assert "corrected" not in said
    assert index.count("Made by `pipeline.") == len(TABLES) + len(FIGURES) + len(SHEET)
    assert index.count("```sql") == len(TABLES)


def test_csv_and_parquet_hold_the_same(run, said) -> None:
    for name in TABLES:
        table = pq.read_table(run.path("tables", f"{name}.parquet"))
        nulls = {"strings_can_be_null": True, "quoted_strings_can_be_null": False}
        options = pa.csv.ConvertOptions(column_types=table.schema, **nulls)
        text = pa.csv.read_csv(run.path("tables", f"{name}.csv"), convert_options=options)
        assert text.equals(table.replace_schema_metadata()), name
    grams = pq.read_table(run.path("tables", "caption_1grams.parquet"))["gram"].to_pylist()
    assert {"red", "b", "fish"} <= set(grams)
    texts = [path for path in Path(run.path("tables")).iterdir() if path.suffix in {".md", ".csv", ".svg"}]
    assert all("\x1b" not in path.read_text() for path in texts)


def test_the_sql_of_the_index_runs_as_it_stands(run, said) -> None:
    """Over a view `profiles`; Table 1 alone has parameters, which are called as their values are."""
    index = Folder(run.path("tables")).fs.cat_file(run.path("tables", "index.md")).decode()
    for block in re.findall(r"```sql\n(.*?)```", index, re.DOTALL):
        if "FROM batches" in block:
            continue
        with duckdb.connect(":memory:") as connection:
            connection.register("profiles", run.dataset(Dataset("profiles", "main")))
            connection.execute(re.sub(r"\$(\w+)", r"'\1'", block))


def test_other_profiles_have_a_folder_of_their_own(tmp_path) -> None:
    run = write_run(str(tmp_path / "run"), *ROWS, name="exact")
    tables(run, "exact")
    assert names(run.path("tables", "exact")) == FILES | SHEET


def test_contact_sheets_show_the_images_of_the_shards_and_tell_those_that_are_gone(tmp_path) -> None:
    members = [*sample(200), *sample(100)]
    (tmp_path / "0.tar").write_bytes(tar(members))
    places = [info for name, info in offsets(tar(members)).items() if name.endswith("jpg")]
    there = [
        profile(4, 1, shard="0", index=i, clip_score=i / 10, image_offset=place.offset_data, image_size=place.size)
        | {"width": 8, "height": 6}
        for i, place in enumerate(places)
    ]
    run = write_run(str(tmp_path / "run"), table_of(*there), profile(4, 0, cluster_id=1))
    run.write_shards([*list_shards([str(tmp_path / "0.tar")]), Shard("1", "gone|\x1b[31m.tar", 1, "e")])
    folder = tmp_path / "elsewhere/ü 1"
    said = tables(run, folder=str(folder))
    assert names(str(folder)) == FILES | {"figure_3b.png", "figure_16.png"}
    sheet = Image.open(folder / "figure_16.png")
    red = [sheet.getpixel((MARGIN + TILE // 2, HEADING + row * (MARGIN + TILE) + TILE // 2))[0] for row in (0, 1)]
    assert red == pytest.approx([100, 200], abs=3)  # the higher score first; reds as `sample` draws them
    assert sheet.getpixel((2 * (MARGIN + TILE) - 9, HEADING + MARGIN + 9)) == MISSING
    told = "1 of 3 images could not be had and are grey, the first because: gone|\\x1b[31m.tar is not there any more"
    assert said.count(told) == 2
    assert escaped(told) in (folder / "index.md").read_text()


def test_contact_sheets_may_be_left_out(tmp_path) -> None:
    run = write_run(str(tmp_path / "run"), *ROWS)
    result = CliRunner().invoke(app, ["tables", run.url, "--no-sheets"])
    assert result.exit_code == 0
    assert names(run.path("tables")) == FILES


def test_a_run_of_failures_and_one_of_nothing_have_tables(tmp_path) -> None:
    nothing = {"cluster_id": None, "cluster_distance": None, "clip_score": None}
    for url, rows in {"memory://tables/failed": failed(**nothing), str(tmp_path / "none"): table_of()}.items():
        run = write_run(url, rows)
        tables(run)
        assert names(f"{url}/tables") == FILES


def test_contradicting_profiles_leave_no_file(tmp_path) -> None:
    run = write_run(str(tmp_path / "run"), profile(4, 2, text_class="text"))
    with pytest.raises(IdentityError, match="contradicts itself"):
        tables(run)
    assert not (tmp_path / "run/tables").exists()


def test_profiles_of_an_earlier_version_are_refused_with_the_way_out(tmp_path) -> None:
    columns = [column for column in COLUMNS if column.name != "spotted_area"]
    run = write_run(str(tmp_path / "run"), ROWS[0], columns=columns)
    with pytest.raises(RunError, match="before profiles had spotted_area: make new ones by `parrotscope reprofile`"):
        tables(run)


def test_a_run_on_s3_and_a_known_spotter() -> None:
    with s3_server():
        run = write_run("s3://bucket/run", *ROWS)
        said = tables(run, accuracy=SpotterAccuracy(0.9, 0.95, 0.9))
        assert "(ours)" in said
        assert "Files in s3://bucket/run/tables:" in said
        assert names("s3://bucket/run/tables") == FILES | SHEET
        with fsspec.open("s3://bucket/run/tables/figure_3a.png") as file:
            assert Image.open(file).size == (1500, 870)


@pytest.fixture
def clustered(tmp_path) -> tuple[Run, ClusterModel]:
    """A run of 150 clusters, and the model its profiles say they were assigned with."""
    run = write_run(str(tmp_path / "run"), draw_profiles(1, 4_000).set_column(*_ids(4_000)))
    config = run.config()
    centroids = np.random.default_rng(0).normal(size=(150, 2)).astype(np.float32)
    model = ClusterModel(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), centroids, {})
    claim(run, config, embeddings_of(config), {"model": "drawn"})
    run.write_bytes(model.to_bytes(), clusters_of(config), MODEL)
    run.write_json({"digest": "d"}, clusters_of(config), CLUSTER_FACTS)
    made_with = {**cluster_fields(run, config), "digest": cluster_facts(run, config)["digest"]}
    claim(run, config, profiles_of(config), {"clusters": digest(made_with)})
    return run, model


def _ids(rows: int) -> tuple[int, str, pa.Array]:
    place = [column.name for column in COLUMNS].index("cluster_id")
    return place, "cluster_id", pa.array(np.arange(rows) % 150, pa.int32())


def test_clusters_are_merged_by_the_centroids_of_the_run(clustered) -> None:
    run, _ = clustered
    tables(run, most=10)
    groups = pq.read_table(run.path("tables", "figure_3a.parquet"))
    assert groups.num_rows == 100
    assert sum(groups["clusters"].to_pylist()) == 150
    assert b"Ward" in run.fs.cat_file(run.path("tables", "index.md"))
    assert pq.read_table(run.path("tables", "caption_2grams.parquet")).num_rows == 10


def test_other_centroids_than_those_of_the_profiles_are_not_used(clustered) -> None:
    run, model = clustered
    config = run.config()
    run.write_bytes(replace(model, centroids=model.centroids + 1).to_bytes(), clusters_of(config), MODEL)
    run.write_json({"digest": "other"}, clusters_of(config), CLUSTER_FACTS)
    clusters = cluster_tables(run.dataset(profiles_of(config)))
    centroids, reason = centroids_to_merge(run, config, profiles_of(config), clusters)
    assert centroids is None
    assert reason == "profiles/main were made with other clusters than clusters/main."
    run.remove(clusters_of(config), CLUSTER_FACTS)
    assert "has no clusters/main yet" in centroids_to_merge(run, config, profiles_of(config), clusters)[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere has no profiles/main yet."),
        (["nowhere", "--name", "../x"], "'../x' is no name of profiles"),
        (["nowhere", "--sensitivity", "0.9"], "sensitivity and specificity correct only together: give both"),
        (["nowhere", "--word-recall", "93"], "word recall is a share from 0 to 1, not 93.0"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["tables", *arguments])
    assert result.exit_code == 1
    assert sentence in result.output
    assert result.output.count("\n") == 1
    assert CliRunner().invoke(app, ["tables", "x", "--folder", " "]).exit_code == 2


def test_markdown_shows_text_as_text() -> None:
    hostile = pa.table({"a_b": ["<script>|`x`\n*y*", None, "[l](javascript:x)"], "n": [1, 12345, None]})
    assert markdown(hostile) == (
        "| a\\_b | n |\n| --- | --: |\n| \\<script\\>\\|\\`x\\` \\*y\\* | 1 |\n| – | 12345 |\n"
        "| \\[l\\](javascript:x) | – |"
    )
    assert escaped("\x1b[31m\u202e") == "\\\\x1b\\[31m\\\\u202e"
    long = markdown(pa.table({"x": range(MARKDOWN_ROWS + 1)}))
    assert long.count("\n| ") == MARKDOWN_ROWS + 1
    assert long.endswith("The first 100 of 101 rows.")
