"""What `moe-safety inspect` says of a model: its experts, and the memory that the stages will take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from moe_safety.config import ModelConfig
from moe_safety.errors import InputError
from moe_safety.models.inspection.cluster_shapes import CARDS, Enough, enough
from moe_safety.models.inspection.host_memory import HostMemory, host_memory
from moe_safety.models.inspection.memory_forecast import Forecast, Load, forecast
from moe_safety.models.inspection.refused import warnings_of
from moe_safety.models.inspection.sizes import Sizes, measure
from moe_safety.models.io.skeleton import build_skeleton
from moe_safety.models.layout import MoELayout, inspect_model


@dataclass(frozen=True)
class Inspection:
    """All of it; `describe` (describe.py) turns it into lines."""

    model: str
    architecture: str
    dtype: str
    layout: MoELayout
    sizes: Sizes
    load: Load
    forecasts: list[Forecast]
    host: list[HostMemory]
    enough: list[Enough]
    warnings: list[str]
    """What `run` would refuse, or do otherwise than somebody might think."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        sizes = asdict(self.sizes)
        del sizes["layers"]
        return {
            "model": self.model,
            "architecture": self.architecture,
            "dtype": self.dtype,
            "layout": self.layout.to_dict() | {"fingerprint": self.layout.fingerprint()},
            "sizes": sizes,
            "load": asdict(self.load),
            "forecast": [asdict(entry) | {"total": entry.total} for entry in self.forecasts],
            "host_memory": [asdict(entry) for entry in self.host],
            "enough": [entry.to_dict() for entry in self.enough],
            "warnings": self.warnings,
        }


def inspect(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False, chosen: int | None = None
) -> Inspection:
    """Inspects a folder or hub repository by its config alone; forecasts training `chosen` experts, 50 if there are."""
    given = ModelConfig(name=name, revision=revision, trust_remote_code=trust_remote_code)
    model = build_skeleton(name, revision=revision, trust_remote_code=trust_remote_code)
    layout = inspect_model(model)
    there_are = len(layout.experts())
    chosen = min(Load.chosen, there_are) if chosen is None else chosen
    if not 0 < chosen <= there_are:
        raise InputError(f"of its {there_are} experts {chosen} cannot be chosen", file=name)
    dtype = model.config.get_text_config().dtype or torch.bfloat16
    sizes = measure(model, layout)
    load = Load(chosen=chosen, dtype_bytes=dtype.itemsize)
    return Inspection(
        model=name,
        architecture=type(model).__name__,
        dtype=str(dtype).removeprefix("torch."),
        layout=layout,
        sizes=sizes,
        load=load,
        forecasts=forecast(sizes, load),
        host=host_memory(sizes, load),
        enough=[enough(sizes, load, card) for card in CARDS],
        warnings=list(warnings_of(given, model.config)),
    )
