"""Opens Parquet so that nothing in it is ever unpickled."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from moe_safety.errors import InputError


def open_parquet(source: Any, name: str, filesystem: fs.FileSystem | None = None) -> pq.ParquetFile:
    """A Parquet file of plain types; `name` is what an error calls it."""
    try:
        file = pq.ParquetFile(source, filesystem=filesystem)
    except (pa.ArrowException, ValueError) as error:
        raise broken(name, error) from None
    except FileNotFoundError:
        raise InputError("no such file", file=name) from None
    except OSError as error:
        raise broken(name, error) from None
    check_plain(file.schema_arrow, name)
    return file


def check_plain(schema: pa.Schema, name: str) -> None:
    """Refuses extension types. A library may have registered one whose values unpickle themselves, as Ray Data does,
    and any file can say that a column is of it."""
    for field in schema:
        if not _is_plain(field.type):
            raise InputError(f"column {field.name} is of an extension type, which is not read", file=name)


def broken(name: str, error: Exception) -> InputError:
    """The error for a file that cannot be read as Parquet."""
    return InputError(f"is not a readable Parquet file: {' '.join(str(error).split())[:200]}", file=name)


def _is_plain(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return False
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    if pa.types.is_dictionary(kind):
        inner.append(kind.value_type)
    return all(map(_is_plain, inner))
