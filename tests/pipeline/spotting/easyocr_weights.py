"""Checkpoints of EasyOCR's architectures: its own weights are a download."""

import hashlib
from pathlib import Path

import pytest
import torch
from easyocr.config import detection_models, recognition_models
from easyocr.craft import CRAFT
from easyocr.model.vgg_model import Model

FILES = ("craft_mlt_25k.pth", "english_g2.pth")
ENGLISH = recognition_models["gen2"]["english_g2"]
CLASSES = 1 + len(ENGLISH["characters"])


def save_weights(directory: Path, detector: CRAFT, recogniser: Model, patch: pytest.MonkeyPatch) -> None:
    """Write both checkpoints, and let EasyOCR take them for its own while `patch` lasts."""
    for network, name, entry in zip((detector, recogniser), FILES, (detection_models["craft"], ENGLISH), strict=True):
        # Checkpoints of several GPUs, as the released ones are: every name begins with "module.".
        torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, directory / name)
        patch.setitem(entry, "md5sum", hashlib.md5((directory / name).read_bytes()).hexdigest())  # noqa: S324


def light_detector() -> CRAFT:
    """Takes what is light for text, and three pixels around it: its other paths are cut."""
    detector = CRAFT()
    for weights in detector.parameters():
        if weights.ndim > 1:
            torch.nn.init.zeros_(weights)
    encoder, decoder, head = detector.basenet.slice1, detector.upconv4.conv, detector.conv_cls
    encoder[0].weight.data[0, :, 1, 1] = 0.5  # on black, 0 after the ReLU
    for layer in (encoder[3], encoder[7], encoder[10], decoder[3], head[2], head[4]):
        layer.weight.data[0, 0, 1, 1] = 1
    decoder[0].weight.data[0, 64] = 1  # the encoder's first channel, behind the 64 that come from below
    for layer in (head[0], head[6], head[8]):
        layer.weight.data[0, 0] = 1
    return detector


def random_recogniser() -> Model:
    """Reads something else in every line, with all confidences: large random weights."""
    torch.manual_seed(0)
    recogniser = Model(1, 256, 256, CLASSES)
    for layer in recogniser.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, torch.nn.LSTM):
            for weights in layer.parameters():
                weights.data *= 3
    recogniser.Prediction.weight.data *= 100
    return recogniser
