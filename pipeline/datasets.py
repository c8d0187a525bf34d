"""The datasets of a run: which there are, and what a configuration calls them."""

import re
from dataclasses import dataclass
from typing import Any

from pipeline.config import Config
from pipeline.section import NAME_PATTERN


@dataclass(frozen=True)
class Dataset:
    """One dataset of a run: its kind and, where there can be several, its name."""

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}" if self.name else self.kind


CLUSTER_FACTS = "facts.json"
"""In a clusters dataset: how they were fitted. It is written last, so with it the clusters are there."""

COMPACTED = "_compacted.json"
"""Beside compacted files: which of them are to be read, of which shards, and what they were made from."""

SAMPLES = Dataset("samples")
REJECTS = Dataset("rejects")


def embeddings_of(config: Config) -> Dataset:
    return Dataset("embeddings", config.clip.name)


def import_of(config: Config) -> Dataset:
    """Folder of the index by which embeddings are imported."""
    return Dataset("imports", config.clip.name)


def spotted_of(config: Config) -> Dataset:
    return Dataset("spotted", config.spotting.name)


def clusters_of(config: Config) -> Dataset:
    return Dataset("clusters", config.cluster.name)


def settings_of(config: Config, dataset: Dataset) -> dict[str, Any]:
    """What a configuration says of how a dataset is made: what names, places or hardware it says is left out."""
    match dataset.kind:
        case SAMPLES.kind:
            return config.input.model_dump(mode="json", exclude={"shards", "root", "sample_shards"})
        case "embeddings":
            exclude: dict[str, Any] = {"name": True, "device": True, "batch_size": True}
            if config.clip.imported:
                exclude |= {"precision": True, "imported": {"folder": True}}
            if not config.clip.reduced_decoding:  # nothing is added, as before there was such a thing
                exclude["reduced_decoding"] = True
            return config.clip.model_dump(mode="json", exclude=exclude)
        case "spotted":
            exclude = dict.fromkeys(("name", "gate", "model_directory", "download", "batch_pixels", "time_limit"), True)
            # What the gate is, its file says; without one nothing is added either.
            gate = {"gate": True} if config.spotting.gate else {}
            return config.spotting.model_dump(mode="json", exclude=exclude) | gate
        case "clusters" if config.cluster.imported:
            return {"imported": config.cluster.imported.model_dump(mode="json", exclude={"centroids", "pca"})}
        case "clusters":
            return config.cluster.model_dump(mode="json", exclude={"name"})
        case "profiles":
            return config.overlap.model_dump(mode="json")
    raise ValueError(f"no dataset of kind {dataset.kind!r} is made by a configuration")


def profiles_named(name: str) -> Dataset:
    """The profiles of a name that a user gave; ValueError where none can have it."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"{name!r} is no name of profiles: letters, digits, dots, dashes and underscores make one.")
    return Dataset("profiles", name)


def profiles_of(config: Config) -> Dataset:
    return Dataset("profiles", config.profile.name)


def compacted_of(dataset: Dataset) -> Dataset:
    """Where the compacted files of a dataset lie, as a dataset whose 'shards' are files."""
    return Dataset(f"compacted/{dataset.kind}", dataset.name)
