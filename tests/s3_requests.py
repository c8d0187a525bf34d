"""Requests that reach the S3 servers of this process, counted; and objects put into them without any."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication


@contextmanager
def counted_requests() -> Iterator[Counter[str]]:
    """By `METHOD path`, a page of a listing by `LIST prefix`, while the block runs."""
    counts: Counter[str] = Counter()
    serve = DomainDispatcherApplication.__call__

    def counting(app, environ, start_response):
        query = dict(parse_qsl(environ["QUERY_STRING"]))
        listed = "list-type" in query
        counts[f"LIST {query['prefix']}" if listed else f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"] += 1
        return serve(app, environ, start_response)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DomainDispatcherApplication, "__call__", counting)
        yield counts


def put(keys: Iterable[str], data: bytes) -> None:
    """The same bytes under many keys of `bucket`."""
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for key in keys:
        backend.put_object("bucket", key, data)
