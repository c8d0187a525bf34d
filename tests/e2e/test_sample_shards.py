"""A sample of a collection's shards: deterministic, known to the run, and told with its statistics."""

from pathlib import Path

from pipeline.datasets import SAMPLES
from pipeline.run import Run
from pipeline.shards import list_shards, sample_shards
from tests.e2e.command import BLANK, parrotscope, write_config
from tests.pipeline.shard_factory import samples, tar


def test_a_run_on_a_sample_knows_what_it_is_a_sample_of(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number:05d}.tar").write_bytes(tar(samples(8)))
    pattern = f"{tmp_path}/*.tar"
    cluster = {"k": 2, "pca_dim": 8, "min_points_per_centroid": 1}
    config = str(write_config(tmp_path, pattern, BLANK, cluster=cluster))
    third = {shard.id for shard in sample_shards(list_shards([pattern]), 1 / 3) if shard.sampled}

    told = parrotscope("profile", config, "--set", f"input.sample_shards={1 / 3}", folder=tmp_path)
    run = Run(str(tmp_path / "run"))
    assert len(third) == 2
    assert run.done(SAMPLES) == third
    assert len(run.collection()) == 6
    sentence = "a sample of 2 of 6 shards, 33.33% of their bytes"
    assert f"extract: {sentence}" in told
    assert f"{sentence}: counts are the sample's" in told
    assert sentence in parrotscope("status", str(run.url), folder=tmp_path)

    # The same run, on a larger share: what is done is kept.
    told = parrotscope("extract", config, "--set", "input.sample_shards=0.5", folder=tmp_path)
    assert "extract: 3 shards, 1 to do" in told
    assert third < run.done(SAMPLES)
    assert run.config().input.sample_shards == 0.5
