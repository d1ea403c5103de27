"""What callers of the library hand in, checked: a mistake is one line that names the argument.

Nothing here imports torch before it is handed a tensor, so that tables are computed without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_safety.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Pair = tuple[int, int]
"""An expert: its layer and its number there."""


def require(holds: object, argument: str, complaint: str) -> None:
    """The complaint, unless it holds."""
    if not holds:
        raise InputError(complaint, key=argument)


def a_model(model: object) -> None:
    """A model of transformers."""
    from transformers import PreTrainedModel

    require(isinstance(model, PreTrainedModel), "model", f"is {_kind(model)}, and not a model of transformers")


def whole_number(number: object, argument: str, least: int = 0) -> None:
    """A whole number from `least` on."""
    fits = isinstance(number, Integral) and not isinstance(number, bool) and int(number) >= least
    require(fits, argument, f"is {number!r}, and not a whole number from {least} on")


def real_number(number: object, argument: str, least: float = -np.inf, below: float = np.inf) -> None:
    """A number from `least` on and below `below`."""
    fits = isinstance(number, Real) and not isinstance(number, bool) and least <= float(number) < below
    limits = (f" from {least:g} on" if least > -np.inf else "") + (f" and below {below:g}" if below < np.inf else "")
    require(fits, argument, f"is {number!r}, and not a number{limits}")


def pairs(experts: object, argument: str = "experts") -> list[Pair]:
    """(layer, expert) pairs of whole numbers, each once, in the order that they came in."""
    require(_is_many(experts), argument, f"is {_kind(experts)}, and not a list of (layer, expert) pairs")
    found = [_plain(pair) for pair in _many(experts)]
    for pair in found:
        fits = isinstance(pair, list | tuple) and len(pair) == 2 and all(map(_is_whole, pair))
        require(fits, argument, f"{pair!r} is not a (layer, expert) pair")
    return list(dict.fromkeys((int(layer), int(expert)) for layer, expert in found))


def whole_numbers(numbers: object, argument: str) -> list[int]:
    """A flat list of whole numbers, from whatever holds them."""
    require(_is_many(numbers), argument, f"is {_kind(numbers)}, and not a list of whole numbers")
    found = list(_many(numbers))
    odd = next((number for number in found if not _is_whole(number)), None)
    require(odd is None, argument, f"holds {odd!r}, which is not a whole number")
    return [int(number) for number in found]


def counts_array(given: Any, argument: str, axes: str) -> np.ndarray:
    """Whole numbers from 0 on, with as many axes as are named."""
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError):
        array = np.empty(0, object)
    require(array.dtype.kind in "iuf", argument, f"is {_kind(given)}, and not numbers of one shape [{axes}]")
    wanted = len(axes.split(", "))
    require(array.ndim == wanted, argument, f"has the shape {list(array.shape)}, and not [{axes}]")
    require((array >= 0).all() and (array == np.floor(array)).all(), argument, "holds what is no count")
    return array


def table(given: Any, argument: str, columns: Sequence[str]) -> None:
    """A data frame with these columns and at least one row."""
    import pandas as pd

    require(isinstance(given, pd.DataFrame), argument, f"is {_kind(given)}, and not a table of pandas")
    missing = next((column for column in columns if column not in given), None)
    require(missing is None, argument, f"has no column '{missing}'")
    require(len(given), argument, "has no row")


def token_ids(given: Any, argument: str, model: PreTrainedModel) -> None:
    """[rows, length] of the model's tokens."""
    _tensor(given, argument)
    require(given.ndim == 2, argument, f"has the shape {list(given.shape)}, and not [rows, length]")
    require(given.numel(), argument, f"is empty: its shape is {list(given.shape)}")
    require(_holds_integers(given), argument, f"is of type {_type(given)}, and token ids are whole numbers")
    _known_tokens(int(given.min()), int(given.max()), argument, model)


def mask(given: Any, argument: str, input_ids: torch.Tensor) -> None:
    """0 or 1 for each token."""
    like_ids(given, argument, input_ids)
    require(((given == 0) | (given == 1)).all(), argument, "holds other numbers than 0 and 1")


def labels(given: Any, argument: str, input_ids: torch.Tensor, ignored: int, model: PreTrainedModel) -> None:
    """Labels [rows, length]: the token where it is learned, else `ignored`."""
    like_ids(given, argument, input_ids)
    require(_holds_integers(given), argument, f"is of type {_type(given)}, and token ids are whole numbers")
    learned = given[given != ignored]
    if learned.numel():
        _known_tokens(int(learned.min()), int(learned.max()), argument, model)


def like_ids(given: Any, argument: str, input_ids: torch.Tensor) -> None:
    """A tensor of the ids' shape."""
    _tensor(given, argument)
    shape, wanted = list(given.shape), list(input_ids.shape)
    require(shape == wanted, argument, f"has the shape {shape}, and input_ids {wanted}")


def entries(given: Any, argument: str, names: Iterable[str]) -> None:
    """A dict with these entries."""
    require(isinstance(given, Mapping), argument, f"is {_kind(given)}, and not a dict")
    missing = next((name for name in names if name not in given), None)
    require(missing is None, argument, f"has no '{missing}'")


def token_lists(given: Any, argument: str, model: PreTrainedModel) -> list[list[int]]:
    """Lists of the model's tokens, none of them empty."""
    require(_is_many(given), argument, f"is {_kind(given)}, and not a list of token-id lists")
    rows = list(_many(given))
    require(rows, argument, "is empty")
    for number, row in enumerate(rows):
        require(_is_many(row), argument, f"row {number} is {_kind(row)}, and not a list of token ids")
        rows[number] = whole_numbers(row, f"{argument}, row {number}")
        require(rows[number], argument, f"row {number} is empty")
        _known_tokens(min(rows[number]), max(rows[number]), f"{argument}, row {number}", model)
    return rows


def _known_tokens(lowest: int, highest: int, argument: str, model: PreTrainedModel) -> None:
    size = model.get_input_embeddings().weight.shape[0]
    odd = lowest if lowest < 0 else highest
    require(0 <= odd < size, argument, f"holds {odd}, and the model's tokens are 0 to {size - 1}")


def _tensor(given: Any, argument: str) -> None:
    import torch

    require(isinstance(given, torch.Tensor), argument, f"is {_kind(given)}, and not a tensor")


def _holds_integers(tensor: torch.Tensor) -> bool:
    import torch

    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _is_many(given: Any) -> bool:
    """Whether it can be gone through, and is no text, no dict and no single number."""
    if isinstance(given, str | bytes | Mapping):
        return False
    return isinstance(given, Iterable) and getattr(given, "ndim", 1) > 0


def _many(given: Any) -> Iterable[Any]:
    return _plain(given)


def _plain(given: Any) -> Any:
    """Of arrays and tensors the numbers in them."""
    return given.tolist() if hasattr(given, "tolist") else given


def _is_whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _kind(given: object) -> str:
    name = type(given).__name__
    return "nothing" if given is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
