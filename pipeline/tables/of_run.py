"""What tables and figures take from a run."""

import pyarrow.dataset as ds

from pipeline import schema
from pipeline.claims import claimed, resolved
from pipeline.clusters import cluster_facts, cluster_fields, load_clusters
from pipeline.config import Config
from pipeline.datasets import Dataset, clusters_of
from pipeline.fingerprint import FingerprintError, digest
from pipeline.run import Run, RunError
from pipeline.spotting.config import CustomConfig
from pipeline.tables.clusters import ClusterTables
from pipeline.tables.merging import GROUPS
from pipeline.vectors import Singles


def whole_profiles(run: Run, dataset: Dataset) -> ds.Dataset:
    """The profiles, with every column of today.

    Raises:
        RunError: there are none, or they lack a column.
    """
    profiles = run.dataset(dataset)
    if missing := [column.name for column in schema.PROFILES if column.name not in profiles.schema.names]:
        raise RunError(
            f"{dataset} of {run.url} were made before profiles had {', '.join(missing)}: make new ones by "
            "`parrotscope reprofile`, with another profile.name."
        )
    return profiles


def centroids_to_merge(
    run: Run, config: Config, profiles: Dataset, clusters: ClusterTables
) -> tuple[Singles | None, str]:
    """The centroids, (k, p), that profiles were assigned with, for Figure 3a.

    None, and a sentence, where they are not to be had; None alone where clusters are so few that none is merged.
    """
    if clusters.clusters.table.num_rows <= GROUPS:
        return None, ""
    try:
        config = resolved(run, config)
        made_with = digest({**cluster_fields(run, config), "digest": cluster_facts(run, config)["digest"]})
        if (claimed(run, profiles) or {}).get("clusters") != made_with:
            return None, f"{profiles} were made with other clusters than {clusters_of(config)}."
        return load_clusters(run, config).centroids, ""
    except (RunError, FingerprintError) as error:
        return None, str(error)


def spotter_name(config: Config) -> str:
    """What spotted the text, for people."""
    settings = config.spotting
    return settings.target if isinstance(settings, CustomConfig) else settings.engine
