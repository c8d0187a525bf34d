"""Configuration of a run: frozen models, one per stage. It imports nothing heavy; `config_file` reads it."""

import os
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from pipeline import schema
from pipeline.section import DatasetName, Filled, Number, Section, Whole
from pipeline.spotting.config import CustomConfig, EasyOCRConfig, RapidOCRConfig, SpotterConfig, TesseractConfig

SPOTTERS: Mapping[str, type[BaseModel]] = {
    "rapidocr": RapidOCRConfig,
    "easyocr": EasyOCRConfig,
    "tesseract": TesseractConfig,
    "custom": CustomConfig,
}

DEFAULT_METADATA: Mapping[str, str] = {
    # img2dataset
    "status": "string",
    "original_width": "int64",
    "original_height": "int64",
    "sha256": "string",
    "md5": "string",
    # LAION
    "SAMPLE_ID": "int64",
    "hash": "int64",
    "LICENSE": "string",
    "NSFW": "string",
    "LANGUAGE": "string",
    "similarity": "float64",
    "punsafe": "float64",
    "pwatermark": "float64",
    "AESTHETIC_SCORE": "float64",
    # DataComp (its uid becomes the run's uid)
    "clip_b32_similarity_score": "float64",
    "clip_l14_similarity_score": "float64",
}


FilePath = Annotated[str, AfterValidator(os.path.expanduser)]
"""A local file; `~` is the home folder."""


class InputLimits(Section):
    """Bounds on what is read from a shard; beyond them a sample is rejected with its reason."""

    max_image_bytes: Whole = Field(64 << 20, gt=0)
    max_text_bytes: Whole = Field(4 << 20, gt=0)
    max_pixels: Whole = Field(89_478_485, gt=0, description="Pillow's own bound")
    max_side: Whole = Field(32_767, gt=0, le=32_767, description="polygons are int16")


