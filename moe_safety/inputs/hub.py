"""Reads a dataset of the Hugging Face hub, or a local folder in its form."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from moe_safety.config import Source
from moe_safety.errors import InputError
from moe_safety.inputs.files import Content
from moe_safety.rundir import check_plain

_BUILDERS = {"arrow", "csv", "json", "parquet", "text"}
"""What may read a dataset's files; others of the library's own have unpickled them."""


def open_dataset(source: Source) -> Content:
    """The rows of one split. No code of the dataset runs."""
    dataset = _load(source)
    return Content("dataset", frozenset(dataset.column_names), partial(_rows, dataset, source.label))


def _load(source: Source) -> Any:
    import datasets  # slow to import, and few need it

    datasets.disable_progress_bars()
    options = {"name": source.name, "revision": source.revision}
    try:
        kind = datasets.load_dataset_builder(source.dataset, **options).name
        if kind not in _BUILDERS:
            raise ValueError(f"its files are of the kind {kind!r}, which is not read")
        return datasets.load_dataset(source.dataset, split=source.split, **options)
    except Exception as error:  # the library raises whatever its parts do
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise InputError(f"cannot be loaded as a dataset: {reason}", file=source.label) from None


def _rows(dataset: Any, label: str) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for table in dataset.with_format("arrow").iter(batch_size=1024):
        check_plain(table.schema, label)
        for row in table.to_pylist():
            number += 1
            yield number, row
