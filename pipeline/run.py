"""A run on disk, local or on any fsspec URL: datasets, parts, and what makes a part done.

A dataset is a folder of one Parquet part per shard. A part appears under its final name at once or not at
all, and its existence is the only fact that says 'done'. Its footer tells how it was made.
"""

import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import yaml

from pipeline import schema
from pipeline.arrow_files import arrow_file, arrow_filesystem
from pipeline.config import Config
from pipeline.config_file import SOFTWARE, ConfigError, parse, parse_yaml
from pipeline.datasets import CLUSTER_FACTS, COMPACTED, Dataset, compacted_of
from pipeline.fingerprint import software
from pipeline.folder import Folder
from pipeline.parts import FOOTER, ROW_GROUP_ROWS, PartWriter, is_damage
from pipeline.secrets import plain, without_secrets
from pipeline.shard_table import from_table, to_table
from pipeline.shards import Shard
from pipeline.storage import etag_of


class RunError(RuntimeError):
    """The run on disk does not fit what was asked; the message says why in a sentence."""


class Run(Folder):
    """Paths, parts and facts of one run.

    Args:
        url: folder of the run, local or any fsspec URL.
    """

    def part_path(self, dataset: Dataset, shard: str) -> str:
        return self.path(dataset, f"{shard}.parquet")

    def done(self, dataset: Dataset) -> set[str]:
        """Ids of the shards that have a part: one listing."""
        return self._stems(dataset, ".parquet")

    def stamps(self, dataset: Dataset) -> dict[str, str]:
        """Id of each shard that has a part to what tells that part from another one: one listing."""
        return {
            stem: f"{info['size']} {etag_of(info)}"
            for info in self._list(dataset, detail=True)
            if (stem := _stem(info["name"], ".parquet"))
        }

    def failed(self) -> set[str]:
        """Ids of the shards set aside by their last job: one listing."""
        return self._stems("errors", ".json")

    def _stems(self, folder: object, suffix: str) -> set[str]:
        return {stem for name in self._list(folder, detail=False) if (stem := _stem(name, suffix))}

    def _list(self, folder: object, detail: bool) -> list[Any]:
        path = self.path(folder)
        self.fs.invalidate_cache(path)
        try:
            return list(self.fs.ls(path, detail=detail))
        except FileNotFoundError:
            return []

    @contextmanager
    def part(self, dataset: Dataset, shard: str, columns: Sequence[schema.Column]) -> Iterator["PartWriter"]:
        """Write a part batch by batch; it appears when the block ends without an exception."""
        with self.committed(self.part_path(dataset, shard)) as spool:
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
        with self._readable(dataset, shard) as file:
            return pq.ParquetFile(file, page_checksum_verification=True).read(columns)

    def read_batches(
        self, dataset: Dataset, shard: str, columns: Sequence[str] | None = None, rows: int = ROW_GROUP_ROWS
    ) -> Iterator[pa.Table]:
        """One part as tables of `rows` rows, the last one shorter; memory is bounded by a row group.

        Raises:
            RunError: as `read_part`.
        """
        with self._readable(dataset, shard) as file:
            waiting: list[pa.RecordBatch] = []
            for batch in pq.ParquetFile(file, page_checksum_verification=True).iter_batches(rows, columns=columns):
                waiting.append(batch)
                table = pa.Table.from_batches(waiting)
                if table.num_rows >= rows:
                    yield table.slice(0, rows)
                    waiting = table.slice(rows).to_batches()
            if waiting:
                yield pa.Table.from_batches(waiting)

    @contextmanager
    def _readable(self, dataset: Dataset, shard: str) -> Iterator[pa.NativeFile]:
        """An open part; what Arrow cannot read in it becomes a RunError, what storage cannot give stays OSError."""
        path = self.part_path(dataset, shard)
        with arrow_file(self.fs, path) as file:
            try:
                yield file
            except (pa.ArrowInvalid, OSError) as error:
                if not is_damage(error):
                    raise
                message = " ".join(str(error).split())
                raise RunError(f"{path} is damaged ({message}); remove it and run the same command again.") from None

    def footer(self, dataset: Dataset, shard: str) -> dict[str, Any]:
        """What the part's footer says of how it was made."""
        with self._readable(dataset, shard) as file:
            metadata = pq.read_metadata(file).metadata or {}
        return json.loads(metadata.get(FOOTER, b"{}"))  # type: ignore[no-any-return]

    def part_schema(self, dataset: Dataset, shard: str) -> pa.Schema:
        with self._readable(dataset, shard) as file:
            return pq.read_schema(file)

    def is_empty(self, dataset: Dataset) -> bool:
        """Whether a dataset holds nothing yet: no part, and for clusters no facts of a fit."""
        return not self.done(dataset) and self.read_json(dataset, CLUSTER_FACTS) is None

    def dataset(self, dataset: Dataset) -> pa.dataset.Dataset:
        """The rows of all parts of a dataset as one lazily read Arrow dataset, in no order to rely on.

        They are read from the compacted files that hold them, where there are any, and else from the parts.
        """
        done = self.done(dataset)
        if not done:
            raise RunError(f"{self.url} has no {dataset} yet.")
        compacted = self.compacted(dataset, done)
        rest = done.difference(*compacted.values())
        paths = [*compacted, *(self.part_path(dataset, shard) for shard in sorted(rest))]
        # The parts' own types: compacted vectors may be wider.
        types = self.part_schema(dataset, min(done))
        options = pa.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
        parquet = pa.dataset.ParquetFileFormat(default_fragment_scan_options=options)
        return pa.dataset.dataset(paths, types, parquet, filesystem=arrow_filesystem(self.fs))

    def compacted(self, dataset: Dataset, done: set[str]) -> dict[str, list[str]]:
        """Paths of the compacted files that stand for parts of `done`, each with the shards it covers.

        A file stands for its parts while all of them are there and have the fingerprint it was made from: what is
        done, the parts alone say.
        """
        folder = compacted_of(dataset)
        record = self.read_json(folder, COMPACTED)
        if not record or not done or record["fingerprint"] != self.footer(dataset, min(done)).get("fingerprint"):
            return {}
        there = self.done(folder)
        return {
            self.part_path(folder, name): shards
            for name, shards in record["files"].items()
            if name in there and done.issuperset(shards)
        }

    # Facts of the whole run

    def exists(self) -> bool:
        return bool(self.fs.exists(self.path("run.yaml")))

    def write_config(self, config: Config, sections: Collection[str]) -> None:
        """Store the configuration as run.yaml; where there is one, only the sections that a job has gone by."""
        values = plain(config.model_dump(mode="json"))
        if self.exists():
            values = self.config().model_dump(mode="json") | {name: values[name] for name in sections}
        text = yaml.safe_dump({**values, SOFTWARE: software()}, sort_keys=False, allow_unicode=True).encode()
        if not self.exists() or self.fs.cat_file(self.path("run.yaml")) != text:
            self.write_bytes(text, "run.yaml")

    def config(self) -> Config:
        """The configuration in run.yaml.

        Raises:
            RunError: there is none: the folder is no run.
        """
        try:
            values = parse_yaml(self.fs.cat_file(self.path("run.yaml")))
            if not isinstance(values, dict):
                raise ConfigError("it holds no sections.")
            return parse(values)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{self.url} is no run: it has no run.yaml.") from None
        except ConfigError as error:
            raise RunError(f"{self.path('run.yaml')} is damaged: {error}") from None

    def shards(self) -> list[Shard]:
        """The shards the run reads, sorted by id; empty before its first job."""
        return [shard for shard in self.collection() if shard.sampled]

    def collection(self) -> list[Shard]:
        """The shards the run knows, those left out by input.sample_shards included, sorted by id."""
        path = self.path("shards.parquet")
        if not self.fs.exists(path):
            return []
        with arrow_file(self.fs, path) as file:
            try:
                return from_table(pq.ParquetFile(file).read())
            except pa.ArrowException as error:
                raise RunError(f"{path} is damaged ({' '.join(str(error).split())}).") from None

    def merged_shards(self, listed: Sequence[Shard]) -> list[Shard]:
        """Listed shards and those the run knows, sorted by id.

        A shard that moved is read where it is listed, and one that the run has begun to read stays in it.

        Raises:
            RunError: a known shard has changed at its source, or would come in again under another id.
        """
        known = {shard.id: shard for shard in self.collection()}
        ids = {shard.url: shard.id for shard in known.values()}
        for shard in listed:
            old = known.get(shard.id, shard)
            if (other := ids.get(without_secrets(shard.url), shard.id)) != shard.id:
                raise RunError(
                    f"{shard.url} is shard {other} of the run and would now be {shard.id}: the shards' "
                    "common root has moved; set input.root to what it was."
                )
            if old.sampled and (old.size, old.etag) != (shard.size, shard.etag):
                raise RunError(
                    f"Shard {shard.id} changed at its source since the run began: {old.url} had size "
                    f"{old.size} and etag {old.etag}, {shard.url} has {shard.size} and {shard.etag}; "
                    "restore it, or profile it in another run."
                )
            known[shard.id] = replace(shard, sampled=shard.sampled or old.sampled)
        return sorted(known.values(), key=lambda shard: shard.id)

    def write_shards(self, shards: Sequence[Shard]) -> None:
        """Store the list of shards beside those that are known, where it differs from what is there.

        Their URLs are kept without what opens them: credentials are the environment's.
        """
        stored = {shard.id: shard for shard in self.collection()}
        merged = stored | {shard.id: replace(shard, url=without_secrets(shard.url)) for shard in shards}
        if merged == stored:
            return
        table = to_table(shard for _, shard in sorted(merged.items()))
        with self.committed(self.path("shards.parquet")) as spool:
            pq.write_table(table, spool, compression="zstd")


def _stem(path: str, suffix: str) -> str | None:
    """The name of a listed file without its suffix, or None where it is no part or record."""
    name = os.path.basename(path)
    # A leading dot or underscore marks what is no part: spools of killed writers, `_dataset.json`.
    return name.removesuffix(suffix) if name.endswith(suffix) and name[0] not in "._" else None
