"""The file of a gate: read as it was written, and refused where it is damaged, hostile or of something else."""

import json

import numpy as np
import pytest

from pipeline.gate import GateError
from pipeline.gate.file import MAX_BYTES, Gate, clip_part, read_gate, scores, spotter_part, to_bytes

MEASURED = {
    "images": 100, "with_text": 50, "missed": 1, "recall": 0.98, "recall_low_95": 0.89, "recall_high_95": 0.9995,
    "word_recall": 0.99, "skipped": 0.4,
}  # fmt: skip
CLIP = {"model": "m", "preprocess": {"size": [224, 224]}}


def gate(**changes) -> Gate:
    values = {
        "clip": CLIP, "spotter": {"engine": "e"}, "wanted_recall": 0.95, "threshold": -1.0, "bias": 0.1,
        "weights": (1.0, -2.0, 1 / 3), "rows": {"training": 300}, "measured": MEASURED,
    }  # fmt: skip
    return Gate.model_validate(values | changes)


@pytest.mark.parametrize("place", ["{tmp}/gate.json", "memory://gates/gate.json"])
def test_what_is_written_is_read(tmp_path, place) -> None:
    import fsspec

    url = place.format(tmp=tmp_path)
    with fsspec.open(url, "wb") as file:
        file.write(to_bytes(gate()))
    assert read_gate(url) == gate()
    assert read_gate(url).weights[2] == 1 / 3


def test_the_fingerprint_tells_gates_apart_and_holds_the_recall() -> None:
    fields = gate().fields()
    assert {name: fields[name] for name in ("recall", "recall_low_95", "word_recall")} == {
        "recall": 0.98, "recall_low_95": 0.89, "word_recall": 0.99,
    }  # fmt: skip
    assert gate(threshold=-1.1).fields()["digest"] != fields["digest"] == gate().fields()["digest"]


def damaged(**changes) -> bytes:
    values = json.loads(to_bytes(gate()))
    for path, value in changes.items():
        *parents, name = path.split("__")
        holder = values
        for parent in parents:
            holder = holder[parent]
        holder[name] = value
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"[]", b"7", b"{}", b"\xff\xfe", b"PAR1", b'{"format": "parrotscope text gate"}',
        b"[" * 1_000_000, b'{"a":' * 500_000, to_bytes(gate())[:-20],
        damaged(format="other"), damaged(version=2), damaged(extra=1), damaged(weights=[]),
        damaged(weights=[0.0, 0.0]), damaged(weights="1,2"), damaged(weights=["1.0"]), damaged(weights=[float("nan")]),
        damaged(weights=[1.0] * 70_000), damaged(bias=float("inf")), damaged(threshold=True), damaged(threshold=None),
        damaged(wanted_recall=1.5), damaged(measured__recall=2.0), damaged(measured__images=0),
        damaged(rows={"a": 1.5}), damaged(clip=[]), damaged(bias=10**400),
        to_bytes(gate()).replace(b"-1.0", b"1e999"),
    ],
)  # fmt: skip
def test_what_is_no_gate_is_one_sentence(tmp_path, data) -> None:
    file = tmp_path / "gate.json"
    file.write_bytes(data)
    with pytest.raises(GateError) as told:
        read_gate(str(file))
    assert str(told.value).startswith(f"spotting.gate: {file} is no gate: ")
    assert len(str(told.value)) < 500


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path) -> None:
    file = tmp_path / "gate.json"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(GateError, match=f"more than {MAX_BYTES >> 20} MB"):
        read_gate(str(file))


@pytest.mark.parametrize("place", ["nowhere.json", ".", "memory://nowhere/gate.json"])
def test_a_file_that_is_not_there(tmp_path, monkeypatch, place) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GateError, match=r"there is no file .*; `parrotscope gate` makes one"):
        read_gate(place)


def test_embeddings_of_another_model_or_dimension_are_refused_by_name() -> None:
    fields = {**CLIP, "preprocess": {"size": (224, 224)}, "stored_as": "float32", "samples": "other"}
    gate().check_embeddings(fields, 3)
    with pytest.raises(GateError, match="weights for 3 dimensions, and embeddings have 512"):
        gate().check_embeddings(fields, 512)
    with pytest.raises(GateError, match="learnt from embeddings of model = 'm', here it is 'other'"):
        gate().check_embeddings({**fields, "model": "other"}, 3)
    with pytest.raises(GateError, match="learnt from text of engine = 'e', here it is 'f'"):
        gate().check_spotter({"engine": "f"})


def test_imported_embeddings_are_known_by_what_made_them() -> None:
    first = {"model": "m", "pretrained": "p", "imported": {"files": "a"}, "dim": 3, "stored_as": "float16"}
    assert clip_part(first) == clip_part({**first, "imported": {"files": "b"}, "samples": "s"})
    assert clip_part(first) != clip_part({**first, "pretrained": "q"})
    assert spotter_part({"engine": "e", "samples": "s", "gate": {}}) == {"engine": "e"}


def test_a_score_does_not_depend_on_length_or_on_the_rows_beside_it() -> None:
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(10_000, 37)).astype(np.float16), rng.normal(size=37)
    every = scores(rows, weights, 0.5)
    alone = [scores(rows[at : at + 1], weights, 0.5)[0] for at in range(0, len(rows), 97)]
    np.testing.assert_array_equal(every[::97], alone)
    np.testing.assert_array_equal(every[3:50], scores(rows[3:50], weights, 0.5))
    np.testing.assert_allclose(scores(4 * rows.astype(np.float32), weights, 0.5), every)
    assert np.isnan(scores(np.zeros((1, 37)), weights, 0.5)).all()
