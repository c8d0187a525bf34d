"""What is checked before a job's first worker starts: a mistake costs seconds, and leaves nothing behind."""

import os
import shutil
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.claims import claim, claimed
from pipeline.config import Config
from pipeline.datasets import embeddings_of, spotted_of
from pipeline.gate.file import Gate, read_gate, spotter_part
from pipeline.run import Run
from pipeline.schema import IMAGE_EMBEDDING
from pipeline.storage import storage_errors

OUTPUT_SHARE = 0.1
"""Of the bytes of shards: 512-d embeddings take 2 kB of a sample, which takes some 30 kB in a shard."""


class StartupError(RuntimeError):
    """The job could not end well; the message says why in a sentence."""


def check_storage(run: Run) -> None:
    """Write a small file where the run is to be, and remove it.

    Raises:
        StartupError: the storage does not take it.
    """
    try:
        if run.local:
            with tempfile.TemporaryFile(dir=_nearest(run)) as probe:
                probe.write(b"parrotscope")
                probe.flush()
        else:
            name = f".{uuid.uuid4().hex}.tmp"
            with storage_errors(run.url):
                run.write_bytes(b"parrotscope", name)
                run.remove(name)
    except OSError as error:
        raise StartupError(f"run: {run.url} cannot be written to: {error.strerror or error}.") from error


def check_shared(run: Run) -> None:
    """See that every node of the cluster has the folder of a run that lies on a disk.

    Nodes that come later are not asked; what they write elsewhere is noticed when the job ends.

    Raises:
        StartupError: a node has another disk there.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    if not run.local or not others:
        return
    marker, made = run.path(f".{uuid.uuid4().hex}.tmp"), not os.path.exists(run.root)
    os.makedirs(run.root, exist_ok=True)
    try:
        Path(marker).touch()
        seen = ray.remote(num_cpus=0)(os.path.exists)
        asked = [
            seen.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)).remote(marker)
            for node in others
        ]
        blind = [node["NodeManagerHostname"] for node, sees in zip(others, ray.get(asked), strict=True) if not sees]
    finally:
        Path(marker).unlink()
        if made:
            with suppress(OSError):  # another job has begun in it
                os.rmdir(run.root)
    if blind:
        raise StartupError(
            f"run: {run.url} is a folder of this machine alone: {len(blind)} of {len(others)} other nodes do not see "
            f"it, {blind[0]} first; put the run on storage that all nodes reach."
        )


def load_gate(run: Run, config: Config) -> Gate | None:
    """The text gate of a configuration, if there is one, seen to fit what the run holds already.

    A run without embeddings tells nothing of them: a worker whose CLIP is loaded looks before it begins.

    Raises:
        GateError: there is no such file, it is none, or it is of other embeddings or another spotter.
        FingerprintError: the text was spotted without it so far, or through another gate.
    """
    if config.spotting.gate is None:
        return None
    gate, embeddings, spotted = read_gate(config.spotting.gate), embeddings_of(config), spotted_of(config)
    if (made := claimed(run, embeddings)) and (done := run.done(embeddings)):
        column = run.part_schema(embeddings, min(done)).field(IMAGE_EMBEDDING)
        gate.check_embeddings(made, column.type.list_size)
    if (fields := claimed(run, spotted)) and run.done(spotted):
        gate.check_spotter(spotter_part(fields))
        # With nothing left to do, no worker would claim it.
        claim(run, config, spotted, {**fields, "gate": gate.fields()})
    return gate


def low_disk(run: Run, shard_bytes: int) -> str | None:
    """A warning where the disk of a run may be too small for what is made of so many bytes of shards."""
    if not run.local:
        return None
    free, wanted = shutil.disk_usage(_nearest(run)).free, OUTPUT_SHARE * shard_bytes
    if free >= wanted:
        return None
    return (
        f"{free / 1e9:,.1f} GB are free for {run.url}, and {shard_bytes / 1e9:,.1f} GB of shards may give "
        f"{wanted / 1e9:,.1f} GB"
    )


def _nearest(run: Run) -> Path:
    """The folder of a local run, or the one above it that is there: none is made before a worker is ready."""
    return next(folder for folder in (Path(run.root), *Path(run.root).parents) if folder.exists())
