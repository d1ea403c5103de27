"""The run directory. Every read and write of a stage goes through here, on any filesystem that pyarrow knows."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from safetensors import SafetensorError

from moe_safety.config import without_secrets
from moe_safety.errors import InputError, RunError
from moe_safety.rundir.digests import (
    PIECE,
    file_digest,
    in_threads,
    remember_digest,
    remember_stream_digest,
    stream_digest,
)
from moe_safety.rundir.parquet import open_parquet
from moe_safety.rundir.timings import spent
from moe_safety.rundir.unfinished_files import half_written, remove_abandoned


class Missing(InputError):
    """A file that another stage left, and that is not there, or no longer."""


class RunDir:
    """A folder or an object store's prefix. A file is there whole or not at all: writes are atomic."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        if "://" in uri:
            self.filesystem, self.root = open_uri(uri, "run_dir")
        else:
            self.filesystem, self.root = fs.LocalFileSystem(), os.path.abspath(uri)
        self.is_local = isinstance(self.filesystem, fs.LocalFileSystem)

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers may stand in another folder, so a local path travels as an absolute one.
        return RunDir, (self.uri if "://" in self.uri else self.root,)

    def path(self, name: str) -> str:
        """The full path of `name`, which cannot lead out of the run directory."""
        if name.startswith("/") or "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise InputError(f"'{name}' is not a path inside the run directory")
        return f"{self.root}/{name}"

    def uri_of(self, name: str) -> str:
        """What opens `name` from anywhere: its path, or its URI with the run directory's own options."""
        if self.is_local:
            return self.path(name)
        place, question, options = self.uri.partition("?")
        return f"{place.rstrip('/')}/{self.path(name).removeprefix(self.root + '/')}{question}{options}"

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self.filesystem.get_file_info(self.path(name)).type == fs.FileType.File

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """Files directly in `folder` whose names end in `suffix`, as names inside the run directory, sorted."""
        found = (info for info in self._listed(folder) if info.type == fs.FileType.File)
        return sorted(
            f"{folder}/{i.base_name}" for i in found if i.base_name.endswith(suffix) and i.base_name[0] != "."
        )

    def _listed(self, folder: str, *, recursive: bool = False) -> list[fs.FileInfo]:
        """What is in a folder; nothing where it is not there."""
        selector = fs.FileSelector(self.path(folder), recursive=recursive, allow_not_found=True)
        try:
            return self.filesystem.get_file_info(selector)
        except FileNotFoundError:
            # Another process made or cleared the folder between pyarrow's two looks at it.
            return self.filesystem.get_file_info(selector)

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there."""
        # Another command may do the same.
        with suppress(FileNotFoundError):
            if self.exists(name):
                self.filesystem.delete_file(self.path(name))

    def files(self, folder: str) -> list[str]:
        """Every file below `folder`, as names inside the run directory, sorted."""
        found = (info.path for info in self._listed(folder, recursive=True) if info.type == fs.FileType.File)
        return sorted(f"{folder}/{path[len(self.path(folder)) + 1 :]}" for path in found)

    def copy(self, name: str, target: str) -> None:
        """Copies a file within the run directory."""
        self.filesystem.copy_file(self.path(name), self.path(target))

    def link(self, name: str, target: str) -> None:
        """Copies a file that will not change any more; on a local disk the two share their bytes."""
        if not self.is_local:
            self.copy(name, target)
            with self.filesystem.open_input_stream(self.path(target)) as stream:
                return remember_stream_digest(stream, self.uri_of(target), self.digest(name))
        os.makedirs(os.path.dirname(self.path(target)), exist_ok=True)
        digest = self.digest(name)
        try:
            os.link(self.path(name), self.path(target))
        except OSError:  # Not every file system knows links.
            return self.copy(name, target)
        # A link is a change of the file, and makes it another to whoever remembers its digest.
        for each in (name, target):
            remember_digest(Path(self.path(each)), digest)

    def delete_folder(self, folder: str) -> None:
        """Deletes a folder and all that is in it, if it is there."""
        if self.filesystem.get_file_info(self.path(folder)).type == fs.FileType.Directory:
            self.filesystem.delete_dir(self.path(folder))

    @contextmanager
    def filling(self, folder: str) -> Iterator[Path]:
        """A local folder whose files become those of `folder`. Not atomic: what names them, written after, is."""
        with refusals(self.path(folder)):
            if self.is_local:
                os.makedirs(self.path(folder), exist_ok=True)
                yield Path(self.path(folder))
                return
            with tempfile.TemporaryDirectory() as local:
                yield Path(local)
                with spent("writing"):
                    self.filesystem.create_dir(self.path(folder))
                    fs.copy_files(local, self.path(folder), destination_filesystem=self.filesystem, chunk_size=PIECE)

    @contextmanager
    def reading_file(self, name: str) -> Iterator[Path]:
        """A local file with the contents of `name`."""
        if self.is_local:
            yield Path(self.path(name))
            return
        with tempfile.TemporaryDirectory() as local:
            self.fetch(name, Path(local, Path(name).name))
            yield Path(local, Path(name).name)

    @contextmanager
    def reading(self, folder: str) -> Iterator[Path]:
        """A local folder with the files of `folder`."""
        if self.is_local:
            yield Path(self.path(folder))
            return
        with tempfile.TemporaryDirectory() as local:
            fs.copy_files(self.path(folder), local, source_filesystem=self.filesystem, chunk_size=PIECE)
            yield Path(local)

    def fetch(self, name: str, target: Path) -> None:
        """Copies one file to a local disk."""
        fs.copy_files(self.path(name), str(target), source_filesystem=self.filesystem, chunk_size=PIECE)

    def read_bytes(self, name: str) -> bytes:
        """The contents of a file."""
        with self.filesystem.open_input_stream(self.path(name)) as stream:
            return stream.read()

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a file atomically."""
        with spent("writing"), self.writing(name) as path:
            Path(path).write_bytes(data)

    def read_json(self, name: str) -> Any:
        """The contents of a JSON file."""
        try:
            return json.loads(self.read_bytes(name))
        except FileNotFoundError:
            raise Missing("is not there; another command may be doing that stage again", file=self.path(name)) from None
        except ValueError:
            raise InputError("is not JSON", file=self.path(name)) from None

    def write_json(self, name: str, value: Any) -> None:
        """JSON knows no NaN and no infinity: what could not be measured is null."""
        self.write_bytes(name, (json.dumps(_measured(value), indent=1, ensure_ascii=False) + "\n").encode())

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file, or some columns of it, as a table."""
        with self.open_parquet(name) as file:
            return file.read(columns=columns)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Writes a table as Parquet, atomically."""
        with spent("writing"), self.writing(name) as path:
            pq.write_table(table, path)

    def open_parquet(self, name: str) -> pq.ParquetFile:
        """Opens a Parquet file, to read its table piece by piece."""
        return open_parquet(self.path(name), self.path(name), self.filesystem)

    @spent("hashing")
    def digest(self, name: str) -> str:
        """sha256 of the file's bytes."""
        if self.is_local:
            return file_digest(self.path(name))
        with self.filesystem.open_input_stream(self.path(name)) as stream:
            return stream_digest(stream, self.uri_of(name))

    @spent("hashing")
    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """Those of several files, which are hashed at the same time."""
        names = list(names)
        return dict(zip(names, in_threads(self.digest, names), strict=True))

    @contextmanager
    def writing(self, name: str) -> Iterator[str]:
        """A local file to fill. It becomes `name` when the block ends well, and vanishes when it does not."""
        target = self.path(name)
        half = half_written(target) if self.is_local else _scratch()
        with refusals(target, "; nothing was overwritten"), half as filled:
            yield filled
            with spent("writing"):
                self.put(filled, name)

    def remove_abandoned(self) -> None:
        """Deletes what writers left that were killed."""
        if self.is_local:
            remove_abandoned(self.root)

    def put(self, filled: str, name: str) -> None:
        """Gives a local file, of the same disk where the run directory is on one, its place; a store gets a copy."""
        if self.is_local:
            with open(filled, "rb") as source:
                os.fsync(source.fileno())
            os.replace(filled, self.path(name))
        else:
            # In one call: an upload that Python code could interrupt would be closed, and stand there cut short.
            fs.copy_files(filled, self.path(name), destination_filesystem=self.filesystem, chunk_size=PIECE)


