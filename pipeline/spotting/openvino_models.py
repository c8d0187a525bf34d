"""PP-OCR's models as OpenVINO runs them best: pictures of bytes in, and nothing left in full precision needlessly."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
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
    for operation in model.get_ordered_ops():
        if operation.get_type_name() == "ConvolutionBackpropData":
            _shuffle(operation)
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


def _shuffle(deconvolution: openvino.Node) -> None:
    """Put the same as a 1 x 1 convolution, whose channels become pixels, in the place of a 2 x 2 deconvolution.

    Of stride 2, as the detector's two are, it makes four pixels of one. OpenVINO runs it in full precision even where
    bf16 is asked for: a tenth of the detector's time.
    """
    kernel = deconvolution.input_value(1).get_node().get_data()  # (in, out, height, width)
    if kernel.shape[2:] != (2, 2) or deconvolution.get_attributes()["strides"] != [2, 2]:
        return
    flat = np.ascontiguousarray(kernel.transpose(1, 2, 3, 0).reshape(-1, kernel.shape[0], 1, 1))
    pixels = opset13.convolution(deconvolution.input_value(0), opset13.constant(flat), [1, 1], [0, 0], [0, 0], [1, 1])
    deconvolution.output(0).replace(opset13.depth_to_space(pixels, "depth_first", 2).output(0))
