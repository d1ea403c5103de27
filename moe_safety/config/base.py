"""What every section of the configuration shares. Nothing in this package imports torch or Ray."""

from __future__ import annotations

import difflib
import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

UNION_TAGS = frozenset({"derived", "files", "int", "literal['all']", "literal['auto']"})
"""What pydantic calls the members of our unions; an error message leaves these names out."""


class Section(BaseModel):
    """A strict part of the configuration: an unknown key or a wrong type is an error, and values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, given: Any) -> Any:
        """Said here and not by pydantic, since only the section itself knows its keys wherever it stands."""
        known = [field.alias or name for name, field in cls.model_fields.items()]
        if isinstance(given, dict) and (key := next((key for key in given if key not in known), None)) is not None:
            raise complaint_at((key,), cls._of_unknown(key, given[key], known), type_=UNKNOWN_KEY)
        return given

    @classmethod
    def _of_unknown(cls, key: str, value: Any, known: list[str]) -> str:
        """What is to be said of a key that is not known."""
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
        return "unknown key" + (f", did you mean '{near[0]}'?" if near else "")


UNKNOWN_KEY = "unknown_key"
"""The type of pydantic's error for a key that is not known."""


def complaint_at(path: tuple[int | str, ...], message: str, *, type_: str = "value_error") -> ValidationError:
    """What a validator raises whose complaint is about what stands at this path in what it checks."""
    complaint = PydanticCustomError(type_, "{message}", {"message": message})
    return ValidationError.from_exception_data("Section", [{"type": complaint, "loc": path, "input": None}])


def resource(default: Any, **constraints: Any) -> Any:
    """A field that says how work is spread, never what comes out; a stage may be resumed with another value."""
    return Field(default, json_schema_extra={"resource": True}, **constraints)


def results_only(section: BaseModel) -> dict[str, Any]:
    """The section as plain data, without the fields that cannot change a result."""
    plain: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("resource"):
            continue
        value = getattr(section, name)
        plain[name] = results_only(value) if isinstance(value, BaseModel) else _plain(value)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return results_only(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def without_secrets(uri: str) -> str:
    """The URI itself, unless it carries a password or a signature: what a configuration says is kept in manifests."""
    place, _, query = uri.partition("://")[2].partition("?")
    user, at, _ = place.rpartition("@")
    options = {option.partition("=")[0] for option in query.split("&") if option}
    if (at and ":" in user) or options & {"sig", "client_secret", "access_key", "secret_key", "session_token"}:
        raise ValueError("holds a password; give it in the environment (AWS_SECRET_ACCESS_KEY and the like)")
    if unknown := sorted(options - _OPTIONS):
        raise ValueError(f"has an option '{unknown[0]}' that is none of {', '.join(sorted(_OPTIONS))}")
    return uri


_OPTIONS = frozenset(
    {
        "allow_bucket_creation",
        "allow_bucket_deletion",
        "anonymous",
        "blob_storage_authority",
        "blob_storage_scheme",
        "check_directory_existence_before_creation",
        "dfs_storage_authority",
        "dfs_storage_scheme",
        "enable_tls",
        "endpoint_override",
        "force_virtual_addressing",
        "region",
        "retry_limit_seconds",
        "scheme",
        "tls_ca_file_path",
        "tls_verify_certificates",
        "allow_delayed_open",
        "tenant_id",
        "client_id",
    }
)
"""Of pyarrow's file systems, those that are no secret: what is not known to be harmless goes into no manifest."""


def in_full(place: str) -> str:
    """A local path from the root: workers may stand in another folder."""
    return place if "://" in place else os.path.abspath(place)


Place = Annotated[str, AfterValidator(without_secrets), AfterValidator(os.path.expanduser)]
"""A path, in which `~` is the user's home, or a URI."""


def at_least_one(given: str | int) -> str | int:
    """For what may be a word instead of a number: pydantic's own bounds would compare the word too."""
    if isinstance(given, int) and given < 1:
        raise ValueError("is at least 1")
    return given


Count = Annotated[Literal["auto"] | int, AfterValidator(at_least_one)]
"""How many of something, or as many as there is room for."""


class ModelJob(Section):
    """Where the replicas of a model stand while a stage runs. Every stage that loads a model extends this."""

    replicas: Count = resource("auto")
    """Model replicas at work at once; `auto` takes one per GPU, or one per CPU core where there is no GPU."""
    gpus_per_replica: int = resource(1, ge=0)
    """GPUs that one replica spreads over; ignored on a cluster without GPUs."""
    item_timeout: float | None = resource(7200.0, gt=0)
    """Seconds that one work item may take. After that its worker is taken to hang, ended and replaced; an item that
    hangs three times in a row ends the run. No limit if null."""
