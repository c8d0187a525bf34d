"""Configuration: presets load, overrides apply, and every mistake is one sentence that names the key."""

from datetime import date

import pytest

from pipeline.config_file import PRESETS, ConfigError, load, parse

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
        ({"overlap": {"threshold": 0.4}}, "overlap: floor must not exceed threshold"),
        ({"clip": {"name": "../x"}}, "clip.name"),
        ({"run": ""}, "run: must not be blank"),
        ({"run": " "}, "run: must not be blank"),
        ({"run": 5}, "run: Input should be a valid string; quote it: '5'"),
        ({"run": date(2024, 1, 2)}, "quote it: '2024-01-02'"),
        ({"input": None}, "input.shards: Field required"),
        ({"input": {"shards": 5}}, "input.shards: should be a pattern or a list of patterns"),
        ({"input": {"shards": None}}, "input.shards: should be a pattern or a list of patterns"),
        ({"input": {"shards": {"a": None}}}, "input.shards: should be a pattern or a list of patterns"),
        ({"input": {"shards": ["a", 1]}}, "input.shards: should be a pattern or a list of patterns"),
        ({"input": {"shards": "a", "caption_key": ""}}, "input.caption_key: must not be blank"),
        ({"cluster": {"k": True}}, "cluster.k: Input should be a valid integer"),
        ({"cluster": {"k": "12"}}, "cluster.k: Input should be a valid integer"),
        ({"cluster": {"k": 10_000_001}}, "cluster.k: Input should be less than or equal to 10000000"),
        ({"cluster": {"sample_size": 10**11}}, "cluster.sample_size: Input should be less"),
        ({"cluster": {"seed": -1}}, "cluster.seed: Input should be greater than or equal to 0"),
        ({"cluster": {"seed": 1 << 32}}, "cluster.seed: Input should be less than 4294967296"),
        ({"overlap": {"threshold": True}}, "overlap.threshold: Input should be a valid number"),
        ({"resources": {"gpus_per_actor": float("inf")}}, "gpus_per_actor: Input should be a finite number"),
        ({"spotting": {"text_score": float("nan")}}, "text_score: Input should be"),
        ({"CLUSTER": {"K": 3}}, "CLUSTER: no such key; did you mean 'cluster'?"),
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
        ("run: a\ninput: {shards: x}\nrun: b", "'run' is given 2 times in the section at line 1"),
        ("run: a\ninput:\n  shards: x\n  shards: y", "'shards' is given 2 times in the section at line 3"),
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


@pytest.mark.parametrize(
    "override", ["cluster.k", "=3", "run.x.y=1", "cluster.k=[", "cluster.=3", ".clip=3", "clip..model=x"]
)
def test_overrides_that_are_none(override) -> None:
    with pytest.raises(ConfigError):
        load("quickstart", [override])


def test_an_override_with_an_empty_name_is_told_so() -> None:
    with pytest.raises(ConfigError, match=r"--set 'clip\.\.model=x': expected section\.key=value"):
        load("quickstart", ["clip..model=x"])


@pytest.mark.parametrize(
    "pattern", ["*.tar", "@list", "{a,b}.tar", "[ab]*.tar", "{00000..00009}.tar", "s3://b/{0..9}.tar"]
)
def test_shard_patterns_need_no_quotes(pattern: str) -> None:
    assert load("quickstart", [f"input.shards={pattern}"]).input.shards == (pattern,)


def test_an_override_may_be_a_mapping() -> None:
    assert load("quickstart", ["overlap={threshold: 0.9, floor: 0.6}"]).overlap.floor == 0.6


def test_a_section_with_nothing_below_has_its_defaults(tmp_path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("run: r\ninput:\n  shards: x.tar\n  limits:\nclip:\nspotting:\noverlap:\n")
    assert load(file) == parse({"run": "r", "input": {"shards": "x.tar"}})
    assert load(file, ["clip.model=embedded"]).clip.model == "embedded"


@pytest.mark.parametrize("address", [None, "", " ", "local"])
def test_every_name_of_the_local_ray_is_the_one_kept_to_loopback(address: str | None) -> None:
    assert parse({**MINIMAL, "resources": {"address": address}}).resources.address is None


def test_files_of_the_model_may_be_in_the_home_folder(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    clip = parse({**MINIMAL, "clip": {"pretrained": "~/a.pt", "model_config_file": "~/a.json"}}).clip
    assert (clip.pretrained, clip.model_config_file) == ("/home/x/a.pt", "/home/x/a.json")
