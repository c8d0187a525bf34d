"""Measure from its saved file what the embedded CLIP can do: `python -m pipeline.demo.evaluation`.

Pictures are fresh draws of four times the model's side, taken through open_clip's own preprocessing. An object and a
word in one picture are always of the pairs that training never saw together.

A score that falls when the text is wiped shows only that the model noticed text. What shows reading is the margin of
the right word over all the wrong ones, and that it is gone after wiping.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from pipeline.demo.cache import SIDE
from pipeline.demo.drawing import Picture, Pixels
from pipeline.demo.samples import Content, Kind, choose_content, draw_content
from pipeline.demo.training import CONFIG
from pipeline.demo.vocabulary import COLOURS, OBJECTS, SCENES, WORDS, with_article

WEIGHTS = CONFIG.with_name("model.safetensors")

CANVAS = 4 * SIDE

WIPE_MARGIN = 5
"""Pixels of CANVAS around a word's polygon that are wiped with it, so that no outline is left."""


@dataclass(frozen=True)
class Report:
    """Accuracies in [0, 1]; margins are differences of cosines, the drawn word's minus the mean of all others'."""

    object_top1: float
    scene_top1: float
    word_top1_sign: float
    word_top1_object_picture: float
    margin_sign: float
    margin_sign_wiped: float
    margin_object_picture: float
    margin_object_picture_wiped: float


class Reader:
    """The saved model behind open_clip's public door, fp32 on the CPU."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        open_clip.add_model_config(CONFIG)
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(CONFIG.stem, pretrained=str(weights))
        self.model.eval()
        self.tokenize = open_clip.get_tokenizer(CONFIG.stem)

    @torch.inference_mode()
    def embed_pictures(self, pictures: Sequence[Pixels]) -> NDArray[np.float32]:
        """(n, 128) unit vectors of RGB uint8 pictures."""
        pixels = torch.stack([self.preprocess(Image.fromarray(picture)) for picture in pictures])
        return np.asarray(functional.normalize(self.model.encode_image(pixels), dim=-1))

    @torch.inference_mode()
    def embed_captions(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """(n, 128) unit vectors of captions."""
        return np.asarray(functional.normalize(self.model.encode_text(self.tokenize([*captions])), dim=-1))


def draw_fresh(kind: Kind, count: int, seed: int) -> tuple[list[Content], list[Picture]]:
    """Draw pictures of one kind at CANVAS px; objects and words are of the held-out pairs."""
    rng = np.random.default_rng((seed, kind))
    contents = [choose_content(kind, rng, held_out=kind is Kind.OBJECT_WITH_WORD) for _ in range(count)]
    return contents, [draw_content(content, CANVAS, CANVAS, rng) for content in contents]


def wipe_words(picture: Picture) -> Pixels:
    """Inpaint every word of the picture from what surrounds it: (height, width, 3) uint8."""
    mask = np.zeros(picture.pixels.shape[:2], np.uint8)
    for word in picture.words:
        cv2.fillPoly(mask, [word.polygon.astype(np.int32)], 255)
    mask = cv2.dilate(mask, np.ones((2 * WIPE_MARGIN + 1,) * 2, np.uint8))
    return np.asarray(cv2.inpaint(picture.pixels, mask, 3, cv2.INPAINT_TELEA))


def top1(scores: NDArray[np.float32], truth: Sequence[int]) -> float:
    """Share of the rows of (n, choices) whose highest score is the true choice."""
    return float((scores.argmax(axis=1) == np.array(truth)).mean())


def margin(scores: NDArray[np.float32], truth: Sequence[int]) -> float:
    """Mean over the rows of (n, choices) of the true choice's score minus the mean of the others."""
    rows = np.arange(len(scores))
    right = scores[rows, truth]
    wrong = (scores.sum(axis=1) - right) / (scores.shape[1] - 1)
    return float((right - wrong).mean())


def evaluate(reader: Reader, count: int = 300, seed: int = 1) -> Report:
    """Measure on `count` pictures of every kind."""

    def scores(pictures: Sequence[Pixels], captions: Sequence[str]) -> NDArray[np.float32]:
        return reader.embed_pictures(pictures) @ reader.embed_captions(captions).T

    shown, pictures = draw_fresh(Kind.OBJECT, count, seed)
    captions = [with_article(f"{colour} {name}") for name in OBJECTS for colour in COLOURS]
    by_object = scores([picture.pixels for picture in pictures], captions)
    by_object = by_object.reshape(count, len(OBJECTS), len(COLOURS)).max(axis=2)
    objects = top1(by_object, [OBJECTS.index(content.thing.name) for content in shown if content.thing])

    shown, pictures = draw_fresh(Kind.SCENE, count, seed)
    by_scene = scores([picture.pixels for picture in pictures], [f"a photograph of {name}" for name in SCENES.values()])
    scenes = top1(by_scene, [[*SCENES].index(content.scene) for content in shown if content.scene])

    def reading(kind: Kind) -> tuple[float, float, float]:
        """Word top-1, and the margin of the bare word before and after wiping."""
        shown, pictures = draw_fresh(kind, count, seed)
        truth = [WORDS.index(content.words[0]) for content in shown]
        before, after = [picture.pixels for picture in pictures], [wipe_words(picture) for picture in pictures]
        accuracy = top1(scores(before, [f"the word {word}" for word in WORDS]), truth)
        return accuracy, margin(scores(before, WORDS), truth), margin(scores(after, WORDS), truth)

    sign, sign_margin, sign_wiped = reading(Kind.SIGN)
    beside, beside_margin, beside_wiped = reading(Kind.OBJECT_WITH_WORD)
    return Report(objects, scenes, sign, beside, sign_margin, sign_wiped, beside_margin, beside_wiped)


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--pictures", type=int, default=300, help="pictures of every kind")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for name, value in asdict(evaluate(Reader(arguments.weights), arguments.pictures, arguments.seed)).items():
        print(f"{name} {value:.3f}")


if __name__ == "__main__":
    main()
