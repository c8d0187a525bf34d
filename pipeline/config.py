"""Configuration of a run: frozen models read from YAML, one per stage. It imports nothing heavy.

An unknown key is refused with the nearest valid name; every mistake becomes one `ConfigError` sentence.
"""

import difflib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator, model_validator

from pipeline import schema
from pipeline.section import DatasetName, Filled, Number, Section, Whole
from pipeline.spotting.config import CustomConfig, EasyOCRConfig, RapidOCRConfig, SpotterConfig

PRESETS = Path(__file__).resolve().parent.parent / "configs"


class ConfigError(ValueError):
    """A mistake in a configuration, told in one sentence."""


SPOTTERS: Mapping[str, type[BaseModel]] = {
    "rapidocr": RapidOCRConfig,
    "easyocr": EasyOCRConfig,
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
        taken = {column.name.lower(): "a column of the profile" for column in schema.PROFILES}
        for key, kind in value.items():
            if kind not in schema.METADATA_TYPES:
                raise ValueError(f"{key}: type {kind!r} is none of {', '.join(schema.METADATA_TYPES)}")
            # SQL engines fold the case of column names.
            if clash := taken.get(key.lower()):
                raise ValueError(f"{key!r} has the name of {clash}")
            taken[key.lower()] = "another kept key"
        return value


class ClipConfig(Section):
    """Which CLIP model embeds images and captions."""

    name: DatasetName = "main"
    model: Filled = Field("ViT-B-32-quickgelu", description="open_clip model; `embedded`: the project's own")
    pretrained: FilePath | None = Field("openai", description="open_clip tag, or path of a checkpoint")
    model_config_file: FilePath | None = Field(None, description="open_clip model config (JSON) for `model`")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: Whole = Field(64, gt=0, le=4096)


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
    max_actors: Whole | None = Field(None, gt=0, description="null: as many as the cluster holds")
    attempts: Whole = Field(3, gt=0, description="tries of a shard before it is set aside")

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


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file (or the name of a preset in `configs/`) and apply `section.key=value` overrides.

    Raises:
        ConfigError: the file, a key or a value is wrong; the message is one sentence.
    """
    values = _read(_find(path))
    for override in overrides:
        _override(values, override)
    return parse(values)


def parse(values: Mapping[str, Any]) -> Config:
    """Validate nested mappings into a `Config`; raises `ConfigError`."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


def _find(path: str | Path) -> Path:
    if (found := Path(path)).is_file():
        return found
    if (preset := PRESETS / f"{path}.yaml").is_file() and preset.parent == PRESETS:
        return preset
    raise ConfigError(
        f"No configuration file {str(path)!r}; presets: {', '.join(sorted(p.stem for p in PRESETS.glob('*.yaml')))}."
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        values = _parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no sections (a mapping such as `run: ...`).")
    return values


class _Loader(yaml.SafeLoader):
    """YAML without tags that make objects; a key given twice, of which one would win in silence, is refused."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for (_, key), times in keys.items():
            if times > 1:
                raise ConfigError(f"{key!r} is given {times} times in the section at line {node.start_mark.line + 1}.")
        return node


def _parse_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


def _override(values: dict[str, Any], override: str) -> None:
    path, sign, text = override.partition("=")
    *sections, key = parts = [part.strip() for part in path.split(".")]
    if not sign or not all(parts):
        raise ConfigError(f"--set {override!r}: expected section.key=value.")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {section!r} is no section.")
    try:
        values[key] = _parse_yaml(text)
    except yaml.YAMLError:
        # `*.tar`, `@list` or `{a,b}.tar`: plain text that YAML would want quoted.
        values[key] = text
    except RecursionError:
        raise ConfigError(f"--set {path}: the value is nested too deep.") from None


def _sentence(error: ValidationError) -> str:
    """The first mistake pydantic found, as one sentence with the key's path."""
    first = error.errors(include_url=False)[0]
    names, path = _names_beside(first["loc"])
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1].casefold(), names, 1, 0.4)
        return f"{key}: no such key; did you mean {near[0]!r}?" if near else f"{key}: no such key."
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    if first["type"] == "string_type" and not isinstance(first["input"], Mapping | Sequence | None):
        message += f"; quote it: '{first['input']}'"
    return f"{key}: {message}" if key else message


def _names_beside(location: Sequence[int | str]) -> tuple[list[str], list[str]]:
    """Valid names where a mistake stands, and its path without the engine tag pydantic puts in."""
    model: type[BaseModel] = Config
    path: list[str] = []
    for part in map(str, location):
        if part in SPOTTERS and path == ["spotting"]:
            model = SPOTTERS[part]
            continue
        field = model.model_fields.get(part)
        if field and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
        path.append(part)
    return list(model.model_fields), path