class InputConfig(Section):
    """Which shards are read, and what is kept of each sample."""

    shards: tuple[str, ...]
    root: str | None = Field(None, description="shard ids are paths below it; null: the common parent")
    sample_shards: Number = Field(
        1, gt=0, le=1, description="share of the shards that is read: those of the smallest hashes of their ids"
    )
    caption_key: Filled = "caption"
    metadata: Mapping[str, str] = Field(default_factory=lambda: dict(DEFAULT_METADATA))
    limits: InputLimits = InputLimits()

    @field_validator("shards", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        values = (value,) if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or not all(isinstance(pattern, str) for pattern in values):
            raise ValueError("should be a pattern or a list of patterns")
        return values

    @field_validator("shards")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(pattern.strip() for pattern in value):
            raise ValueError("name at least one shard pattern")
        return value

    @field_validator("metadata")
    @classmethod
    def _readable(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        columns = (*schema.PROFILES, schema.CLUSTER_PERCENTILE)
        taken = {column.name.lower(): "a column of the profile" for column in columns}
        for key, kind in value.items():
            if kind not in schema.METADATA_TYPES:
                raise ValueError(f"{key}: type {kind!r} is none of {', '.join(schema.METADATA_TYPES)}")
            # SQL engines fold the case of column names.
            if clash := taken.get(key.lower()):
                raise ValueError(f"{key!r} has the name of {clash}")
            taken[key.lower()] = "another kept key"
        return value


class ImportedEmbeddings(Section):
    """Embeddings that are already there, in place of computing them.

    `clip-retrieval`: img_emb/*.npy, text_emb/*.npy and metadata/*.parquet, as `clip-retrieval inference` writes
    them; `datacomp`: pairs of NAME.parquet and NAME.npz, as DataComp publishes them.
    """

    format: Literal["clip-retrieval", "datacomp"]
    folder: Filled = Field(description="folder or fsspec URL of the files")
    join: Literal["key", "uid"] = Field(
        "key", description="what finds a sample's row; left out: key for clip-retrieval, uid for DataComp"
    )
    key_column: Filled = Field(
        "image_path",
        description="column of the parquet files with that key; left out: uid for uids, image_path for keys of "
        "clip-retrieval, key for those of DataComp",
    )
    caption_column: Filled | None = Field(
        "caption",
        description="where there is such a column, a row of another caption is none of the sample's; left out: "
        "caption for clip-retrieval, text for DataComp; null: captions are not compared",
    )
    score_column: Filled | None = Field(None, description="CLIP score, in [-1, 1]; null: cosine of the two embeddings")
    image_array: Filled = Field("b32_img", description="DataComp: name in the npz of the image embeddings")
    text_array: Filled | None = Field("b32_txt", description="DataComp: of the text embeddings; null: none")

    @model_validator(mode="before")
    @classmethod
    def _by_format(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        datacomp = value.get("format") == "datacomp"
        columns = {"join": "uid", "caption_column": "text"} if datacomp else {}
        values = {**columns, **value}
        keys = {"uid": "uid", "key": "key" if datacomp else "image_path"}
        return {"key_column": keys["uid" if values.get("join") == "uid" else "key"], **values}


class ClipConfig(Section):
    """Which CLIP model embeds images and captions, or embedded those that are imported."""

    name: DatasetName = "main"
    model: Filled = Field("ViT-B-32-quickgelu", description="open_clip model; `embedded`: the project's own")
    pretrained: FilePath | None = Field("openai", description="open_clip tag, or path of a checkpoint")
    model_config_file: FilePath | None = Field(None, description="open_clip model config (JSON) for `model`")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: Whole = Field(64, gt=0, le=4096)
    reduced_decoding: bool = Field(
        False,
        description="decode JPEGs for CLIP at a half, a quarter or an eighth of their size where its input still "
        "fits in; the spotter sees them whole",
    )
    stored_as: Literal["float16", "float32"] = Field(
        "float16", description="numbers of the stored embeddings; Spark and Trino read float32 alone"
    )
    imported: ImportedEmbeddings | None = Field(None, description="take them from there; `model` says what made them")


class ImportedClusters(Section):
    """PCA and centroids that are already there, in place of a fit; the fit's own settings are then unused."""

    centroids: Filled = Field(description="npy, (k, p): path or fsspec URL")
    pca: Filled | None = Field(
        None, description="npz of `mean` (d,) and `components` (p, d); null: the centroids are in embedding space"
    )
    model: Filled = Field(description="clip.model of the embeddings they were fitted to")
    pretrained: FilePath | None = Field("openai", description="its clip.pretrained")


class ClusterSettings(Section):
    """How image embeddings are clustered: PCA, then faiss k-means by L2."""

    name: DatasetName = "main"
    k: Whole = Field(4000, gt=0, le=10_000_000)
    pca_dim: Whole = Field(256, gt=0, le=65_536)
    sample_size: Whole = Field(
        1_000_000, gt=0, le=10_000_000_000, description="embeddings the fit sees, chosen by hash of uid"
    )
    niter: Whole = Field(25, gt=0, le=100_000)
    nredo: Whole = Field(1, gt=0, le=10_000)
    seed: Whole = Field(42, ge=0, lt=1 << 32)
    min_points_per_centroid: Whole = Field(39, gt=0, le=1_000_000_000)
    imported: ImportedClusters | None = None


class OverlapSettings(Section):
    """How caption and spotted words are compared."""

    threshold: Number = Field(0.75, gt=0, le=1, description="similarity from which a fuzzy word counts")
    floor: Number = Field(0.5, gt=0, le=1, description="similarities below it are stored as 0")
    min_fuzzy_length: Whole = Field(4, gt=0, description="shorter words count only exactly")
    max_words: Whole = Field(2_000, gt=0, description="words compared fuzzily, of caption and of image")

    @model_validator(mode="after")
    def _floor_below(self) -> "OverlapSettings":
        if self.floor > self.threshold:
            raise ValueError("floor must not exceed threshold")
        return self


class ProfileConfig(Section):
    """The name of the profiles dataset."""

    name: DatasetName = "main"


class ResourcesConfig(Section):
    """How the job is run. Nothing here changes a result, and nothing here enters a fingerprint."""

    address: str | None = Field(None, description="Ray address; null: a local Ray on the loopback address")
    cpus_per_actor: Whole = Field(1, gt=0)
    gpus_per_actor: Number = Field(0, ge=0)
    decode_threads: Whole | None = Field(
        None,
        ge=0,
        description="threads of an actor that open and crop images ahead of CLIP; null: cpus_per_actor on a GPU, none "
        "on a CPU, which CLIP itself fills",
    )
    max_actors: Whole | None = Field(None, gt=0, description="null: as many as the cluster holds")
    attempts: Whole = Field(3, gt=0, description="tries of a shard before it is set aside")
    stall_seconds: Number = Field(
        1800, gt=0, description="silence of a shard's worker after which it is ended; longer than any batch takes"
    )
    autoscale: bool = Field(
        False, description="the cluster starts nodes on demand: ask for max_actors, whatever it holds now"
    )
    pool: Filled | None = Field(None, description="value of Ray's node label `pool`: actors run there only; null: all")

    @model_validator(mode="after")
    def _bounded(self) -> "ResourcesConfig":
        if self.autoscale and self.max_actors is None:
            raise ValueError("autoscale asks for max_actors: say how many")
        return self

    @field_validator("address")
    @classmethod
    def _local(cls, value: str | None) -> str | None:
        # Ray knows "local" too, but that Ray would listen on the network.
        return None if value is not None and value.strip() in ("", "local") else value


class Config(Section):
    """The whole configuration of a run."""

    run: Filled
    input: InputConfig
    clip: ClipConfig = ClipConfig()
    spotting: SpotterConfig = RapidOCRConfig()
    cluster: ClusterSettings = ClusterSettings()
    overlap: OverlapSettings = OverlapSettings()
    profile: ProfileConfig = ProfileConfig()
    resources: ResourcesConfig = ResourcesConfig()

    @field_validator("spotting", mode="before")
    @classmethod
    def _default_engine(cls, value: object) -> object:
        return {"engine": "rapidocr", **(value or {})} if isinstance(value, Mapping | None) else value
