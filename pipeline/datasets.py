"""The datasets of a run: which there are, and what a configuration calls them."""

from dataclasses import dataclass

from pipeline.config import Config


@dataclass(frozen=True)
class Dataset:
    """One dataset of a run: its kind and, where there can be several, its name."""

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}" if self.name else self.kind


CLUSTER_FACTS = "facts.json"
"""In a clusters dataset: how they were fitted. It is written last, so with it the clusters are there."""

SAMPLES = Dataset("samples")
REJECTS = Dataset("rejects")


def embeddings_of(config: Config) -> Dataset:
    return Dataset("embeddings", config.clip.name)


def spotted_of(config: Config) -> Dataset:
    return Dataset("spotted", config.spotting.name)


def clusters_of(config: Config) -> Dataset:
    return Dataset("clusters", config.cluster.name)


def profiles_of(config: Config) -> Dataset:
    return Dataset("profiles", config.profile.name)
