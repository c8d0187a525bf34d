"""Configuration: presets load, overrides apply, and every mistake is one sentence that names the key."""

from datetime import date

import pytest

from pipeline.config_file import MAX_SENTENCE, PRESETS, ConfigError, load, parse, shortened

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
        ({"spotting": {"easyocr": {}}}, "spotting.easyocr: no such key"),
        ({"clip": {"imported": {"formt": "datacomp"}}}, "clip.imported.formt: no such key; did you mean 'format'?"),
        ({"clip": {"": 1}}, "clip.'': no such key."),
        (
            {"input": {"shards": "a", "limits": {"max_pixel": 1}}},
            "input.limits.max_pixel: no such key; did you mean 'max_pixels'?",
        ),
        ({"cluster": {"k": 0}}, "cluster.k: Input should be greater than 0"),
        ({"spotting": {"engine": "tesseracts"}}, "spotting: engine should be one of 'rapidocr', "),
        ({"spotting": {"engine": [None]}}, "spotting: engine should be one of 'rapidocr', "),
        ({"spotting": []}, "spotting: should be a section, `key: value`"),
        ({"spotting": {"engine": "easyocr", "languages": {"en": 1}}}, "spotting.languages: should be a list"),
        ({"spotting": {"engine": "easyocr", "languages": []}}, "spotting.languages: should not be empty"),
        ({"clip": 5}, "clip: should be a section, `key: value`"),
        ({"input": {"shards": "a", "metadata": []}}, "input.metadata: should be a section, `key: value`"),
        ({"input": {"shards": []}}, "input.shards: name at least one shard pattern"),
        (
            {"input": {"shards": "a", "metadata": {"Caption": "string"}}},
            "input.metadata: 'Caption' has the name of a column of the profile",
        ),
        (
            {"input": {"shards": "a", "metadata": {"cluster_percentile": "float64"}}},
            "'cluster_percentile' has the name of a column of the profile",
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
        ({"resources": {"autoscale": True}}, "resources: autoscale asks for max_actors: say how many"),
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
        ("run: [", r"config\.yaml: not YAML: expected the node content, but found '<stream end>' \(line 1\)$"),
        ("run: a\0", "config.yaml: not YAML: unacceptable character"),
        ("run: a\n--- b", r"not YAML: but found another document \(line 2\)"),
        ("- a\n- b", "holds no sections"),
        ("", "holds no sections"),
        ("a: b", "a: no such key"),
        ("run: a", "input: Field required"),
        ("run: a\ninput: {shards: x}\nrun: b", r"'run' is given twice in one section \(line 3\)"),
        ("run: a\ninput:\n  shards: x\n  shards: y", r"'shards' is given twice in one section \(line 4\)"),
        ("run: &a x\nclip: *a", r"no anchor and no alias is read: .* \(line 1\)"),
        ("run: *a", r"no anchor and no alias is read: .* \(line 1\)"),
        ("run: !!python/name:os.system", r"no tag is read: .* \(line 1\)"),
        ("run: a\nno: b", r"a key that is no text: quote it \(line 2\)"),
        ("run: a\n[b]: c", r"a key that is no text: quote it \(line 2\)"),
        ("<<: {run: a}", r"a key that is no text: quote it \(line 1\)"),
        ("cluster: {k: .inf}", r"'\.inf' is no finite number \(line 1\)"),
        ("run: 0x_", r"'0x_' is no finite number \(line 1\)"),
        (f"run: {'9' * 5000}", r"'9{40}' is no finite number \(line 1\)"),
        ('run: "\\ud83d\\ude00"', r"or half a surrogate pair in it \(line 1\)"),
        ("[" * 1000, r"nested too deep \(line 1\)"),
    ],
)
def test_files_that_are_no_config(tmp_path, text, sentence) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        load(file)


def test_a_date_is_text(tmp_path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("run: 2024-01-02\ninput: {shards: 2024-99-99}\n")
    config = load(file)
    assert (config.run, config.input.shards) == ("2024-01-02", ("2024-99-99",))


def test_a_sentence_is_bounded_and_one_line() -> None:
    with pytest.raises(ConfigError) as error:
        parse({**MINIMAL, "x\n" * 10_000: 1})
    assert MAX_SENTENCE - 1 <= len(str(error.value)) <= MAX_SENTENCE
    assert str(error.value).endswith(": no such key.")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [7, 8, 100])
def test_what_is_too_long_is_cut_in_the_middle(length: int) -> None:
    assert shortened("a" * length, length) == "a" * length
    cut = shortened("a" + "b" * length + "c", length)
    assert len(cut) <= length
    assert " ... " in cut


def test_a_name_too_long_for_a_file() -> None:
    with pytest.raises(ConfigError, match=r"^No configuration file 'x+ \.\.\. x+': File name too long\.$"):
        load("x" * 5000)


def test_unknown_file_lists_the_presets() -> None:
    with pytest.raises(ConfigError, match=r"No configuration file 'nope'; presets: .*quickstart"):
        load("nope")


@pytest.mark.parametrize(
    "override",
    [
        *("cluster.k", "=3", "run.x.y=1", "cluster.k=[", "cluster.=3", ".clip=3", "clip..model=x", "run=\udcff"),
        *("clip={name: a, name: b}", f"run={'[' * 100}", f"spotting.settings{'.a' * 100}=1", "clip={name: &a b}"),
    ],
)
def test_overrides_that_are_none(override) -> None:
    with pytest.raises(ConfigError):
        load("quickstart", [override])


def test_an_override_with_an_empty_name_is_told_so() -> None:
    with pytest.raises(ConfigError, match=r"--set 'clip\.\.model=x': expected section\.key=value"):
        load("quickstart", ["clip..model=x"])


@pytest.mark.parametrize(
    "pattern", ["*.tar", "*tar", "&tar", "!tar", "@list", "{a,b}.tar", "[ab]*.tar", "{0..9}.tar", "s3://b/{0..9}.tar"]
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
