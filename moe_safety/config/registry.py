"""Registries: the names that a configuration may use, and the declarations behind them.

A registry is empty here. The room that a kind of thing belongs to declares its own, a file each; installed packages
bring more under the registry's entry point group, and these are imported when they are first named.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import core_schema

from moe_safety.config.base import complaint_at
from moe_safety.errors import InputError


class Declaration(Protocol):
    """What a registry holds: anything that has a name."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""
        ...


T = TypeVar("T", bound=Declaration)


@dataclass(eq=False)
class Registry(Generic[T]):
    """The declarations of one kind, by name."""

    kind: str
    """What one of them is, for error messages: `score`, `arm`."""
    group: str
    """The entry point group of other packages' declarations."""
    _own: dict[str, T] = field(default_factory=dict)
    _brought: dict[str, T] = field(default_factory=dict)

    def add(self, one: T) -> T:
        """Adds a declaration, and returns it."""
        if one.name in self._own:
            raise ValueError(f"two declarations of the {self.kind} '{one.name}'")
        self._own[one.name] = one
        return one

    def add_folder(self, package: str) -> None:
        """Imports every module of a package, and of the packages in it, so that each can add what it declares."""
        for module in sorted(one.name for one in pkgutil.walk_packages(import_module(package).__path__, f"{package}.")):
            import_module(module)

    def own(self) -> list[T]:
        """The declarations that come with the program, in their order."""
        return list(self._own.values())

    def brought(self) -> Iterator[T]:
        """The declarations of other packages, by name; each is imported as it is reached."""
        return map(self.get, self.names()[len(self._own) :])

    def names(self) -> list[str]:
        """Ours in the order of declaration, then those of other packages by name."""
        return [*self._own, *sorted(self._plugins.keys() - self._own.keys())]

    def get(self, name: str) -> T:
        """The declaration of this name; an error that suggests the nearest one where there is none. Configurations name
        what is there, so a process that has it not may be a worker on a host that lacks a package."""
        if name in self._own:
            return self._own[name]
        if name not in self._plugins:
            raise InputError(f"{self.unknown(name)}; a package that brings it has to be installed on every host")
        if name not in self._brought:
            self._brought[name] = self._load(self._plugins[name])
        return self._brought[name]

    def unknown(self, name: str) -> str:
        """The error message for an unknown name."""
        near = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.4)
        guess = f", did you mean '{near[0]}'?" if near else "."
        return f"there is no {self.kind} '{name}'{guess} Known: {', '.join(self.names())}"

    def identity(self, name: str) -> dict[str, str]:
        """What a result depends on where it was made by a declaration of another package: that package's version, and
        the digest of the declaration's file. Our own are covered by the formats of the stages."""
        if name in self._own:
            return {}
        one, plugin = self.get(name), self._plugins[name]
        where = type(one) if not inspect.isclass(one) else one
        file = inspect.getsourcefile(import_module(plugin.module)) or inspect.getsourcefile(where)
        digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else "unknown"
        version = plugin.dist.version if plugin.dist else "unknown"
        return {f"{self.kind} {name}": f"{version} {digest}"}

    def settings(self, given: Mapping[str, Any], name: str) -> Any:
        """The settings of a declaration, from those given by name; its defaults where none are, and nothing where it
        takes none."""
        section = getattr(self.get(name), "section", None)
        return given[name] if name in given else section and section()

    def __iter__(self) -> Iterator[T]:
        return map(self.get, self.names())

    def __contains__(self, name: str) -> bool:
        return name in self._own or name in self._plugins

    @cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _load(self, plugin: EntryPoint) -> T:
        package = plugin.dist.name if plugin.dist else plugin.module
        try:
            one = plugin.load()
        except Exception as error:
            told = f"the {self.kind} '{plugin.name}' of {package} cannot be loaded: {type(error).__name__}: {error}"
            raise InputError(told) from error
        if getattr(one, "name", None) != plugin.name:
            raise InputError(f"{package} calls its {self.kind} '{plugin.name}', which calls itself otherwise")
        return one


@dataclass(frozen=True)
class NameIn:
    """Annotates a text of the configuration that has to be a name of a registry: `Annotated[str, NameIn(SCORES)]`."""

    registry: Registry[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, name: str) -> str:
        if name not in self.registry:
            raise ValueError(self.registry.unknown(name))
        return name


@dataclass(frozen=True)
class SectionsOf:
    """Annotates the part of the configuration that holds settings of declarations by their names, as `scores.NAME`:
    `Annotated[dict[str, Any], SectionsOf(SCORES)]`. A declaration that takes settings has a `section`, their class."""

    registry: Registry[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        as_plain = core_schema.plain_serializer_function_ser_schema(_plain)
        return core_schema.no_info_plain_validator_function(self._check, serialization=as_plain)

    def _check(self, given: Any) -> dict[str, BaseModel]:
        if not isinstance(given, dict):
            raise ValueError(f"settings by the name of a {self.registry.kind}")
        return {str(name): self._parse(str(name), value) for name, value in given.items()}

    def _parse(self, name: str, value: Any) -> BaseModel:
        if name not in self.registry:
            raise complaint_at((name,), self.registry.unknown(name))
        section: type[BaseModel] | None = getattr(self.registry.get(name), "section", None)
        if section is None:
            raise complaint_at((name,), f"the {self.registry.kind} '{name}' takes no settings")
        try:
            return section.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            raise complaint_at((name, *first["loc"]), first["msg"], type_=first["type"]) from None


def _plain(value: dict[str, BaseModel]) -> dict[str, Any]:
    return {name: section.model_dump(mode="json") for name, section in value.items()}