def place_of(uri: str) -> tuple[RunDir, str]:
    """The folder in which a path or URI stands, and its name there."""
    place, question, options = uri.partition("?")
    folder, slash, name = place.rstrip("/").rpartition("/")
    return RunDir(folder + slash + question + options or "."), name


@contextmanager
def refusals(path: str, also: str = "") -> Iterator[None]:
    """A disk or a store that does not take what is written ends the command with one line."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}{also}") from error
    except SafetensorError as error:
        raise RunError(f"{path}: {error}{also}") from error


def _measured(value: Any) -> Any:
    """The value with null for every number that is none."""
    if isinstance(value, dict):
        return {key: _measured(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_measured(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _scratch() -> Iterator[str]:
    """A file on a local disk, for what goes elsewhere."""
    handle, path = tempfile.mkstemp()
    os.close(handle)
    try:
        yield path
    finally:
        os.unlink(path)


def open_uri(uri: str, key: str) -> tuple[fs.FileSystem, str]:
    """The file system that a URI names, and the path in it; `key` is what an error names. No password is printed."""
    shown = uri.partition("?")[0]
    try:
        without_secrets(uri)
    except ValueError as error:
        raise InputError(f"the URI {error}", key=key) from None
    try:
        filesystem, root = fs.FileSystem.from_uri(uri)
        filesystem.get_file_info(root)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"cannot be opened: {' '.join(str(error).split())}", key=key, file=shown) from None
    return filesystem, root.rstrip("/")
