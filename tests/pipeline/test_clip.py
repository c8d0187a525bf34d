"""CLIP: parity with plain open_clip, truncation, bounded captions and pictures, and clear errors."""

import json
import time
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from pipeline.clip import Clip, bounded
from pipeline.clip_model import ClipError, resolve_model, resolve_precision
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
    np.testing.assert_allclose(np.linalg.norm(low(pictures, captions).image, axis=1), 1, atol=1e-6)


def test_reduced_decoding_is_told_by_the_fingerprint_and_keeps_what_the_model_sees(checkpoint, clip) -> None:
    reduced = Clip(config(checkpoint, reduced_decoding=True), threads=1)
    assert clip.least_side is None
    assert reduced.least_side == reduced.crop(np.zeros((90, 70, 3), np.uint8)).shape[0]
    changed = {name for name, value in reduced.fields().items() if value != clip.fields()[name]}
    assert changed == {"preprocess"}


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
    assert clip(images(shape), [""]).image.shape == (1, 32)


def test_a_long_picture_is_embedded_as_its_middle(clip) -> None:
    wide = images((40, 40 * 40))[0]
    middle = wide[:, 40 * 40 // 2 - 200 : 40 * 40 // 2 + 200]
    np.testing.assert_allclose(clip([wide], [""]).image, clip([middle], [""]).image, atol=1e-5)


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
        ({"model": "ViT-B-32", "pretrained": __file__}, "is damaged, a TorchScript archive"),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
        ({"model": "embedded", "pretrained": "laion2b_s34b_b79k"}, "leave out clip.pretrained"),
        ({"model": "embedded", "model_config_file": "mine.json"}, "leave out .* clip.model_config_file"),
    ],
)
def test_mistakes_are_clear_errors(changes, sentence) -> None:
    with pytest.raises(ClipError, match=sentence):
        Clip(ClipConfig(**{"model": "ViT-B-32", "device": "cpu", **changes}), threads=1)


class Anything:
    pass


def test_a_checkpoint_of_more_than_tensors_is_refused_with_advice_of_our_own(tmp_path) -> None:
    torch.save(Anything(), tmp_path / "pickled.pt")
    torch.save({}, tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "script.pt", "a") as archive:
        archive.writestr("script/constants.pkl", b"")  # what torch knows a TorchScript archive by
    for name in ("pickled.pt", "script.pt"):
        with pytest.raises(ClipError, match=rf"{name} is damaged, a TorchScript archive, or .* convert it") as error:
            Clip(ClipConfig(model="ViT-B-32", pretrained=str(tmp_path / name), device="cpu"), threads=1)
        assert "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EOFError."),
        (b"hello world", "KeyError: 101."),
        (
            {"a": torch.zeros(1)},
            'RuntimeError: Error(s) in loading state_dict for CLIP: Missing key(s) in state_dict: "',
        ),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_said_in_one_line(checkpoint, tmp_path, content, reason) -> None:
    file = tmp_path / "weights.pt"
    torch.save(content, file) if isinstance(content, dict) else file.write_bytes(content)
    with pytest.raises(ClipError) as error:
        Clip(config(checkpoint, pretrained=str(file)), threads=1)
    assert str(error.value).startswith(f"{file} is no checkpoint of tiny: {reason}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["ViT-B-32-OpenAI.pt", "vit_b_32-quickgelu-laion400m_e31.pt", "models--timm--clip.openai/x/model.pt"]
)
def test_a_checkpoint_named_after_quickgelu_is_refused_by_a_model_without(tmp_path, name) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    with pytest.raises(ClipError, match=r"Use clip\.model: ViT-B-32-quickgelu"):
        resolve_model(ClipConfig(model="ViT-B-32", pretrained=str(file)))
    right = ClipConfig(model="ViT-B-32-quickgelu", pretrained=str(file))
    assert resolve_model(right) == ("ViT-B-32-quickgelu", str(file))


def test_the_folder_of_a_checkpoint_says_nothing_of_its_activation(tmp_path) -> None:
    (tmp_path / "openai").mkdir()
    file = tmp_path / "openai" / "laion2b.pt"
    file.touch()
    assert resolve_model(ClipConfig(model="ViT-B-32", pretrained=str(file))) == ("ViT-B-32", str(file))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [('{"embed_dim": 4,', "is not JSON: "), ("7", "is no open_clip"), ('{"a": 1}', "is no open_clip")],
)
def test_a_model_config_that_is_none_is_named(tmp_path, text, sentence) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(ClipError, match=f"mine.json {sentence}"):
        resolve_model(ClipConfig(model="mine", model_config_file=str(file)))


def test_weights_out_of_reach_are_a_clear_error_in_seconds(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(ClipError, match=r"ViT-B-32-quickgelu, tag 'openai'.*clip.pretrained") as error:
        Clip(ClipConfig(device="cpu"), threads=1)
    assert str(tmp_path) in str(error.value)
    assert time.monotonic() - start < 20
