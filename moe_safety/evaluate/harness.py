"""Tasks of lm-evaluation-harness, for ability beyond the benign prompts. The package comes with the extra `eval`."""

from __future__ import annotations

import json
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from moe_safety.config import EvaluateConfig
from moe_safety.errors import InputError
from moe_safety.generation import Engine
from moe_safety.rundir import file_digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TASKS_SCHEMA = pa.schema([("prompt_id", pa.string()), ("metrics", pa.string())])


def check_harness(settings: EvaluateConfig) -> dict[str, str]:
    """Hashes of the task files; an error where tasks are asked for and the package is not there."""
    if settings.lm_eval_tasks and find_spec("lm_eval") is None:
        raise InputError("needs `pip install moe-safety[eval]`", key="evaluate.lm_eval_tasks")
    files = [task for task in settings.lm_eval_tasks if Path(task).is_file()]
    read = [place for file in files for place in (file, *_data_of(_read_task(file)))]
    return {f"task {file}": file_digest(file) for file in read}


def _data_of(task: dict[str, Any]) -> list[str]:
    """The local files that a task reads its questions from, in whatever way it names them."""
    options = task.get("dataset_kwargs") or {}
    folder, given = options.get("data_dir") or "", options.get("data_files") or []
    values = given.values() if isinstance(given, dict) else [given]
    names = [Path(folder, name) for value in values for name in ([value] if isinstance(value, str) else value)]
    whole = [Path(place, "**") for place in (task.get("dataset_path"), folder) if place and Path(place).is_dir()]
    patterns = [str(each) for each in names or whole]
    return [file for each in patterns for file in sorted(glob(each, recursive=True)) if Path(file).is_file()]


def solve_item(settings: EvaluateConfig, engine: Engine, rows: pa.Table) -> pa.Table:
    """An item's task."""
    (task,) = rows["prompt_id"].to_pylist()
    return solve(engine.model, engine.chat.tokenizer, task, settings)


def solve(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: str, settings: EvaluateConfig) -> pa.Table:
    """One task, by its name or its YAML file, on the model as it stands."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    metrics: dict[str, Any] = {}
    asked: Any = _read_task(task) if Path(task).is_file() else task
    answered = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=settings.max_length),
        tasks=[asked],
        log_samples=False,
        bootstrap_iters=0,
    )
    for name, results in answered["results"].items():
        metrics[name] = {_metric(key): value for key, value in results.items() if isinstance(value, float)}
    return pa.table({"prompt_id": [task], "metrics": [json.dumps(metrics)]}, schema=TASKS_SCHEMA)


def _metric(key: str) -> str:
    """Its name, with the filter of answers that it was computed behind, if any: a task may have several."""
    return key.removesuffix(",none")


def _read_task(file: str) -> dict[str, Any]:
    import yaml

    # The task's own class of tags (functions beside the file) is left out: a task is data here, never code.
    try:
        task = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(" ".join(str(error).split()), file=file) from None
    if not isinstance(task, dict):
        raise InputError("a task is a mapping of keys to values", file=file)
    return task
