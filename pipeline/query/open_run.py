"""A run that is opened for questions: SQL over its views, and samples with their images.

The run is read only, and as it was when it was opened; parts written later are in the next opening. A query
reads Arrow datasets, on any storage that fsspec reaches, through the door of `sandbox`. What does not fit into
memory goes into a temporary folder of its own below the system's ($TMPDIR), which only this user can read and
which is removed with the run object: in the working folder, DuckDB's choice, it would be in the way.
"""

import shutil
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from tempfile import mkdtemp
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from pipeline import schema
from pipeline.arrow_files import ForgetfulDataset
from pipeline.datasets import REJECTS, profiles_named
from pipeline.query.answer import Answer
from pipeline.query.sandbox import QueryError, connect, parse, query_errors
from pipeline.query.views import PERCENTILES_SQL, PROFILES_WITH_PERCENTILE_SQL, STORED, VIEWS
from pipeline.run import Run, RunError
from pipeline.shard_table import to_table
from pipeline.stored_images import IMAGES_AT_ONCE, StoredImages, Unavailable

Parameters = Sequence[object] | Mapping[str, object] | None
"""Values of `?` or `$1`, or by name of `$name`."""

KEPT_FILES = 1000
"""A dataset of more files leaves nothing in memory for the next question: these leave a quarter of a gigabyte."""

PERCENTILE = schema.CLUSTER_PERCENTILE.name


@dataclass(frozen=True)
class ProfiledSample:
    """A sample with what was found about it.

    `row`: the stored profile. `image`: uint8 (height, width, 3), RGB, upright; None where it cannot be had, and
    `reason` says why.
    """

    row: Mapping[str, Any]
    image: np.ndarray | None
    reason: str | None = None


