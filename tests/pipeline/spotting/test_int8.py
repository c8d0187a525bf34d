import numpy as np
import openvino
import pytest
from openvino import opset13

from pipeline.spotting.int8 import heavy_layers, quantise
from pipeline.spotting.int8_ranges import DETECTOR_RANGES, RECOGNISER_RANGES
from pipeline.spotting.openvino_models import read_model
from pipeline.spotting.rapidocr import DETECTOR, MODELS, RECOGNISER

PRECISE = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


@pytest.mark.parametrize(("name", "ranges"), [(DETECTOR, DETECTOR_RANGES), (RECOGNISER, RECOGNISER_RANGES)])
def test_every_heavy_layer_has_its_range(name: str, ranges: dict[str, tuple[float, float]]):
    layers = heavy_layers(read_model(openvino.Core(), MODELS / name))
    assert layers.keys() == ranges.keys()
    assert all(low <= 0 < high for low, high in ranges.values())


def convolution(channels: int) -> tuple[openvino.Model, np.ndarray]:
    """A model of one 1 x 1 convolution called `heavy`, and its kernel (8, channels)."""
    kernel = np.random.default_rng(0).normal(size=(8, channels)).astype(np.float32)
    pixels = opset13.parameter(openvino.PartialShape([1, channels, -1, -1]), np.float32)
    node = opset13.convolution(
        pixels, opset13.constant(kernel[..., None, None]), [1, 1], [0, 0], [0, 0], [1, 1], name="heavy"
    )
    return openvino.Model([node.output(0)], [pixels]), kernel


def test_a_layer_is_rounded_to_its_range_and_to_its_weights_channel_by_channel():
    model, kernel = convolution(96)
    quantise(model, {"heavy": (-2.0, 2.0 * 127 / 128)})
    values = np.random.default_rng(1).normal(size=(1, 96, 5, 7)).astype(np.float32)
    weight_step = np.abs(kernel).max(axis=1, keepdims=True) / 127
    rounded = np.clip(np.rint(values * 64), -128, 127) / 64  # a 256th of the range
    expected = np.einsum("oc,nchw->nohw", np.rint(kernel / weight_step) * weight_step, rounded)
    found = openvino.Core().compile_model(model, "CPU", PRECISE)(values)[0]
    np.testing.assert_allclose(found, expected, atol=2e-2)
    exact = np.einsum("oc,nchw->nohw", kernel, values)
    assert np.abs(found - exact).max() > 0.1  # what lies outside of the range was clipped


def test_what_is_no_heavy_layer_has_no_range():
    model, _ = convolution(48)
    assert heavy_layers(model) == {}
    with pytest.raises(ValueError, match="to bf16, or install rapidocr"):
        quantise(model, {"heavy": (-2.0, 2.0)})
