"""A real S3 server on the loopback address, and the environment by which s3fs finds it."""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def s3_server() -> Iterator[int]:
    """A moto server with one empty bucket, `bucket`; yields its port. No credential is in a config."""
    with pytest.MonkeyPatch.context() as patch:
        running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        running.start()
        host, port = running.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        # What servers of this process stored before is not gone with them.
        reset = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")  # noqa: S310 - loopback
        urllib.request.urlopen(reset).close()  # noqa: S310
        patch.setenv("AWS_ACCESS_KEY_ID", "the-test-id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "the-test-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
        try:
            yield port
        finally:
            running.stop()
            fsspec.filesystem("s3").clear_instance_cache()
