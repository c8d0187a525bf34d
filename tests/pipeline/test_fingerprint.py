"""Fingerprints depend on the fields alone, and a difference is found by name."""

from pipeline.fingerprint import difference, digest, software


def test_order_of_fields_does_not_matter() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})


def test_any_value_changes_the_digest() -> None:
    assert digest({"threshold": 0.75}) != digest({"threshold": 0.8})
    assert digest({"name": "é"}) != digest({"name": "e"})


def test_difference_names_the_nested_field() -> None:
    assert difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == ("a.c", 2, 3)
    assert difference({"a": 1}, {"a": 1, "new": 5}) == ("new", None, 5)
    assert difference({"a": [1, 2]}, {"a": [1, 2]}) is None


def test_software_has_versions_of_what_decides_results() -> None:
    assert {"python", "torch", "open_clip_torch", "rapidocr", "faiss-cpu"} <= set(software())
