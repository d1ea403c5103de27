"""What every section of the configuration shares. Nothing in this package imports torch or Ray."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

UNION_TAGS = frozenset({"derived", "files", "int", "literal['auto']"})
"""What pydantic calls the members of our unions; an error message leaves these names out."""


class Section(BaseModel):
    """A strict part of the configuration: an unknown key or a wrong type is an error, and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


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
    if (at and ":" in user) or any(name.startswith("sig=") for name in query.split("&")):
        raise ValueError("holds a password; give it in the environment (AWS_SECRET_ACCESS_KEY and the like)")
    return uri


Place = Annotated[str, AfterValidator(without_secrets)]
"""A path or a URI."""


class ModelJob(Section):
    """Where the replicas of a model stand while a stage runs. Every stage that loads a model extends this."""

    replicas: Literal["auto"] | int = resource("auto")
    """Model replicas at work at once; `auto` takes one per GPU, or one per CPU core where there is no GPU."""
    gpus_per_replica: int = resource(1, ge=0)
    """GPUs that one replica spreads over; ignored on a cluster without GPUs."""
    item_timeout: float | None = resource(7200.0, gt=0)
    """Seconds that one work item may take. After that its worker is taken to hang, ended and replaced; an item that
    hangs three times in a row ends the run. No limit if null."""
