"""Print the ranges of `pipeline/spotting/int8_ranges.py`: `python -m tests.benchmarks.calibration`.

They are those of real images that nobody transcribed, so that the words which judge the spotter did not shape it.
"""

import json
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePath

import numpy as np
import openvino

from pipeline.images import decode
from pipeline.spotting import Image
from pipeline.spotting.config import RapidOCRConfig
from pipeline.spotting.int8 import Range, heavy_layers
from pipeline.spotting.openvino_models import read_model
from pipeline.spotting.rapidocr import DETECTOR, MODELS, RECOGNISER, RapidOCRSpotter
from tests.conftest import SHARED_DATA

IMAGES = 48
LINES = 150
SHARE = 0.9999
GELU_LEAST = -0.17
"""The least value of a GELU: of what one gives, nothing is clipped below."""


def main() -> None:
    """Measure both models."""
    images = list(_images())
    spotter = RapidOCRSpotter(RapidOCRConfig(precision="fp32"), threads=2)
    canvases, strips = [], []
    for image in images:
        canvas, _ = spotter.canvas(image, 640)
        canvases.append(canvas)
        strips += [strip[None] for strip in (line.strip for line in next(spotter.looks(image)))][:6]
    for name, inputs in ((DETECTOR, canvases), (RECOGNISER, strips[:LINES])):
        print(f"# {name}")
        for layer, (low, high) in measure(name, inputs).items():
            print(f'    "{layer}": ({low:.3g}, {high:.3g}),')


def measure(name: str, inputs: Iterable[Image]) -> dict[str, Range]:
    """The range of every heavy layer's input, over the worst of the inputs."""
    core = openvino.Core()
    model = read_model(core, MODELS / name)
    layers = heavy_layers(model)
    sources = {layer: node.input_value(0) for layer, node in layers.items()}
    ports = list(dict.fromkeys(sources.values()))
    model.add_outputs(ports)
    network = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2})
    found: dict[str, list[Range]] = defaultdict(list)
    for pixels in inputs:
        values = list(network(pixels).values())[1:]
        for layer, source in sources.items():
            low, high = np.quantile(values[ports.index(source)], (1 - SHARE, SHARE))
            found[layer].append((low, high))
    return {layer: _range(np.array(each)) for layer, each in found.items()}


def _range(each: np.ndarray) -> Range:
    low, high = float(each[:, 0].min()), float(each[:, 1].max())
    if low >= GELU_LEAST - 0.01:
        return min(low, 0.0), high
    reach = max(-low, high)  # without a zero point, which signed int8 does not need
    return -reach, reach * 127 / 128


def _images() -> Iterator[Image]:
    """Some of the real images, of every shard as many."""
    known = {json.loads(line)["key"] for line in (SHARED_DATA / "truth" / "truth.jsonl").read_text().splitlines()}
    shards = sorted((SHARED_DATA / "real").glob("*.tar"))
    for shard in shards:
        with tarfile.open(shard) as archive:
            names = [
                name
                for name in archive.getnames()
                if PurePath(name).suffix not in (".txt", ".json") and PurePath(name).stem not in known
            ]
            for name in names[:: len(names) // (IMAGES // len(shards))][: IMAGES // len(shards)]:
                file = archive.extractfile(name)
                assert file is not None
                yield decode(file.read(), 1 << 26, 1 << 15).pixels


if __name__ == "__main__":
    main()
