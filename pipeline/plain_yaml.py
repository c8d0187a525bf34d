"""YAML of plain values, those of JSON: what is read is no larger than it looks, and comes back as it was written."""

import math
import re
from contextlib import suppress
from typing import Any, NoReturn

import yaml

MAX_DEPTH = 32

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters of no name and no text: controls but white space, and halves of surrogate pairs (bytes not UTF-8)."""

_TAG = "tag:yaml.org,2002:"


class NotPlainError(yaml.MarkedYAMLError):
    """YAML that is not plain."""


def load_plain(text: str | bytes) -> Any:
    """Mappings with text as keys, each given once, lists, text, finite numbers, booleans and null.

    Without aliases no value is in two places, and none grows; a date is text. Control characters are refused:
    YAML's writer does not keep all of them.

    Raises:
        NotPlainError: there is something else.
        yaml.YAMLError: it is no YAML.
    """
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


class _Loader(yaml.SafeLoader):
    # Without those of dates and of "=", which stay text.
    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the class above
        first: [(tag, regexp) for tag, regexp in resolvers if tag not in (f"{_TAG}timestamp", f"{_TAG}value")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if event.anchor is not None:
            _refuse(event, "no anchor and no alias is read: write the value out, or quote it")
        if event.tag is not None:
            _refuse(event, "no tag is read: leave it out, or quote the value")
        if CONTROL.search(getattr(event, "value", "")):
            _refuse(event, f"{event.value!r} has a control character or half a surrogate pair in it")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            _refuse(event, "nested too deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.tag != f"{_TAG}str":
                _refuse(key, "a key that is no text: quote it")
            if key.value in seen:
                _refuse(key, f"{key.value!r} is given twice in one section")
            seen.add(key.value)
        return node

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        with suppress(ValueError, OverflowError):  # `0x_`, or more digits than Python converts
            number: int | float = yaml.SafeLoader.yaml_constructors[node.tag](self, node)
            if math.isfinite(number):
                return number
        _refuse(node, f"{node.value[:40]!r} is no finite number")


_Loader.add_constructor(f"{_TAG}int", _Loader.construct_number)
_Loader.add_constructor(f"{_TAG}float", _Loader.construct_number)


def _refuse(at: Any, problem: str) -> NoReturn:
    raise NotPlainError(problem=problem, problem_mark=at.start_mark)
