"""What a model is, as a hash of its files, computed once and remembered."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from moe_safety.errors import InputError, first_line
from moe_safety.models.families import FAMILIES
from moe_safety.rundir import file_digest, in_threads, spent

_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt", ".py")


def fingerprint(path: str, revision: str | None) -> str:
    """sha256 over the names and hashes of the files that make the model and its tokenizer what they are."""
    digest, folder = hashlib.sha256(), local_folder(path, revision)
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name.endswith(_SUFFIXES)]
    with spent("hashing"):
        digests = in_threads(_digest, files)
    for file, its in zip(files, digests, strict=True):
        digest.update(f"{file.name}:{its}\n".encode())
    for name, identity in _brought_family(folder).items():
        digest.update(f"{name}:{identity}\n".encode())
    return digest.hexdigest()


def _brought_family(folder: Path) -> dict[str, str]:
    """The identity of the package that serves this model's family, where another one than this does."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        kinds = [part.get("model_type") for part in (config, config.get("text_config")) if part]
    except (OSError, ValueError, AttributeError):  # What is wrong with it, loading says.
        return {}
    brought = [kind for kind in kinds if kind in _brought_names()]
    if not brought:
        return {}
    return FAMILIES.identity(brought[-1])


@cache
def _brought_names() -> frozenset[str]:
    """The families of other packages, read once: all that is installed is looked through, and every arm asks."""
    return frozenset(point.name for point in entry_points(group="moe_safety.families"))


def local_folder(name: str, revision: str | None) -> Path:
    """The folder itself, or where a hub repository's files are kept, fetched first where they are not there."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    except HFValidationError:
        raise InputError("is not a folder, and cannot be a hub id", file=name) from None
    try:
        patterns = [f"*{suffix}" for suffix in _SUFFIXES]
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except LocalEntryNotFoundError:
        raise _unreachable(name) from None
    except OSError as error:
        raise InputError(f"cannot be fetched: {first_line(error)}", file=name, key="model.name") from None


def check_reachable(name: str, revision: str | None) -> None:
    """Refuses a folder that holds no model, what is no folder and can be no hub repository, and one that is neither in
    the cache nor to be had, at once: transformers asks six times."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if Path(name).exists():
        if not (Path(name) / "config.json").is_file():
            raise InputError("no config.json", file=name)
        return
    try:
        if not isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
            HfApi().model_info(name, revision=revision, timeout=10)
    except HfHubHTTPError:  # There was an answer; the loader says what.
        return
    except HFValidationError:
        raise InputError("not a folder, and not found on the hub or in its cache", file=name) from None
    except Exception:  # Each version of the library has other classes for a network that fails.
        raise _unreachable(name) from None


def _unreachable(name: str) -> InputError:
    told = "is no folder and not in the hub's cache, and the hub cannot be reached"
    return InputError(told, file=name, key="model.name")


def _digest(file: Path) -> str:
    """The hub's cache names a large file by its own sha256."""
    real = file.resolve()
    return real.name if real.parent.name == "blobs" and len(real.name) == 64 else file_digest(real)
