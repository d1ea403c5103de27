"""Tasks of lm-evaluation-harness, for ability beyond the benign prompts. The package comes with the extra `eval`.

The harness asks, and reckons; replicas respond. It is run once to take down its requests, which are items of the plan
as prompts are, and once more on each model's responses.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from moe_safety.config import Config, EvaluateConfig
from moe_safety.errors import InputError
from moe_safety.generation import Engine
from moe_safety.models.text import Chat
from moe_safety.rundir import file_digest

TASKS_SCHEMA = pa.schema([("prompt_id", pa.string()), ("response", pa.string())])
"""A request, as JSON, and the response, as JSON."""
_RESAMPLINGS = 1000
"""Behind the standard error of what is no mean, such as BLEU."""
_EXAMPLES_SEED = 1234
"""The harness's own, so that figures compare with others'."""
_QUIET = {"DISABLE_MULTIPROC": "1", "TQDM_DISABLE": "1"}


def check_harness(config: Config) -> dict[str, str]:
    """What decides the tasks: the package's version, the system prompt, and hashes of their files; an error where tasks
    are asked for and the package is not there."""
    settings = config.evaluate
    if not settings.lm_eval_tasks:
        return {}
    if find_spec("lm_eval") is None:
        raise InputError("needs `pip install moe-safety[eval]`", key="evaluate.lm_eval_tasks")
    files = [task for task in settings.lm_eval_tasks if Path(task).is_file()]
    read = [place for file in files for place in (file, *_data_of(_read_task(file)))]
    known = {"lm_eval": version("lm_eval"), "system prompt": config.data.system}
    return known | {f"task {file}": file_digest(file) for file in read}


def _data_of(task: dict[str, Any]) -> list[str]:
    """The local files that a task reads its questions from, in whatever way it names them."""
    options = task.get("dataset_kwargs") or {}
    folder, given = options.get("data_dir") or "", options.get("data_files") or []
    values = given.values() if isinstance(given, dict) else [given]
    names = [Path(folder, name) for value in values for name in ([value] if isinstance(value, str) else value)]
    whole = [Path(place, "**") for place in (task.get("dataset_path"), folder) if place and Path(place).is_dir()]
    patterns = [str(each) for each in names or whole]
    return [file for each in patterns for file in sorted(glob(each, recursive=True)) if Path(file).is_file()]


@dataclass(frozen=True)
class Solved:
    """What the harness makes of the responses to its requests."""

    metrics: dict[str, dict[str, float]]
    """By task, or group of tasks: each metric, its standard error as `METRIC_stderr`, and `n` questions."""
    shares: dict[str, dict[str, dict[str, float]]]
    """By task, then by metric: what each question gave, of metrics that are a mean of numbers from 0 to 1, more of
    which is better."""


@dataclass
class Harness:
    """The tasks that are asked for, loaded once. They are put as the run's own plain requests are."""

    settings: EvaluateConfig
    system: str = ""
    """What the model is told before each question."""

    def requests(self, chat: Chat) -> list[dict[str, Any]]:
        """All that the tasks ask of a model, each request with its `size` in tokens. None is cut: one that does not fit
        is an error."""
        if not self.settings.lm_eval_tasks:
            return []
        from moe_safety.evaluate.harness_model import KnownModel, tokens_of

        model = KnownModel(chat)
        self._run(model, resamplings=0)
        sizes = {request: tokens_of(chat, request) for request in model.requests}
        longest = max((size for request, size in sizes.items() if not _is_rolling(request)), default=0)
        if longest > self.settings.max_length:
            told = f"a request of a task has {longest} tokens, and nothing is cut; give as many, or fewer examples"
            raise InputError(told, key="evaluate.max_length")
        return [{"prompt_id": request, "size": size} for request, size in sizes.items()]

    def solved(self, chat: Chat, tables: Iterable[pa.Table]) -> Solved:
        """What the harness makes of the responses in an examination's parts."""
        if not self.settings.lm_eval_tasks:
            return Solved({}, {})
        from moe_safety.evaluate.harness_model import KnownModel

        said = {row["prompt_id"]: json.loads(row["response"]) for table in tables for row in table.to_pylist()}
        found = self._run(KnownModel(chat, said), resamplings=_RESAMPLINGS)
        solved = Solved({}, {})
        for name, results in found["results"].items():
            leaves = _leaves(name, found.get("group_subtasks", {}))
            told = {_metric(key): value for key, value in results.items() if isinstance(value, float)}
            known = {key: value for key, value in told.items() if not math.isnan(value)}
            solved.metrics[name] = known | {"n": sum(found["n-samples"][leaf]["effective"] for leaf in leaves)}
            better = {key for leaf in leaves for key, high in found["higher_is_better"].get(leaf, {}).items() if high}
            solved.shares[name] = {
                key: own
                for key, own in _each(found["samples"], leaves).items()
                if key.partition(",")[0] in better and _is_mean_of(own.values(), known.get(key))
            }
        return solved

    @cached_property
    def _tasks(self) -> dict[str, Any]:
        from lm_eval.tasks import TaskManager

        named = [_read_task(task) if Path(task).is_file() else task for task in self.settings.lm_eval_tasks]
        # Its own tasks are thousands of files, which are read only where one of them is named.
        loaded: dict[str, Any] = TaskManager(include_defaults=any(isinstance(one, str) for one in named)).load(named)
        examples = self.settings.lm_eval_fewshot
        for task in loaded["tasks"].values():
            own = task.get_config("num_fewshot")
            # As the harness does it: a task that says 0 has no examples to give.
            if own is None or (own > 0 and examples is not None):
                task.set_config(key="num_fewshot", value=examples or 0)
        return loaded

    def _run(self, model: Any, *, resamplings: int) -> dict[str, Any]:
        """What the harness says of this model. Questions are put by the model's chat template, examples as turns."""
        from lm_eval.evaluator import evaluate

        with _quiet():
            for task in self._tasks["tasks"].values():
                task.set_fewshot_seed(seed=_EXAMPLES_SEED)
            found: dict[str, Any] = evaluate(
                model,
                self._tasks,
                limit=self.settings.lm_eval_limit,
                bootstrap_iters=resamplings,
                system_instruction=self.system or None,
                apply_chat_template=True,
                fewshot_as_multiturn=True,
            )
        return found


