"""Images that a gate skipped are images without text, wherever profiles are counted, and failed ones never are."""

import pytest

from pipeline.query.views import CLUSTERS_SQL
from pipeline.tables.clusters import cluster_tables
from pipeline.tables.connection import connected, select
from pipeline.tables.figure4 import figure4
from pipeline.tables.intervals import intervals
from pipeline.tables.table1 import check_identities, table1
from tests.pipeline.tables.rows import failed, profile, table


def rows(status: str, shards: int) -> list[dict]:
    found = []
    for number in range(shards):
        at = {"shard": f"{number:05d}", "cluster_id": number % 2}
        found += [profile(4, 2, **at), profile(6, 0, **at), failed(words=9, **at)]
        found += [profile(5, 0, text=False, spot_status=status, **at)] * (1 + number % 3)
    return found


@pytest.mark.parametrize("shards", [3, 24])
def test_counts_and_rates_are_those_of_images_without_text(shards) -> None:
    spotted, skipped = (table(*rows(status, shards)) for status in ("ok", "skipped"))
    ours, theirs = table1(skipped), table1(spotted)
    check_identities(ours)
    assert (ours.spot_skipped, theirs.spot_skipped) == (ours.class_none, 0)
    assert {**vars(ours), "spot_skipped": 0} == vars(theirs)
    assert intervals(skipped).equals(intervals(spotted))
    for one, other in zip(
        [*cluster_tables(skipped), *figure4(skipped)], [*cluster_tables(spotted), *figure4(spotted)], strict=True
    ):
        assert (one.table.to_pylist(), one.notes) == (other.table.to_pylist(), other.notes)
    views = []
    for profiles in (spotted, skipped):
        with connected(profiles, "stored_profiles") as connection:
            views.append(select(connection, f"{CLUSTERS_SQL} ORDER BY cluster_id").to_pylist())
    assert views[0] == views[1]
    assert all(row["measured"] < row["images"] for row in views[1])
