"""What opens a URL is not kept."""

import pytest

from pipeline.secrets import plain, without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@host/a.tar?sig=x&y=z", "https://host/a.tar?…"),
        ("https://token@host/a.tar?download", "https://host/a.tar?…"),
        ("https://user:sec@ret@host:80/a@b.tar", "https://host:80/a@b.tar"),
        ("HTTPS://user:secret@host/a", "HTTPS://host/a"),
        ("s3://bucket/a@b.tar", "s3://bucket/a@b.tar"),
        ("s3://bucket/shard-????.tar", "s3://bucket/shard-????.tar"),
        ("s3://bucket/a.tar?versionId=1", "s3://bucket/a.tar?…"),
        ("abfs://container@account.dfs.core.windows.net/a", "abfs://container@account.dfs.core.windows.net/a"),
        ("ftp://user:secret@host/a", "ftp://host/a"),
        ("simplecache::https://u@h/a?t=1", "simplecache::https://h/a?…"),
        ("[Errno 2] 'https://h/a?t=1,2', and s3://k:s@b/c.", "[Errno 2] 'https://h/a?…', and s3://b/c."),
        ("data/what?.tar", "data/what?.tar"),
        ("://" * 3, "://" * 3),
    ],
)
def test_urls_lose_their_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_nested_values_lose_them_too() -> None:
    values = {"run": "s3://k:s@b/c", "shards": ["https://h/a?t=1"], "k": 3, "root": None}
    assert plain(values) == {"run": "s3://b/c", "shards": ["https://h/a?…"], "k": 3, "root": None}
