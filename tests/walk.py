"""A folder in which what the documents name stands for the demo's: its model, and files of invented words."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

from moe_safety.models.demo.build import demo_folder
from tests.demo import REPLICAS
from tests.documents import PAGES, ROOT, blocks

MODEL = "allenai/OLMoE-1B-7B-0125-Instruct"
SETTINGS = {
    **REPLICAS,
    "respond.max_new_tokens": 24,
    "effects.prompts": 8,
    "identify.top_k": 8,
    "identify.threshold": 0.0,
    "train.num_epochs": 1,
    "train.learning_rate": 3e-3,
    "train.launch": "process",
    "evaluate.max_new_tokens": 24,
    "evaluate.lm_eval_tasks": "[]",
}
"""What a run on so small a model is given on top, to last a minute."""
PLACES = {
    "BASE": MODEL,
    "TUNED": "runs/olmoe-fwo/train/selective-causal+router/final_model",
    "OUT": "out",
    "delta.safetensors": "runs/olmoe-fwo/train/selective-causal+router/delta.safetensors",
    "selection.json": "runs/olmoe-fwo/selection.json",
}
"""What a word by itself stands for."""


def lay_out(folder: Path) -> None:
    """Fills the folder."""
    for name in ("configs", "tune_configs", "ray_jobs", "examples"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(demo_folder() / "attacks.json", folder / "OLMOE-FWO.json")
    shutil.copy(demo_folder() / "benign.jsonl", folder / "helpful.jsonl")
    (my_run,) = (block for block in blocks(PAGES["README.md"], "yaml") if "my-run.yaml" in block)
    (folder / "my-run.yaml").write_text(my_run.replace(MODEL, str(demo_folder())))
    attacks = json.loads((demo_folder() / "attacks.json").read_text())
    for name in ("flipattack", "johnny", "deepinception"):
        place = folder / "rasa" / "experiments" / name
        place.mkdir(parents=True)
        (place / "olmoe_train.json").write_text(json.dumps(attacks[:60]))
        (place / "olmoe_test.json").write_text(json.dumps(attacks[60:70]))
    harmless = [json.loads(line)["messages"][1]["content"] for line in (folder / "helpful.jsonl").open()]
    table(folder / "xstest_prompts.csv", ("prompt", "type", "label"), *((one, "a", "safe") for one in harmless[:10]))
    goals = [row["goal"] for row in attacks[70:80]]
    table(folder / "strongreject_dataset.csv", ("forbidden_prompt",), *((goal,) for goal in goals))


def table(path: Path, *rows: tuple[str, ...]) -> None:
    """Writes a CSV file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def lines_of(page: str) -> list[str]:
    """The commands of a page's console blocks, continued lines together and without what is said of them."""
    text = "\n".join(blocks(page, "console")).replace("\\\n", " ")
    return [" ".join(re.split(r"\s{2,}# | # ", line)[0].split()[1:]) for line in text.splitlines() if line[:1] == "$"]


def arguments(line: str, small: bool = False) -> list[str]:
    """What the documented command is given here; where a real run is made `small`, with the settings of one."""
    words = [PLACES.get(word, word) for word in shlex.split(line)]
    # A submitted job is what it says after `--`.
    words = words[words.index("python") + 1 :] if "submit" in words else words[1:]
    words[0] = {"ray_jobs/pipeline.py": "run"}.get(words[0], words[0])
    given = [f"{key}={value}" for key, value in SETTINGS.items()]
    given += [f"model.name={demo_folder()}"]
    words = [word.replace(MODEL, str(demo_folder())) for word in words]
    if any(word.endswith(".yaml") for word in words):
        words += [part for one in (given if small else given[-1:]) for part in ("--set", one)]
    return words
