"""Claims: a dataset keeps how it was begun, and nothing is made or used under other settings."""

import uuid

import pytest

from pipeline import schema
from pipeline.claims import changed_software, check_part, claim, claimed, input_digest, resolved, same_settings
from pipeline.config import Config
from pipeline.config_file import parse
from pipeline.datasets import Dataset, clusters_of, embeddings_of, settings_of, spotted_of
from pipeline.fingerprint import FingerprintError
from pipeline.run import Run, RunError

INDEX = (schema.INDEX,)


def config(**sections) -> Config:
    return parse({"run": "r", "input": {"shards": "x"}, **sections})


@pytest.fixture(params=["local", "memory"])
def run(request, tmp_path) -> Run:
    return Run(str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run")


def begin(run: Run, dataset: Dataset) -> None:
    with run.part(dataset, "a", INDEX):
        pass


def test_the_first_settings_stay_and_what_differs_is_named(run) -> None:
    dataset = embeddings_of(config())
    fields = {"threshold": 0.75, "weights": {"digest": "abc"}, "size": (1, 2)}
    claim(run, config(), dataset, fields)
    claim(run, config(), dataset, {"size": [1, 2], "weights": {"digest": "abc"}, "threshold": 0.75})
    with pytest.raises(FingerprintError, match=r"weights\.digest = 'abc', now it is 'xyz'; .* another name"):
        claim(run, config(), dataset, {**fields, "weights": {"digest": "xyz"}})
    claim(run, config(), Dataset("embeddings", "other"), {"threshold": 0.8})


def test_a_dataset_without_a_name_is_refused_with_advice_that_fits(run) -> None:
    claim(run, config(), Dataset("samples"), {"caption_key": "caption"})
    with pytest.raises(FingerprintError, match="restore it, or use another run"):
        claim(run, config(), Dataset("samples"), {"caption_key": "alt"})


def test_an_attempt_that_made_nothing_binds_nobody(run) -> None:
    clusters = clusters_of(config())
    claim(run, config(), clusters, {"k": 1000})
    with pytest.raises(FingerprintError):
        claim(run, config(), clusters, {"k": 2})
    claim(run, config(), clusters, {"k": 2}, anew=True)
    run.write_json({"samples": 5}, clusters, "facts.json")
    with pytest.raises(FingerprintError, match="k = 2, now it is 3"):
        claim(run, config(), clusters, {"k": 3}, anew=True)


def test_a_dataset_with_a_part_is_never_claimed_anew(run) -> None:
    dataset = embeddings_of(config())
    claim(run, config(), dataset, {"model": "a"})
    begin(run, dataset)
    with pytest.raises(FingerprintError):
        claim(run, config(), dataset, {"model": "b"}, anew=True)
    assert claimed(run, dataset) == {"model": "a"}


def test_settings_are_compared_without_names_places_and_hardware(run) -> None:
    dataset = embeddings_of(config())
    claim(run, config(), dataset, {"model": "a"})
    assert same_settings(run, config(clip={"device": "cpu", "batch_size": 2}, resources={"attempts": 9}), dataset)
    assert not same_settings(run, config(clip={"pretrained": "other"}), dataset)


def test_with_a_gate_text_is_made_otherwise_wherever_its_file_lies(run) -> None:
    dataset = spotted_of(config())
    before, here, there = config(), config(spotting={"gate": "a.json"}), config(spotting={"gate": "s3://b/a.json"})
    assert "gate" not in settings_of(before, dataset)
    claim(run, here, dataset, {"engine": "e", "gate": {"digest": "d"}})
    assert same_settings(run, there, dataset)
    assert not same_settings(run, before, dataset)
    with pytest.raises(FingerprintError, match="spotted/main was made with gate = True, now it is None"):
        input_digest(run, before, dataset)


def test_with_reduced_decoding_embeddings_are_made_otherwise() -> None:
    dataset = embeddings_of(config())
    whole, reduced = settings_of(config(), dataset), settings_of(config(clip={"reduced_decoding": True}), dataset)
    assert reduced == whole | {"reduced_decoding": True}
    assert "reduced_decoding" not in whole  # nor in the record of a run that was begun before there was such a thing


def test_an_input_of_another_configuration_is_refused(run) -> None:
    dataset = embeddings_of(config())
    with pytest.raises(RunError, match="has no embeddings/main yet"):
        input_digest(run, config(), dataset)
    claim(run, config(), dataset, {"model": "a"})
    assert input_digest(run, config(), dataset)
    with pytest.raises(FingerprintError, match="pretrained = 'openai', now it is 'other'"):
        input_digest(run, config(clip={"pretrained": "other"}), dataset)


def test_auto_becomes_what_the_run_resolved_it_to(run) -> None:
    assert resolved(run, config()).clip.precision == "auto"
    claim(run, config(), embeddings_of(config()), {"precision": "bf16"})
    assert resolved(run, config()).clip.precision == "bf16"
    assert resolved(run, config(clip={"precision": "fp32"})).clip.precision == "fp32"
    assert resolved(run, config()).spotting.precision == "auto"


def test_a_run_begun_with_auto_is_continued_as_it_was_resolved(run) -> None:
    """Claimed by the config as given, used by the config as resolved: the two must not refuse each other."""
    dataset = embeddings_of(config())
    claim(run, config(), dataset, {"precision": "bf16"})
    assert same_settings(run, resolved(run, config()), dataset)
    assert input_digest(run, resolved(run, config()), dataset)
    with pytest.raises(FingerprintError, match="precision = 'bf16', now it is 'fp32'"):
        input_digest(run, resolved(run, config(clip={"precision": "fp32"})), dataset)


def test_imported_embeddings_have_no_precision_and_no_place(run) -> None:
    def imported(folder: str) -> Config:
        return config(clip={"imported": {"format": "datacomp", "folder": folder}})

    dataset = embeddings_of(config())
    claim(run, imported("a"), dataset, {"model": "m"})
    assert resolved(run, imported("a")).clip.precision == "auto"
    assert same_settings(run, imported("b"), dataset)
    with pytest.raises(FingerprintError, match="embeddings/main was made with imported = "):
        input_digest(run, config(), dataset)


def test_a_part_that_was_made_otherwise_than_its_dataset_is_named(run) -> None:
    dataset = embeddings_of(config())
    with run.part(dataset, "a", INDEX) as part:
        part.describe({"fingerprint": "x"})
    check_part(run, dataset, "a", "x")
    with pytest.raises(RunError, match=r"embeddings/main/a\.parquet was made under other settings"):
        check_part(run, dataset, "a", "y")


def test_changed_software_is_named(run, monkeypatch) -> None:
    dataset = embeddings_of(config())
    claim(run, config(), dataset, {})
    assert changed_software(run, dataset) == []
    monkeypatch.setattr("pipeline.claims.software", lambda: {"python": "4.0"})
    assert any(change.startswith("python ") and change.endswith("→ 4.0") for change in changed_software(run, dataset))
