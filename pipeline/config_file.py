"""Reading a configuration: a YAML file or preset, overrides, and every mistake told in one `ConfigError` sentence."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config import SPOTTERS, Config

PRESETS = Path(__file__).resolve().parent.parent / "configs"


class ConfigError(ValueError):
    """A mistake in a configuration, told in one sentence."""


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
