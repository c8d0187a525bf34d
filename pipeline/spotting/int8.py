"""The heavy layers of RapidOCR's models in int8, with ranges that were measured once.

Only where the products are many: elsewhere turning numbers into int8 and back costs what it gains, which is why
quantising a whole model gained a tenth. Weights are rounded by output channel; activations all alike, to a range that
holds 99.99 % of them on real images (`tests/benchmarks/calibration.py`).
"""

import math
from collections.abc import Mapping

import numpy as np
import openvino
from openvino import opset13

_LEAST_CHANNELS = 96
_LEAST_MATRIX = 1_000_000

Range = tuple[float, float]
"""Least and largest value that int8 tells apart; what lies outside is clipped."""


def heavy_layers(model: openvino.Model) -> dict[str, openvino.Node]:
    """By name: convolutions that slide kernels of at least 96 channels over the image, and the matrix of classes."""
    return {node.get_friendly_name(): node for node in model.get_ordered_ops() if _is_heavy(node)}


def quantise(model: openvino.Model, ranges: Mapping[str, Range]) -> None:
    """Have the heavy layers done in int8, whose input is clipped to the range.

    Raises:
        ValueError: the ranges are of another model's layers.
    """
    layers = heavy_layers(model)
    if layers.keys() != ranges.keys():
        raise ValueError(
            "The installed RapidOCR carries other models than those whose ranges were measured for int8; set "
            "spotting.precision to bf16, or install rapidocr 3.10."
        )
    for name, bounds in ranges.items():
        node = layers[name]
        weights = node.input_value(1).get_node().get_data()  # (out, in, height, width), or (in, out)
        across = (1, 2, 3) if weights.ndim == 4 else (0,)
        largest = np.abs(weights).max(axis=across, keepdims=True)
        low, high = (np.full([1] * len(node.output(0).get_partial_shape()), bound, np.float32) for bound in bounds)
        node.input(0).replace_source_output(_rounded(node.input_value(0), low, high, 256))
        node.input(1).replace_source_output(_rounded(node.input_value(1), -largest, largest, 255))


def _is_heavy(node: openvino.Node) -> bool:
    if node.get_type_name() not in ("Convolution", "MatMul") or node.input(1).get_partial_shape().is_dynamic:
        return False
    weights: list[int] = list(node.input(1).get_shape())
    if node.get_type_name() == "MatMul":
        return math.prod(weights) >= _LEAST_MATRIX
    slides = any(side.is_dynamic for side in list(node.output(0).get_partial_shape())[2:])
    return slides and weights[1] >= _LEAST_CHANNELS


def _rounded(values: openvino.Output, low: np.ndarray, high: np.ndarray, levels: int) -> openvino.Output:
    bounds = opset13.constant(low), opset13.constant(high)
    return opset13.fake_quantize(values, *bounds, *bounds, levels).output(0)
