"""Configuration: presets load, overrides apply, and every mistake is one sentence that names the key."""

import pytest

from pipeline.config import PRESETS, ConfigError, load, parse

MINIMAL = {"run": "runs/x", "input": {"shards": "a/*.tar"}}


def test_minimal_config_has_real_defaults() -> None:
    config = parse(MINIMAL)
    assert config.input.shards == ("a/*.tar",)
    assert (config.clip.model, config.clip.pretrained) == ("ViT-B-32-quickgelu", "openai")
    assert config.spotting.engine == "rapidocr"
    assert config.cluster.k == 4000
    assert config.overlap.threshold == 0.75


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_presets_load_by_name(preset: str) -> None:
    assert load(preset).run


def test_laion2b_follows_the_paper() -> None:
    config = load("laion2b")
    assert (config.cluster.k, config.cluster.pca_dim, config.cluster.seed) == (4000, 256, 42)
    assert (config.clip.model, config.clip.pretrained) == ("ViT-B-32-quickgelu", "openai")


def test_overrides_are_yaml_and_reach_any_depth(tmp_path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("run: r\ninput: {shards: x.tar}\n")
    config = load(file, ["cluster.k=12", "input.shards=[a.tar, b.tar]", "input.limits.max_pixels=100", "run=other"])
    assert config.cluster.k == 12
    assert config.input.shards == ("a.tar", "b.tar")
    assert config.input.limits.max_pixels == 100
    assert config.run == "other"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"clusters": {}}, "clusters: no such key; did you mean 'cluster'?"),
        ({"clip": {"modle": "x"}}, "clip.modle: no such key; did you mean 'model'?"),
        ({"spotting": {"longest_sid": 3}}, "spotting.longest_sid: no such key; did you mean 'longest_side'?"),
        (
            {"input": {"shards": "a", "limits": {"max_pixel": 1}}},
            "input.limits.max_pixel: no such key; did you mean 'max_pixels'?",
        ),
        ({"cluster": {"k": 0}}, "cluster.k: Input should be greater than 0"),
        ({"spotting": {"engine": "tesseracts"}}, "spotting"),
        ({"input": {"shards": []}}, "input.shards: name at least one shard pattern"),
        (
            {"input": {"shards": "a", "metadata": {"Caption": "string"}}},
            "input.metadata: 'Caption' has the name of a column of the profile",
        ),
        (
            {"input": {"shards": "a", "metadata": {"nsfw": "string", "NSFW": "string"}}},
            "'NSFW' has the name of another kept key",
        ),
        ({"input": {"shards": "a", "metadata": {"x": "int"}}}, "x: type 'int' is none of string, int64"),
        ({"overlap": {"threshold": 0.4}}, "overlap.floor must not exceed overlap.threshold"),
        ({"clip": {"name": "../x"}}, "clip.name"),
        ({"run": ""}, "run: "),
    ],
)
def test_a_mistake_is_one_sentence(change, sentence) -> None:
    with pytest.raises(ConfigError) as error:
        parse({**MINIMAL, **change})
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("run: [", "is not YAML"),
        ("- a\n- b", "holds no sections"),
        ("", "holds no sections"),
        ("a: b", "run:"),
    ],
)
def test_files_that_are_no_config(tmp_path, text, sentence) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        load(file)


def test_unknown_file_lists_the_presets() -> None:
    with pytest.raises(ConfigError, match=r"No configuration file 'nope'; presets: .*quickstart"):
        load("nope")


@pytest.mark.parametrize("override", ["cluster.k", "=3", "run.x.y=1", "cluster.k=[", "cluster.=3"])
def test_overrides_that_are_none(override) -> None:
    with pytest.raises(ConfigError):
        load("quickstart", [override])
