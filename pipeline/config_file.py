"""Reading a configuration: a YAML file or preset, overrides, and every mistake told in one `ConfigError` sentence."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config import SPOTTERS, Config
from pipeline.plain_yaml import CONTROL, MAX_DEPTH, NotPlainError, load_plain

PRESETS = Path(__file__).resolve().parent.parent / "configs"

MAX_SENTENCE = 500

SOFTWARE = "software"
"""Section of a run.yaml that tells versions and sets nothing."""

_PLAINLY = {
    "model_type": "should be a section, `key: value`",
    "model_attributes_type": "should be a section, `key: value`",
    "dict_type": "should be a section, `key: value`",
    "mapping_type": "should be a section, `key: value`",
    "tuple_type": "should be a list",
    "too_short": "should not be empty",
    "union_tag_invalid": "engine should be one of {expected_tags}",
}
"""pydantic's types of mistakes that its own messages tell in Python's words."""


class ConfigError(ValueError):
    """A mistake in a configuration, told in one sentence: a line of at most MAX_SENTENCE characters."""

    def __init__(self, sentence: str) -> None:
        super().__init__(shortened(" ".join(sentence.split()), MAX_SENTENCE))


def shortened(text: str, length: int) -> str:
    """Text of at most `length` characters, its middle left out."""
    half = (length - 5) // 2
    return text if len(text) <= length else f"{text[:half]} ... {text[-half:]}"


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
    """Validate nested mappings into a `Config`, those of a run.yaml too; raises `ConfigError`."""
    try:
        return Config.model_validate({name: value for name, value in values.items() if name != SOFTWARE})
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


def parse_yaml(text: str | bytes) -> Any:
    """The values of a YAML text, those of JSON; raises `ConfigError`."""
    try:
        return load_plain(text)
    except yaml.MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ConfigError(f"{'' if isinstance(error, NotPlainError) else 'not YAML: '}{error.problem}{line}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {str(error).splitlines()[0]}") from None  # the second names a buffer


def _find(path: str | Path) -> Path:
    try:
        if (found := Path(path)).is_file():
            return found
        if (preset := PRESETS / f"{path}.yaml").is_file() and preset.parent == PRESETS:
            return preset
    except OSError as error:  # a name too long
        raise ConfigError(f"No configuration file {str(path)!r}: {error.strerror}.") from None
    raise ConfigError(
        f"No configuration file {str(path)!r}; presets: {', '.join(sorted(p.stem for p in PRESETS.glob('*.yaml')))}."
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(path.read_bytes())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no sections (a mapping such as `run: ...`).")
    return values


def _override(values: dict[str, Any], override: str) -> None:
    path, sign, text = override.partition("=")
    *sections, key = parts = [part.strip() for part in path.split(".")]
    if not sign or not all(parts):
        raise ConfigError(f"--set {override!r}: expected section.key=value.")
    if len(parts) > MAX_DEPTH or CONTROL.search(override):
        raise ConfigError(f"--set {override!r}: nested too deep, or with a control character, or not UTF-8.")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {section!r} is no section.")
    try:
        values[key] = load_plain(text)
    except yaml.YAMLError as error:
        # `*.tar`, `@list` or `{a,b}.tar`: plain text that YAML would want quoted.
        if isinstance(error, NotPlainError) and text.lstrip()[:1] not in ("*", "&", "!"):
            raise ConfigError(f"--set {path}: {error.problem}.") from None
        values[key] = text


def _sentence(error: ValidationError) -> str:
    """The first mistake pydantic found, a missing key last, as one sentence with the key's path."""
    first = min(error.errors(include_url=False), key=lambda one: one["type"] == "missing")
    names, path = _names_beside(first["loc"])
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1].casefold(), names, 1, 0.4)
        return f"{key}: no such key; did you mean {near[0]!r}?" if near else f"{key}: no such key."
    plain = _PLAINLY.get(first["type"])
    message = plain.format(**first.get("ctx", {})) if plain else first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_type" and not isinstance(first["input"], Mapping | Sequence | None):
        message += f"; quote it: '{first['input']}'"
    return f"{key}: {message}" if key else message


def _names_beside(location: Sequence[int | str]) -> tuple[list[str], list[str]]:
    """Valid names where a mistake stands, and its path without the engine tag pydantic puts in."""
    model: type[BaseModel] = Config
    path: list[str] = []
    for part in map(str, location):
        if part in SPOTTERS and path == ["spotting"] and model is Config:
            model = SPOTTERS[part]
            continue
        if field := model.model_fields.get(part):
            kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if isinstance(kind, type)]
            models = [kind for kind in kinds if issubclass(kind, BaseModel)]
            model = models[0] if len(models) == 1 else model
        path.append(part if part.strip() else repr(part))
    return list(model.model_fields), path
