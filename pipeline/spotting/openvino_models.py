"""PP-OCR's models as OpenVINO runs them best: pictures of bytes in, and nothing left in full precision needlessly."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import openvino
from openvino import opset13
from openvino.preprocess import ColorFormat, PrePostProcessor

HINTS = {"bf16": "bf16", "fp32": "f32"}
"""What OpenVINO calls them."""


def resolve_precision(precision: str, core: openvino.Core) -> str:
    """`auto` becomes bf16 on CPUs that have it, else fp32.

    Raises:
        ValueError: bf16 is asked for and the CPU does not have it.
    """
    bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "auto":
        return "bf16" if bf16 else "fp32"
    if precision == "bf16" and not bf16:
        raise ValueError("spotting.precision is bf16, and this machine's CPU has no bf16 instructions.")
    return precision


class Colours(NamedTuple):
    """What a model subtracts from blue, green and red bytes, and by what it then divides them."""

    mean: tuple[float, float, float]
    scale: tuple[float, float, float]


def read_model(core: openvino.Core, path: Path, colours: Colours) -> openvino.Model:
    """The model, made to take (N, H, W, 3) RGB of uint8; its own input is (N, 3, H, W) BGR.

    Raises:
        FileNotFoundError: it is not there.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"RapidOCR {version('rapidocr')} has no model {path}; the wheel of rapidocr 3.10 carries it."
        )
    model = core.read_model(path)
    deconvolutions = [each for each in model.get_ordered_ops() if each.get_type_name() == "ConvolutionBackpropData"]
    if deconvolutions:
        _keep_small(model, *deconvolutions)
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().tensor().set_color_format(ColorFormat.RGB)
    steps.input().preprocess().convert_color(ColorFormat.BGR).convert_element_type(openvino.Type.f32)
    steps.input().preprocess().mean(list(colours.mean)).scale(list(colours.scale))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    return steps.build()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _keep_small(model: openvino.Model, first: openvino.Node, second: openvino.Node) -> None:
    """Keep pixels in channels to the detector's end, where two 2 x 2 deconvolutions each make four pixels of one.

    Between them a bias and ReLU, behind them a bias and a sigmoid: 1 x 1 convolutions do the same at a quarter of the
    width and height, and the pixels are put in their places last. OpenVINO runs a deconvolution in full precision even
    where bf16 is asked for, and what follows it on many times the pixels: a sixth of the detector's time.
    """
    kernel, last = _constant(first, 1), _constant(second, 1)  # (channels, channels, 2, 2) and (channels, 1, 2, 2)
    bias, last_bias = (_constant(_next(each), 1) for each in (first, second))
    channels = len(kernel)
    # Channels of the first: row, column, channel. Of the second: row, its row, column, its column.
    spread = kernel.transpose(2, 3, 1, 0).reshape(4 * channels, channels, 1, 1)
    gather = np.zeros((2, 2, 2, 2, 2, 2, channels), np.float32)
    for row, column in np.ndindex(2, 2):
        gather[row, :, column, :, row, column] = last[:, 0].transpose(1, 2, 0)
    once = _convolve(first.input_value(0), spread, np.tile(bias.ravel(), 4))
    twice = _convolve(opset13.relu(once), gather.reshape(16, 4 * channels, 1, 1), np.repeat(last_bias.ravel(), 16))
    pixels = opset13.depth_to_space(opset13.sigmoid(twice), "depth_first", 4)
    model.get_results()[0].input(0).replace_source_output(pixels.output(0))


def _next(operation: openvino.Node) -> openvino.Node:
    (target,) = operation.output(0).get_target_inputs()
    return target.get_node()


def _constant(operation: openvino.Node, number: int) -> npt.NDArray[np.float32]:
    return np.asarray(operation.input_value(number).get_node().get_data(), np.float32)


def _convolve(pixels: Any, kernel: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> openvino.Node:
    convolved = opset13.convolution(
        pixels, opset13.constant(np.ascontiguousarray(kernel)), [1, 1], [0, 0], [0, 0], [1, 1]
    )
    return opset13.add(convolved, opset13.constant(bias.reshape(1, -1, 1, 1)))
