"""What a dataset was made with: recorded when it is begun, checked whenever it is continued or used.

Beside the parts of a dataset lies `_dataset.json`: the fields of its fingerprint, the section of the configuration
it came from, and the versions of software.
"""

import json
from typing import Any

from pipeline.config import Config
from pipeline.datasets import Dataset, embeddings_of, settings_of, spotted_of
from pipeline.fingerprint import Fields, FingerprintError, difference, digest, software
from pipeline.run import Run, RunError

RECORD = "_dataset.json"


def claim(run: Run, config: Config, dataset: Dataset, fields: Fields, anew: bool = False) -> None:
    """Record how a dataset is made, or check that it is still made so.

    Args:
        run: the run.
        config: the configuration the dataset is made by.
        dataset: the dataset.
        fields: what its content depends on.
        anew: the record of a dataset that is still empty may be replaced: a failed attempt binds nobody. Only
            a job's first worker may, or two that differ would both be let in.

    Raises:
        FingerprintError: the dataset was made otherwise; the message names the field.
    """
    fields = json.loads(json.dumps(fields))
    stored = claimed(run, dataset)
    if stored is None or (anew and stored != fields and run.is_empty(dataset)):
        settings = settings_of(config, dataset)
        if "precision" in settings:  # as the worker resolved it, where it says so
            settings["precision"] = fields.get("precision", settings["precision"])
        record = {"fields": fields, "settings": settings, "software": software()}
        run.write_json(record, dataset, RECORD)
        # Another driver may have begun the same dataset in the same moment.
        stored = claimed(run, dataset) or fields
    _refuse(run, dataset, stored, fields)


def claimed(run: Run, dataset: Dataset) -> Fields | None:
    """The fingerprint's fields of a dataset, or None before it is begun."""
    record = run.read_json(dataset, RECORD)
    return None if record is None else record["fields"]


def same_settings(run: Run, config: Config, dataset: Dataset) -> bool:
    """Whether a dataset was begun by this very configuration."""
    record = run.read_json(dataset, RECORD)
    return record is not None and record["settings"] == settings_of(config, dataset)


def input_digest(run: Run, config: Config, dataset: Dataset) -> str:
    """The fingerprint of a dataset that another one is made from.

    Raises:
        RunError: it is not there yet.
        FingerprintError: the configuration would make it otherwise.
    """
    record = run.read_json(dataset, RECORD)
    if record is None:
        raise RunError(f"{run.url} has no {dataset} yet: extract first.")
    _refuse(run, dataset, record["settings"], settings_of(config, dataset))
    return digest(record["fields"])


def check_part(run: Run, dataset: Dataset, shard: str, fingerprint: str | None) -> None:
    """Raise a RunError where a part was not made as its dataset was: two drivers began it in the same moment."""
    if run.footer(dataset, shard).get("fingerprint") != fingerprint:
        path = run.part_path(dataset, shard)
        raise RunError(f"{path} was made under other settings than {dataset}; remove it and make it again.")


def changed_software(run: Run, dataset: Dataset) -> list[str]:
    """Packages whose version differs from when the dataset was begun, as 'name old → new'."""
    then: dict[str, Any] = (run.read_json(dataset, RECORD) or {"software": {}})["software"]
    now = software()
    return [f"{name} {old} → {now.get(name)}" for name, old in then.items() if now.get(name) != old]


def resolved(run: Run, config: Config) -> Config:
    """The configuration with `auto` precisions as they were resolved when the datasets were begun."""
    updates = {}
    for section, dataset in (("clip", embeddings_of(config)), ("spotting", spotted_of(config))):
        values = getattr(config, section)
        fields = claimed(run, dataset)
        if fields and "precision" in fields and getattr(values, "precision", None) == "auto":
            updates[section] = values.model_copy(update={"precision": fields["precision"]})
    return config.model_copy(update=updates)


def _refuse(run: Run, dataset: Dataset, stored: Fields, current: Fields) -> None:
    if field := difference(stored, current):
        name, old, new = field
        other = "give the dataset another name" if dataset.name else "use another run"
        raise FingerprintError(
            f"{run.url}: {dataset} was made with {name} = {old!r}, now it is {new!r}; restore it, or {other}."
        )
