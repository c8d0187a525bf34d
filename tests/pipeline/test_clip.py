"""CLIP: parity with plain open_clip, truncation, bounded captions and pictures, and clear errors."""

import json
import time
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from pipeline.clip import Clip, bounded
from pipeline.clip_model import ClipError, resolve_precision
from pipeline.config import ClipConfig

ARCHITECTURE = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> tuple[str, str]:
    """Config and checkpoint of a small CLIP with random weights."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-test-clip.json").write_text(json.dumps(ARCHITECTURE))
    open_clip.add_model_config(folder / "tiny-test-clip.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny-test-clip").state_dict(), folder / "weights.pt")
    return str(folder / "tiny-test-clip.json"), str(folder / "weights.pt")


def config(checkpoint: tuple[str, str], **changes) -> ClipConfig:
    file, weights = checkpoint
    return ClipConfig(
        **{
            "model": "tiny",
            "model_config_file": file,
            "pretrained": weights,
            "device": "cpu",
            "precision": "fp32",
            **changes,
        }
    )


@pytest.fixture(scope="module")
def clip(checkpoint) -> Clip:
    return Clip(config(checkpoint), threads=1)


def images(*shapes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


def test_scores_are_those_of_plain_open_clip(checkpoint, clip) -> None:
    pictures, captions = images((40, 60), (100, 33), (32, 32)), ["a cat", "Two dogs, running!", ""]
    model = open_clip.create_model("tiny-test-clip", checkpoint[1]).eval()
    transform = image_transform_v2(PreprocessCfg(**open_clip.get_model_preprocess_cfg(model)), is_train=False)
    with torch.no_grad():
        image = model.encode_image(torch.stack([transform(Image.fromarray(p)) for p in pictures]), normalize=True)
        text = model.encode_text(open_clip.get_tokenizer("tiny-test-clip")(captions), normalize=True)
    batch = clip(pictures, captions)
    np.testing.assert_allclose(batch.image, image, atol=1e-6)
    np.testing.assert_allclose(batch.text, text, atol=1e-6)
    np.testing.assert_allclose(batch.score, (image * text).sum(1), atol=1e-6)
    assert (batch.image.dtype, batch.score.dtype, clip.dim) == (np.float32, np.float32, 32)


def test_bf16_scores_are_near_those_of_fp32(checkpoint, clip) -> None:
    if resolve_precision("auto", "cpu") != "bf16":
        pytest.skip("this CPU has no bf16 instructions")
    pictures, captions = images(*[(48, 48)] * 8), [f"caption {i}" for i in range(8)]
    low = Clip(config(checkpoint, precision="bf16"), threads=1)
    np.testing.assert_allclose(low(pictures, captions).score, clip(pictures, captions).score, atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(low.embed_images(pictures), axis=1), 1, atol=1e-6)


def test_truncation_is_told_exactly(clip) -> None:
    # 16 tokens: start, 14 words of one token, end.
    captions = [" ".join(["a"] * n) for n in (0, 13, 14, 15, 60)]
    text, truncated = clip.embed_texts(captions)
    assert truncated.tolist() == [False, False, False, True, True]
    np.testing.assert_array_equal(text[3], text[4])


@pytest.mark.parametrize("caption", ["x" * 1_000_000, "日本" * 500_000, "a " * 500_000, "\0" * 1_000_000, "é" * 9999])
def test_a_megabyte_caption_takes_bounded_work(clip, caption) -> None:
    start = time.monotonic()
    text, _ = clip.embed_texts([caption])
    assert time.monotonic() - start < 5
    assert np.isfinite(text).all()


def test_ordinary_captions_reach_the_model_unchanged() -> None:
    caption = "A  photo of\ta cat. " * 10
    assert bounded(caption) == caption
    assert bounded("word " * 1000) == ("word " * 1000)[:2048]


@pytest.mark.parametrize("shape", [(1, 1), (1, 30_000), (30_000, 1), (2, 3000)])
def test_extreme_shapes_are_embedded_in_bounded_memory(clip, shape) -> None:
    assert clip.embed_images(images(shape)).shape == (1, 32)


def test_a_long_picture_is_embedded_as_its_middle(clip) -> None:
    wide = images((40, 40 * 40))[0]
    middle = wide[:, 40 * 40 // 2 - 200 : 40 * 40 // 2 + 200]
    np.testing.assert_allclose(clip.embed_images([wide]), clip.embed_images([middle]), atol=1e-5)


def test_fields_follow_the_weights_and_not_the_path(checkpoint, clip, tmp_path) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(Path(checkpoint[1]).read_bytes())
    assert Clip(config(checkpoint, pretrained=str(copy)), 1).fields() == clip.fields()
    state = torch.load(copy, weights_only=True)
    state["logit_scale"] += 1
    torch.save(state, copy)
    assert Clip(config(checkpoint, pretrained=str(copy)), 1).fields()["weights"] != clip.fields()["weights"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "ViT-B-32", "pretrained": "openai"}, "Use clip.model: ViT-B-32-quickgelu"),
        ({"model": "ViT-B-32-quickgelu", "pretrained": "laion2b_s34b_b79k"}, "neither a file nor a tag"),
        ({"model": "ViT-B-33", "pretrained": "openai"}, "knows no model 'ViT-B-33'"),
        ({"model": "ViT-B-32", "pretrained": None}, "clip.pretrained is empty"),
        ({"model": "ViT-B-32", "pretrained": __file__}, "is no checkpoint of ViT-B-32"),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
    ],
)
def test_mistakes_are_clear_errors(changes, sentence) -> None:
    with pytest.raises(ClipError, match=sentence):
        Clip(ClipConfig(**{"model": "ViT-B-32", "device": "cpu", **changes}), threads=1)


def test_weights_out_of_reach_are_a_clear_error_in_seconds(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(ClipError, match=r"ViT-B-32-quickgelu, tag 'openai'.*clip.pretrained") as error:
        Clip(ClipConfig(device="cpu"), threads=1)
    assert str(tmp_path) in str(error.value)
    assert time.monotonic() - start < 20
