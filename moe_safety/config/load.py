"""Reads the YAML, applies `--set`, and turns every complaint into one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from moe_safety.config.base import UNION_TAGS, UNKNOWN_KEY
from moe_safety.config.root import Config
from moe_safety.errors import InputError


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """The resolved configuration of `path`, with each `key.path=value` of `overrides` put in place."""
    values = read_yaml(path)
    for override in overrides or []:
        apply_override(values, override)
    return parse_config(values, path)


def parse_config(values: dict[str, Any], source: str | Path) -> Config:
    """Checks plain values strictly; `source` is the file that an error names."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise first_complaint(error, source) from None


def dump_config(config: Config) -> str:
    """The configuration as YAML that loads to the same configuration."""
    return dump_yaml(config.model_dump(mode="json", by_alias=True))


def dump_yaml(plain: dict[str, Any]) -> str:
    """The YAML text of plain data, keys in their order."""
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; an error of one line where there is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", file=path) from None
    except UnicodeDecodeError:
        raise InputError("not valid UTF-8", file=path) from None
    values = _parsed(text, file=path)
    if not isinstance(values, dict):
        raise InputError("a configuration is a mapping of keys to values", file=path)
    return values


def _parsed(text: str, *, file: object = None, key: str | None = None) -> Any:
    """The value that the text stands for; `file` or `key` is what an error names."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) if file else None
        problem = getattr(error, "problem", None) or "cannot be read"
        raise InputError(
            f"not valid YAML: {problem}", file=file, row=mark.line + 1 if mark else None, key=key
        ) from None
    except ValueError as error:  # Of a tag such as `!!int` before something else.
        raise InputError(f"not valid YAML: {error}", file=file, key=key) from None
    except RecursionError:
        raise InputError("not valid YAML: nested too deeply", file=file, key=key) from None


_MOST_VALUES = 100_000
"""In a configuration, all aliases written out. No honest one comes near; ten lines of aliases of aliases can ask for
more than fits into memory."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `5e-5` as text; here it is the number its writer meant. `2024-01-31` is text. A key given twice is
    an error."""

    def get_single_node(self) -> yaml.Node | None:
        # Checked before anything is constructed: merging with `<<` writes aliases out already.
        node = super().get_single_node()
        if node is not None:
            _check_aliases(node, {})
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Checked here, where a mapping does not yet hold the keys that `<<` merges into it.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise yaml.constructor.ConstructorError(None, None, "a key is not text; quote it", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return node


def _check_aliases(node: yaml.Node, sizes: dict[int, int | None]) -> int:
    """How many values the node holds with its aliases written out; an error if too many, or if it holds itself.
    `sizes` keeps what is known, by a node's identity, and null for the nodes that are being counted."""
    if id(node) not in sizes:
        sizes[id(node)] = None
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        parts = [] if isinstance(node, yaml.ScalarNode) else inner
        sizes[id(node)] = 1 + sum(_check_aliases(part, sizes) for part in parts)
    size = sizes[id(node)]
    if size is None:
        raise yaml.constructor.ConstructorError(None, None, "an alias stands inside what it names", node.start_mark)
    if size > _MOST_VALUES:
        told = f"its aliases, written out, make more than {_MOST_VALUES} values"
        raise yaml.constructor.ConstructorError(None, None, told, node.start_mark)
    return size


# No setting is a date.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Puts `a.b=c` into `values`; the value is read as YAML."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"--set takes key.path=value, not '{override}'")
    set_key(values, key, _parsed(text, key=key))


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Puts `value` at the path `a.b` into `values`."""
    *parents, last = key.split(".")
    place: Any = values
    for parent in parents:
        place = _child(place, parent, key)
        if place is None:
            raise InputError("has no such key to set", key=key)
    if isinstance(place, list):
        if not last.isdigit() or int(last) >= len(place):
            raise InputError(f"the list has no element {last}", key=key)
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise InputError("its parent is not a mapping", key=key)


def _child(place: Any, name: str, key: str) -> Any:
    if isinstance(place, list):
        if not name.isdigit() or int(name) >= len(place):
            raise InputError(f"the list has no element {name}", key=key)
        return place[int(name)]
    if not isinstance(place, dict):
        raise InputError("its parent is not a mapping", key=key)
    if place.get(name) is None:
        place[name] = {}
    return place[name]


def first_complaint(error: ValidationError, source: str | Path, section: str = "") -> InputError:
    """As one line; `section` is where in the file the model stands that was read."""
    # An unknown key explains the missing one beside it, so it is told first.
    first = min(error.errors(), key=lambda complaint: complaint["type"] != UNKNOWN_KEY)
    # Tags are the names pydantic puts in for the members of a union; no key has such a name.
    parts = [str(part) for part in first["loc"] if part not in UNION_TAGS]
    where = ".".join([section, *parts] if section else parts) or None
    if first["type"] == "missing":
        return InputError("a value is required", file=source, key=where)
    message = str(first["msg"]).removeprefix("Value error, ")
    return InputError(message[0].lower() + message[1:], file=source, key=where)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]