def solve_item(settings: EvaluateConfig, engine: Engine, rows: pa.Table) -> pa.Table:
    """An item's requests, on the model as it stands."""
    from moe_safety.evaluate.harness_model import answered, tokens_of

    asked = rows["prompt_id"].to_pylist()
    longest = max(tokens_of(engine.chat, request) for request in asked)
    at_once = max(1, tokens_at_once(settings) // longest)
    said = answered(engine.model, engine.chat, asked, max_length=settings.max_length, at_once=at_once)
    return pa.table({"prompt_id": asked, "response": list(map(json.dumps, said))}, schema=TASKS_SCHEMA)


def tokens_at_once(settings: EvaluateConfig) -> int:
    """Of requests in a forward pass: here logits are kept of every token, so fewer go together."""
    return settings.max_tokens_per_forward // 4


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the harness says nothing of its progress, and resamples in this process."""
    known = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            yield
        finally:
            for name, value in known.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def _is_rolling(request: str) -> bool:
    """Whether it is about a whole text, which the harness reads window by window."""
    return request.startswith('["loglikelihood_rolling"')


def _metric(key: str) -> str:
    """Its name, with the filter of answers that it was computed behind, if any: a task may have several."""
    return key.removesuffix(",none")


def _leaves(name: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks of a group, through the groups in it; of a task itself."""
    return [leaf for one in groups.get(name) or [] for leaf in _leaves(one, groups)] or [name]


def _each(samples: Mapping[str, Sequence[Mapping[str, Any]]], tasks: Sequence[str]) -> dict[str, dict[str, float]]:
    """By metric, the number that each question of these tasks gave."""
    found: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for task in tasks:
        for sample in samples.get(task, ()):
            for name in sample["metrics"]:
                if isinstance(value := sample.get(name), bool | int | float):
                    found[_metric(f"{name},{sample['filter']}")][f"{task}:{sample['doc_id']}"] = float(value)
    return found


def _is_mean_of(values: Collection[float], told: float | None) -> bool:
    if told is None or not values or not all(0 <= value <= 1 for value in values):
        return False
    return math.isclose(told, sum(values) / len(values), abs_tol=1e-6)


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