class OpenRun:
    """A run, opened for questions (`pipeline.open_run`).

    Args:
        url: folder or fsspec URL of the run.
        profiles: name of the profiles that the views stand on.
        memory_limit: of one query, such as "4GB"; beyond it DuckDB spills to the temporary folder, or fails. None:
            80 % of the memory of the machine or container. On a machine shared with others, name less.

    Raises:
        RunError: there is no run.
        ValueError: no profiles can have that name.
    """

    def __init__(self, url: str, profiles: str = "main", memory_limit: str | None = None) -> None:
        self._profiles = profiles_named(profiles)
        self._run = Run(url)
        self._images = StoredImages(self._run)
        self._memory_limit = memory_limit
        self._spill = mkdtemp(prefix="parrotscope-")
        weakref.finalize(self, shutil.rmtree, self._spill, ignore_errors=True)
        self._datasets: dict[str, ds.Dataset | pa.Table] = {}

    def sql(self, query: str, parameters: Parameters = None) -> Answer:
        """Ask one SELECT statement of the views profiles, words, rejects, shards and clusters.

        Their columns: `parrotscope schema`. A view of which the run has nothing yet is empty; only profiles have
        to be there. `cluster_percentile` is computed for queries that read it (a `*` does): once per opened run,
        by a pass over two columns of all profiles.

        Args:
            query: SQL of DuckDB; it reaches no file, network, extension, setting or Python variable.
            parameters: values for its placeholders.

        Raises:
            QueryError: the query is refused or wrong, said in a sentence.
            RunError: there are no profiles of that name, or they lack a column that the query needs.
        """
        connection = connect(self._spill, self._memory_limit)
        asked = parse(query, VIEWS, connection)
        for name in sorted(asked.views):
            view = VIEWS[name]
            sql = view.sql
            self._register(connection, view.dataset)
            if name == "profiles" and asked.reads(name, PERCENTILE):
                connection.register(f"{STORED}percentiles", self._percentiles)
                sql = PROFILES_WITH_PERCENTILE_SQL
            try:
                with query_errors():
                    connection.execute(f"CREATE TEMP VIEW {name} AS {sql}")
            except QueryError as error:
                of = f"{self._profiles} of {self._run.url}"
                raise RunError(f"{of} are of another version and give no view {name!r}: {error}") from None
        with query_errors():
            relation = connection.sql(query, params=parameters)
        if relation is None:
            raise QueryError("The query gives no rows.")
        if twice := sorted({column for column in relation.columns if relation.columns.count(column) > 1}):
            raise QueryError(f"Two columns of the answer are called {twice[0]!r}: rename one (AS), or leave it out.")
        return Answer(relation, (connection, self))

    def samples(
        self,
        where: str = "true",
        limit: int | None = 10,
        order_by: str | None = None,
        parameters: Parameters = None,
    ) -> Iterator[ProfiledSample]:
        """Samples with their images, fetched from the shards' tars by their stored offset and size.

        Nothing is unpacked: a plain tar is read at the image only, by range requests on an object store. A tar.gz
        has to be inflated from its start, for every IMAGES_AT_ONCE samples anew: slow. An image that cannot be
        had (the shard is gone, was changed or touched since it was profiled, needs a signed URL; the bytes do not
        decode to the size that the profile says) is None, with the reason; it is never another picture.

        Args:
            where: SQL condition on the columns of the view profiles.
            limit: number of samples; None: all.
            order_by: SQL expressions to sort by, such as "clip_score DESC"; None: in no order to rely on.
            parameters: values for placeholders in them.

        Raises:
            QueryError, RunError: as `sql`.
        """
        identity = f'{schema.SHARD.name}, "{schema.INDEX.name}"'
        query = f"SELECT {identity} FROM profiles WHERE (\n{where}\n)"  # noqa: S608 - it goes through the door
        if order_by is not None:
            query += f"\nORDER BY {order_by}"
        if limit is not None:
            query += f"\nLIMIT {int(limit)}"
        asked = parse(query, VIEWS, connect(self._spill))
        if asked.nodes[0]["type"] != "SELECT_NODE":
            raise QueryError("`where` is one condition on the columns of profiles; a UNION is none.")
        return self._samples(self.sql(query, parameters))

    def _samples(self, found: Answer) -> Iterator[ProfiledSample]:
        for batch in found.batches(IMAGES_AT_ONCE):
            wanted = list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
            known: dict[tuple[str, int], dict[str, Any]] = {}
            for shard in dict.fromkeys(shard for shard, _ in wanted):
                indices = [index for of, index in wanted if of == shard]
                known |= {(shard, row[schema.INDEX.name]): row for row in self._rows(shard, indices)}
            rows = [known[sample] for sample in wanted]
            for row, image in zip(rows, self._images.of(rows), strict=True):
                if isinstance(image, Unavailable):
                    yield ProfiledSample(row, None, image.reason)
                else:
                    yield ProfiledSample(row, image)

    def _rows(self, shard: str, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Whole rows, from their part: a sort by one column need not carry the captions and words of all."""
        part = self._run.read_part(self._profiles, shard)
        found: list[dict[str, Any]] = part.filter(ds.field(schema.INDEX.name).isin(indices)).to_pylist()
        return found

    def _register(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        if name not in self._datasets:
            self._datasets[name] = self._open(name)
        connection.register(f"{STORED}{name}", self._datasets[name])

    def _open(self, name: str) -> ds.Dataset | pa.Table:
        if name == "shards":
            return to_table(self._images.shards.values())
        if name == "rejects" and not self._run.done(REJECTS):
            return schema.arrow(schema.REJECTS).empty_table()
        found = self._run.dataset(self._profiles if name == "profiles" else REJECTS)
        return found if len(found.files) <= KEPT_FILES else ForgetfulDataset.of(found)

    @cached_property
    def _percentiles(self) -> pa.Table:
        """Cluster, bin of the CLIP score, and cluster_percentile."""
        with connect(self._spill, self._memory_limit) as connection, query_errors():
            self._register(connection, "profiles")
            return connection.sql(PERCENTILES_SQL).to_arrow_table()
