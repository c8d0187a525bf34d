"""What every section of the configuration is: frozen, and closed to unknown keys."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, model_validator

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

DatasetName = Annotated[str, Field(pattern=NAME_PATTERN)]
"""A dataset's name becomes a folder of the run."""

Whole = Annotated[int, Strict()]
"""An integer; neither `true` nor `"12"` is one."""

Number = Annotated[float, Strict()]
"""A finite number, whole or not."""


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Filled = Annotated[str, AfterValidator(_filled)]
"""Text that is not blank."""


class Section(BaseModel):
    """A frozen part of the configuration that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        # `clip:` with nothing, or only comments, below it is null in YAML.
        return {} if value is None else value
