"""Processes that start together fetch weights once: real processes, and a server on loopback that counts."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import open_clip
import pytest

from pipeline.clip_model import ClipError, fetch_weights, resolve_model
from pipeline.config import ClipConfig
from pipeline.weights import cache_folder, local_file

WEIGHTS = bytes(range(256)) * 4000
TOGETHER = 6


class CountingServer(ThreadingHTTPServer):
    """Serves the same bytes at every path, slowly, as a model hub does; counts what is asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.etag = "one"
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: CountingServer

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(WEIGHTS)))
        self.send_header("ETag", f'"{self.server.etag}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        self.do_HEAD()
        for start in range(0, len(WEIGHTS), len(WEIGHTS) // 4):
            self.wfile.write(WEIGHTS[start : start + len(WEIGHTS) // 4])
            time.sleep(0.1)  # long enough for the others to come in between

    def log_message(self, *_: object) -> None:
        """Nothing: the test's output is its own."""


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[CountingServer]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with CountingServer() as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        # A test before this one may have found the real hub out of reach.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield running
        running.shutdown()


def together(function: Callable[..., str], *arguments: str) -> set[str]:
    """What processes that begin at the same moment return; each has read the whole file it was given."""
    with ProcessPoolExecutor(TOGETHER, multiprocessing.get_context("fork"), _wait_for_all, (_BARRIER,)) as pool:
        calls = [pool.submit(_read, function, *arguments) for _ in range(TOGETHER)]
        return {call.result(timeout=60) for call in calls}


_BARRIER = multiprocessing.get_context("fork").Barrier(TOGETHER)


def _wait_for_all(barrier) -> None:
    barrier.wait(60)


def _read(function: Callable[..., str], *arguments: str) -> str:
    path = function(*arguments)
    assert Path(path).read_bytes() == WEIGHTS
    return path


def test_a_file_at_a_url_is_copied_once(server) -> None:
    (copy,) = together(local_file, f"{server.url}/b32.pt?signature=secret")
    assert server.asked.total() == 1
    assert Path(copy).name == "b32.pt"
    assert "secret" not in copy
    assert not list(cache_folder().rglob("*.tmp"))


def test_another_file_at_the_same_url_is_another_copy(server) -> None:
    first = local_file(f"{server.url}/b32.pt")
    assert local_file(f"{server.url}/b32.pt") == first
    server.etag = "two"
    assert local_file(f"{server.url}/b32.pt") != first
    assert server.asked.total() == 2


def test_a_path_of_this_machine_is_left_alone(server, tmp_path) -> None:
    assert local_file("weights/b32.pt") == "weights/b32.pt"
    assert local_file("openai") == "openai"
    assert not cache_folder().exists()


@pytest.mark.parametrize("kind", ["url", "hf_hub"])
def test_weights_of_a_tag_are_downloaded_once(server, monkeypatch, kind) -> None:
    """By open_clip's own download, which writes into the final file and locks nothing, and by the hub's."""
    place = {"url": f"{server.url}/b32.bin", "hf_hub": "some/model/b32.bin"}[kind]
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED["ViT-B-32"], "ours", {kind: place})
    assert len(together(fetch_weights, "ViT-B-32", "ours")) == 1
    # The hub's client asks for more than the file.
    assert [times for path, times in server.asked.items() if path.endswith((".bin", ".safetensors"))] == [1]


def test_a_checkpoint_at_a_url_is_told_by_its_name(server) -> None:
    name, path = resolve_model(ClipConfig(model="ViT-B-32", pretrained=f"{server.url}/b32.pt"))
    assert (name, Path(path).read_bytes()) == ("ViT-B-32", WEIGHTS)
    with pytest.raises(ClipError, match="differ in QuickGELU"):
        resolve_model(ClipConfig(model="ViT-B-32", pretrained=f"{server.url}/openai.pt"))


def test_a_checkpoint_that_is_not_there_is_one_sentence(server) -> None:
    with pytest.raises(ClipError, match=r"^clip.pretrained cannot be fetched: .*127.0.0.1:9"):
        resolve_model(ClipConfig(model="ViT-B-32", pretrained="http://127.0.0.1:9/b32.pt"))
