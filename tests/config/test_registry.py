"""Registries: names, mistakes in names, and what other packages bring."""

import sys
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from moe_safety.config.base import Section
from moe_safety.config.load import first_complaint
from moe_safety.config.registry import NameIn, Registry, SectionsOf
from moe_safety.errors import InputError


@dataclass(frozen=True)
class Thing:
    name: str
    section: type[Section] | None = None


class Size(Section):
    width: int = 3


@pytest.fixture
def things():
    registry = Registry("thing", "tests.things")
    for name in ("first", "second"):
        registry.add(Thing(name))
    return registry


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Makes a package that brings things by entry points, as if it were installed."""

    def make(code, **points):
        info = tmp_path / "brought-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.2\n")
        lines = [f"{name} = {place}" for name, place in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[tests.things]", *lines]))
        (tmp_path / "brought_things.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "brought_things", raising=False)

    return make


CODE = "from dataclasses import dataclass\n@dataclass\nclass T:\n    name: str\nthird = T('third')\n"


def test_declarations_keep_their_order_and_names_are_taken_once(things):
    assert things.names() == ["first", "second"]
    assert [one.name for one in things] == ["first", "second"]
    with pytest.raises(ValueError, match="two declarations of the thing 'first'"):
        things.add(Thing("first"))


def test_a_wrong_name_is_told_with_the_nearest(things):
    with pytest.raises(InputError, match=r"no thing 'secnod', did you mean 'second'\? Known: first, second"):
        things.get("secnod")

    class Uses(Section):
        thing: Annotated[str, NameIn(things)]

    assert Uses(thing="first").thing == "first"
    with pytest.raises(ValidationError, match="did you mean 'second'"):
        Uses(thing="secnod")


def test_what_a_package_brings_is_imported_when_named(things, packaged):
    packaged(CODE, third="brought_things:third")
    assert "third" in things
    assert things.names() == ["first", "second", "third"]
    assert "brought_things" not in sys.modules
    assert things.get("third").name == "third"
    assert things.get("third") is things.get("third")


def test_a_brought_declaration_is_part_of_what_it_decides(things, packaged, tmp_path):
    packaged(CODE, third="brought_things:third")
    (key, value), *rest = things.identity("third").items()
    assert (key, value.split()[0], rest) == ("thing third", "1.2", [])
    assert things.identity("first") == {}
    (tmp_path / "brought_things.py").write_text(CODE + "# another formula\n")
    assert things.identity("third")[key] != value


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise OSError('no such library')", "of brought cannot be loaded: OSError: no such library"),
        ("other = 1", "of brought cannot be loaded: AttributeError"),
        ("class third:\n    name = 'fourth'\n", "calls its thing 'third', which calls itself otherwise"),
    ],
)
def test_a_broken_package_is_one_line(things, packaged, code, told):
    packaged(code, third="brought_things:third")
    with pytest.raises(InputError, match=told):
        things.get("third")


def test_a_folder_declares_each_of_its_files(tmp_path, monkeypatch):
    package = tmp_path / "folder_of_things"
    package.mkdir()
    (package / "__init__.py").write_text("from moe_safety.config.registry import Registry\nR = Registry('t', 'g')\n")
    for name in ("b", "a"):
        (package / f"{name}.py").write_text(
            f"from types import SimpleNamespace as N\nfrom folder_of_things import R\nR.add(N(name='{name}'))\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    import folder_of_things

    folder_of_things.R.add_folder("folder_of_things")
    assert folder_of_things.R.names() == ["a", "b"]


def test_settings_of_declarations_are_strict(things):
    things.add(Thing("sized", Size))

    class Holds(Section):
        given: Annotated[dict[str, Any], SectionsOf(things)] = Field(default_factory=dict)

    held = Holds.model_validate({"given": {"sized": {"width": 4}}})
    assert held.given["sized"] == Size(width=4)
    assert held.model_dump(mode="json") == {"given": {"sized": {"width": 4}}}
    assert Holds.model_validate(held.model_dump(mode="json")) == held
    assert things.settings(held.given, "sized").width == 4
    assert things.settings({}, "sized").width == 3
    assert things.settings({}, "first") is None
    wrong = {
        "given.sized.width: input should be a valid integer": {"sized": {"width": "wide"}},
        "given.sized.with: unknown key, did you mean 'width'": {"sized": {"with": 1}},
        "given.first: the thing 'first' takes no settings": {"first": {}},
        "given.size: there is no thing 'size', did you mean 'sized'": {"size": {}},
    }
    for told, given in wrong.items():
        with pytest.raises(ValidationError) as raised:
            Holds.model_validate({"given": given})
        assert told in str(first_complaint(raised.value, "run.yaml"))
