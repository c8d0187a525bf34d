"""What the README shows to copy works as it stands there."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from pipeline.config_file import parse
from pipeline.spotting import load_spotter

README = Path(__file__).parents[1] / "README.md"


def blocks(heading: str) -> dict[str, str]:
    """Language and text of the code blocks below a heading, one of each language."""
    _, _, rest = README.read_text().partition(f"\n### {heading}\n")
    section, *_ = re.split(r"^##+ ", rest, maxsplit=1, flags=re.MULTILINE)
    return dict(re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))


def test_the_spotter_of_ones_own_spots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shown = blocks("A spotter of your own")
    config = parse({"run": "runs/x", "input": {"shards": "a.tar"}, **yaml.safe_load(shown["yaml"])}).spotting
    (tmp_path / f"{config.target.partition(':')[0]}.py").write_text(shown["python"])
    monkeypatch.syspath_prepend(tmp_path)
    spotter = load_spotter(config, threads=1, device="cpu")
    assert spotter.fingerprint() == {"model": f"OpenCV {cv2.__version__} QR codes", "epsilon": 0.1}

    code = np.kron(cv2.QRCodeEncoder.create().encode("parrot captions"), np.ones((6, 6), np.uint8))
    image = np.full((300, 400, 3), 255, np.uint8)
    image[90 : 90 + len(code), 130 : 130 + len(code)] = code[..., None]
    broken, empty, spotting = spotter.spot([np.zeros((5, 5), np.uint8), np.full_like(image, 255), image])
    assert (broken.status, empty.status, spotting.status) == ("failed", "ok", "ok")
    assert empty.words == ()
    assert [word.text for word in spotting.words] == ["parrot", "captions"]
    ink = np.argwhere(image[..., 0] == 0)[:, ::-1]
    for word in spotting.words:
        assert word.polygon.dtype == np.int16
        corners = [word.polygon.min(axis=0), word.polygon.max(axis=0)]
        np.testing.assert_allclose(corners, [ink.min(axis=0), ink.max(axis=0)], atol=3)
