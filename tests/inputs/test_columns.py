"""`columns:` of a source may name what some format reads, and nothing else: each declares what it reads."""

from contextlib import suppress

import pytest

from moe_safety.config.data import NUMBERING
from moe_safety.errors import InputError
from moe_safety.inputs import FORMATS
from moe_safety.inputs.record import Context, Record

NAMES = frozenset().union(*(form.columns for form in FORMATS.own()))


class AllThere(frozenset):
    """The columns of a file that has whichever is looked for."""

    def __contains__(self, name):
        return True

    def isdisjoint(self, others):
        return False


class Asked(dict):
    """A row that remembers which columns it was asked for."""

    def __init__(self, values):
        super().__init__(values)
        self.names = set()

    def get(self, name, default=None):
        self.names.add(name)
        return super().get(name, default)


def asked_by(form, role, /, **values):
    turns = [{"role": "user", "content": "blick"}]
    row = Asked({"all_prompt": turns, "messages": turns, **values})
    context = Context("file", role, AllThere(), only_successful=role == "attacks")
    with suppress(InputError):  # Not every row may stand under every role.
        list(form.rows(iter([Record("file", 1, row)]), context))
    return row.names


@pytest.mark.parametrize("form", FORMATS.own(), ids=lambda form: form.name)
def test_they_are_what_the_format_reads(form):
    found = {name for name in NAMES if form.matches({name})}
    for role in ("attacks", "benign", "controls"):
        for goal in ("goal", "prompt"):
            for label in ("safe", "unsafe"):
                found |= asked_by(form, role, **{goal: "blick", "label": label})
        found |= asked_by(form, role, goal="blick", judge_result={"score": 1})
        found |= asked_by(form, role, goal="blick", judge_success_gpt4=True)
        found |= asked_by(form, role, **form.example)
    assert found == form.columns


@pytest.mark.parametrize("name", NUMBERING)
def test_rows_are_numbered_by(name, write, prepare, flip_row):
    rows = [{key: value for key, value in flip_row(n).items() if key != "id"} | {name: 7} for n in range(2)]
    with pytest.raises(InputError, match="has the id '7' of row 1"):
        prepare(write("a.json", rows))
