from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.demo.cache import SIDE, Cache, draw_chunk
from pipeline.demo.samples import Kind
from pipeline.demo.training import CURRICULUM, Trainer, multi_positive_loss, take_batch


@pytest.fixture(scope="module")
def cache() -> Cache:
    chunks = [draw_chunk(kind, (0, kind), 12) for kind in Kind]
    pixels = np.concatenate([pixels for pixels, _ in chunks])
    return Cache(pixels, np.repeat(np.arange(5, dtype=np.int8), 12), [c for _, contents in chunks for c in contents])


def test_a_batch_follows_the_curriculum(cache: Cache) -> None:
    batch = take_batch(cache, 0.5, 200, np.random.default_rng(0))
    assert batch.pixels.shape == (200, 3, SIDE, SIDE)
    assert len(batch.captions) == len(batch.contents) == 200
    scenes = sum(content.scene is not None for content in batch.contents)
    assert scenes == pytest.approx(200 * CURRICULUM[2][1][Kind.SCENE], abs=8)


def test_equal_captions_share_the_target() -> None:
    image = torch.eye(3)
    text = torch.eye(3)[[0, 0, 2]]
    scale = torch.tensor(20.0)
    shared = multi_positive_loss(image[[0, 0, 2]], text, scale, ["a star", "a star", "a hat"])
    assert shared.item() == pytest.approx((2 / 3) * np.log(2), abs=1e-3)
    apart = multi_positive_loss(image, image, scale, ["a", "b", "c"])
    assert apart.item() == pytest.approx(0, abs=1e-3)


def test_steps_lower_the_loss_and_a_resumed_run_goes_on_the_same(cache: Cache, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    trainer = Trainer(steps=14, seed=0)
    losses = []
    for loss in trainer.run(cache, 48):
        losses.append(loss)
        if trainer.step == 12:
            trainer.save_checkpoint(tmp_path / "checkpoint.pt")
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1
    resumed = Trainer(steps=14, seed=1)
    resumed.seed = 0
    resumed.load_checkpoint(tmp_path / "checkpoint.pt")
    assert [*resumed.run(cache, 48)] == pytest.approx(losses[12:], rel=1e-2)
    trainer.save_weights(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_size < 20_000_000
