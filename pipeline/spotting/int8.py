"""The heavy convolutions of RapidOCR's models in int8, with ranges that were measured once.

Only where the products are many: elsewhere turning numbers into int8 and back costs what it gains, which is why
quantising a whole model gained a tenth. Weights are rounded by output channel; activations all alike, to a range that
holds 99.99 % of them on real images (`tests/benchmarks/calibration.py`).
"""

from collections.abc import Mapping

import numpy as np
import openvino
from openvino import opset13

_LEAST_CHANNELS = 96

Range = tuple[float, float]
"""Least and largest value that int8 tells apart; what lies outside is clipped."""


def heavy_convolutions(model: openvino.Model) -> dict[str, openvino.Node]:
    """By name, those whose kernel takes at least 96 channels and slides over the image."""
    return {
        node.get_friendly_name(): node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Convolution"
        and node.input(1).get_partial_shape()[1].get_length() >= _LEAST_CHANNELS
        and not all(side.is_static and side.get_length() == 1 for side in list(node.output(0).get_partial_shape())[2:])
    }


def quantise(model: openvino.Model, ranges: Mapping[str, Range]) -> None:
    """Have the convolutions of `ranges` done in int8, whose input is clipped to the range.

    Raises:
        KeyError: the model has no such convolution.
    """
    convolutions = heavy_convolutions(model)
    for name, (low, high) in ranges.items():
        node = convolutions[name]
        kernel = node.input_value(1).get_node().get_data()  # (out, in, height, width)
        largest = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True)
        node.input(0).replace_source_output(_rounded(node.input_value(0), *_scalars(low, high), 256))
        node.input(1).replace_source_output(_rounded(node.input_value(1), -largest, largest, 255))


def _scalars(*values: float) -> tuple[np.ndarray, ...]:
    return tuple(np.full((1, 1, 1, 1), value, np.float32) for value in values)


def _rounded(values: openvino.Output, low: np.ndarray, high: np.ndarray, levels: int) -> openvino.Output:
    bounds = opset13.constant(low), opset13.constant(high)
    return opset13.fake_quantize(values, *bounds, *bounds, levels).output(0)
