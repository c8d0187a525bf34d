"""A run on disk, local or on any fsspec URL: datasets, parts, and what makes a part done.

A dataset is a folder of one Parquet part per shard. A part appears under its final name at once or not at
all, and its existence is the only fact that says 'done'. Its footer tells how it was made.
"""

import glob
import json
import os
import platform
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import fsspec
import psutil
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import yaml

from pipeline import schema
from pipeline.config import Config, parse
from pipeline.datasets import Dataset, embeddings_of, spotted_of
from pipeline.fingerprint import Fields, FingerprintError, difference, digest, software
from pipeline.parts import FOOTER, ROW_GROUP_ROWS, PartWriter
from pipeline.shards import Shard


class RunError(RuntimeError):
    """The run on disk does not fit what was asked; the message says why in a sentence."""


class Run:
    """Paths, parts and facts of one run.

    Args:
        url: folder of the run, local or any fsspec URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.fs, root = fsspec.core.url_to_fs(url)
        self.root = root.rstrip("/")

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        # A relative path means another folder in another process.
        return type(self), (self.fs.unstrip_protocol(self.root),)

    def path(self, *parts: object) -> str:
        return "/".join([self.root, *map(str, parts)])

    @property
    def local(self) -> bool:
        return "file" in self.fs.protocol

    # Whole small files

    def read_json(self, *parts: object) -> Any:
        """The content of a small JSON file, or None where there is none."""
        try:
            return json.loads(self.fs.cat_file(self.path(*parts)))
        except FileNotFoundError:
            return None

    def write_bytes(self, data: bytes, *parts: object) -> None:
        """Write a small file under its final name at once."""
        with self._committed(self.path(*parts)) as spool:
            Path(spool).write_bytes(data)

    def write_json(self, value: object, *parts: object) -> None:
        self.write_bytes(json.dumps(value, indent=1, ensure_ascii=False, default=str).encode(), *parts)

    def remove(self, *parts: object) -> None:
        """Remove a file if it is there."""
        try:
            self.fs.rm_file(self.path(*parts))
        except FileNotFoundError:
            return

    @contextmanager
    def _committed(self, final: str) -> Iterator[str]:
        """Yield a local file to fill, then make it appear as `final`: renamed, or put on an object store.

        fsspec's own write handles are avoided: on an exception they close, and so publish half an object.
        """
        if self.local:
            folder = os.path.dirname(final)
            os.makedirs(folder, exist_ok=True)
            # Hidden names are passed over by every Parquet reader; host and process tell `sweep` whose it is.
            spool = os.path.join(folder, f".{platform.node()}-{os.getpid()}-{uuid.uuid4().hex}.tmp")
        else:
            handle, spool = tempfile.mkstemp(suffix=".tmp")
            os.close(handle)
        try:
            yield spool
            if self.local:
                with open(spool, "rb") as written:
                    os.fsync(written.fileno())
                os.replace(spool, final)
            else:
                self.fs.put_file(spool, final)
        finally:
            if os.path.exists(spool):
                os.remove(spool)

    def sweep(self, dataset: Dataset) -> None:
        """Remove what writers killed on this host left in a local dataset's folder."""
        if not self.local:
            return
        for spool in Path(self.path(dataset)).glob(f".{glob.escape(platform.node())}-*.tmp"):
            process = spool.name.removeprefix(f".{platform.node()}-").partition("-")[0]
            if not psutil.pid_exists(int(process)):
                spool.unlink(missing_ok=True)

    # Parts

    def part_path(self, dataset: Dataset, shard: str) -> str:
        return self.path(dataset, f"{shard}.parquet")

    def done(self, dataset: Dataset) -> set[str]:
        """Ids of the shards that have a part: one listing."""
        return self._stems(dataset, ".parquet")

    def failed(self) -> set[str]:
        """Ids of the shards set aside by their last job: one listing."""
        return self._stems("errors", ".json")

    def _stems(self, folder: object, suffix: str) -> set[str]:
        path = self.path(folder)
        self.fs.invalidate_cache(path)
        try:
            names = [os.path.basename(name) for name in self.fs.ls(path, detail=False)]
        except FileNotFoundError:
            return set()
        # A leading dot or underscore marks what is no part: spools of killed writers, `_dataset.json`.
        return {name.removesuffix(suffix) for name in names if name.endswith(suffix) and name[0] not in "._"}

    @contextmanager
    def part(self, dataset: Dataset, shard: str, columns: Sequence[schema.Column]) -> Iterator["PartWriter"]:
        """Write a part batch by batch; it appears when the block ends without an exception."""
        with self._committed(self.part_path(dataset, shard)) as spool:
            writer = PartWriter(spool, columns)
            try:
                yield writer
            finally:
                writer.close()

    def read_part(self, dataset: Dataset, shard: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One part as a table.

        Raises:
            RunError: the file is there and is no readable Parquet.
        """
        path = self.part_path(dataset, shard)
        try:
            with self.fs.open(path, "rb") as file:
                return pq.read_table(file, columns=columns)
        except pa.ArrowInvalid as error:
            raise RunError(f"{path} is damaged ({error}); remove it and run the same command again.") from None

    def read_batches(
        self, dataset: Dataset, shard: str, columns: Sequence[str] | None = None, rows: int = ROW_GROUP_ROWS
    ) -> Iterator[pa.Table]:
        """One part as tables of `rows` rows, the last one shorter; memory is bounded by a row group.

        Raises:
            RunError: as `read_part`.
        """
        path = self.part_path(dataset, shard)
        try:
            with self.fs.open(path, "rb") as file:
                waiting: list[pa.RecordBatch] = []
                for batch in pq.ParquetFile(file).iter_batches(rows, columns=columns):
                    waiting.append(batch)
                    table = pa.Table.from_batches(waiting)
                    if table.num_rows >= rows:
                        yield table.slice(0, rows)
                        waiting = table.slice(rows).to_batches()
                if waiting:
                    yield pa.Table.from_batches(waiting)
        except pa.ArrowInvalid as error:
            raise RunError(f"{path} is damaged ({error}); remove it and run the same command again.") from None

    def footer(self, dataset: Dataset, shard: str) -> dict[str, Any]:
        """What the part's footer says of how it was made."""
        with self.fs.open(self.part_path(dataset, shard), "rb") as file:
            metadata = pq.read_metadata(file).metadata
        return json.loads(metadata[FOOTER])  # type: ignore[no-any-return]

    def part_schema(self, dataset: Dataset, shard: str) -> pa.Schema:
        with self.fs.open(self.part_path(dataset, shard), "rb") as file:
            return pq.read_schema(file)

    def dataset(self, dataset: Dataset) -> pa.dataset.Dataset:
        """All parts of a dataset as one lazily read Arrow dataset, in the order of the shard ids."""
        paths = [self.part_path(dataset, shard) for shard in sorted(self.done(dataset))]
        if not paths:
            raise RunError(f"{self.url} has no {dataset} yet.")
        return pa.dataset.dataset(paths, filesystem=self.fs, format="parquet")

    # Facts of the whole run

    def claim(self, dataset: Dataset, fields: Fields) -> str:
        """Record how a dataset is made, or check that it is still made so; returns the fingerprint.

        Raises:
            FingerprintError: the dataset exists and was made otherwise; the message names the field.
        """
        fields = json.loads(json.dumps(fields))
        stored = self.claimed(dataset)
        if stored is None:
            record = {"fields": fields, "fingerprint": digest(fields), "software": software()}
            self.write_json(record, dataset, "_dataset.json")
        elif field := difference(stored, fields):
            raise FingerprintError(
                f"{self.url}: {dataset} was made with {field[0]} = {field[1]!r}, now it is {field[2]!r}; "
                "restore it, or give the dataset another name."
            )
        return digest(fields)

    def claimed(self, dataset: Dataset) -> Fields | None:
        """The settings and inputs a dataset was made with, or None before its first part."""
        record = self.read_json(dataset, "_dataset.json")
        return None if record is None else record["fields"]

    def changed_software(self, dataset: Dataset) -> list[str]:
        """Packages whose version differs from when the dataset was begun, as 'name old → new'."""
        record = self.read_json(dataset, "_dataset.json") or {"software": {}}
        now = software()
        return [f"{name} {old} → {now.get(name)}" for name, old in record["software"].items() if now.get(name) != old]

    def exists(self) -> bool:
        return bool(self.fs.exists(self.path("run.yaml")))

    def write_config(self, config: Config) -> None:
        """Store the configuration as run.yaml, where it differs from what is there."""
        text = yaml.safe_dump(
            {**config.model_dump(mode="json"), "software": software()}, sort_keys=False, allow_unicode=True
        )
        if not self.exists() or self.fs.cat_file(self.path("run.yaml")) != text.encode():
            self.write_bytes(text.encode(), "run.yaml")

    def resolved(self, config: Config) -> Config:
        """The configuration with `auto` precisions as they were resolved when the datasets were begun."""
        updates = {}
        for section, dataset in (("clip", embeddings_of(config)), ("spotting", spotted_of(config))):
            values = getattr(config, section)
            claimed = self.claimed(dataset)
            if claimed and getattr(values, "precision", None) == "auto":
                updates[section] = values.model_copy(update={"precision": claimed["precision"]})
        return config.model_copy(update=updates)

    def config(self) -> Config:
        """The configuration in run.yaml.

        Raises:
            RunError: there is none: the folder is no run.
        """
        try:
            values = yaml.safe_load(self.fs.cat_file(self.path("run.yaml")))
        except FileNotFoundError:
            raise RunError(f"{self.url} is no run: it has no run.yaml.") from None
        values.pop("software", None)
        return parse(values)

    def shards(self) -> list[Shard]:
        """The shards the run knows, sorted by id; empty before its first job."""
        path = self.path("shards.parquet")
        if not self.fs.exists(path):
            return []
        with self.fs.open(path, "rb") as file:
            rows = pq.read_table(file).to_pylist()
        return [Shard(row["shard"], row["source"], row["size"], row["etag"]) for row in rows]

    def add_shards(self, listed: Sequence[Shard]) -> list[Shard]:
        """Add listed shards to those the run knows; returns all of them, those that are not listed too.

        Raises:
            RunError: a known shard has changed at its source, or would come in again under another id.
        """
        known = {shard.id: shard for shard in self.shards()}
        ids = {shard.url: shard.id for shard in known.values()}
        added = False
        for shard in listed:
            old = known.get(shard.id)
            if ids.get(shard.url, shard.id) != shard.id:
                raise RunError(
                    f"{shard.url} is shard {ids[shard.url]} of the run and would now be {shard.id}: the shards' "
                    "common root has moved; set input.root to what it was."
                )
            if old is None:
                known[shard.id] = shard
                added = True
            elif (old.size, old.etag) != (shard.size, shard.etag):
                raise RunError(
                    f"Shard {shard.id} changed at its source since the run began: {old.url} had size "
                    f"{old.size} and etag {old.etag}, {shard.url} has {shard.size} and {shard.etag}."
                )
        shards = sorted(known.values(), key=lambda shard: shard.id)
        if added:
            table = pa.Table.from_pylist(
                [{"shard": s.id, "source": s.url, "size": s.size, "etag": s.etag} for s in shards],
                schema.arrow(schema.SHARDS),
            )
            with self._committed(self.path("shards.parquet")) as spool:
                pq.write_table(table, spool, compression="zstd")
        return shards
