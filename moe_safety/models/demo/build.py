"""Builds a demo model and its prompt files once, and keeps them for later runs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from moe_safety.errors import RunError

if TYPE_CHECKING:
    from moe_safety.models.demo.shapes import Shape

TAUGHT = 450
"""Requests of each kind that the base model learns from; the rest are held out, and prompt files use only those."""
EXAMINED = 50
STEPS = 150
MORE_STEPS = 50
PASS_MARK = 0.98


def demo_folder(shape: Shape = "olmoe", seed: int = 0) -> Path:
    """The demo model's folder: a Hugging Face model, `scores.json` and the prompt files; built where missing."""
    folder = _cache() / f"{shape}-{seed}-{_recipe()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            print("demo: its model is built, once; half a minute on idle cores", file=sys.stderr, flush=True)
            _build(folder, shape, seed)
    return folder


def _build(folder: Path, shape: Shape, seed: int) -> None:
    from moe_safety.models.demo import language
    from moe_safety.models.demo.files import write_files
    from moe_safety.models.demo.shapes import new_model
    from moe_safety.models.demo.tokenizer import demo_tokenizer
    from moe_safety.models.demo.train import Pupil, examine, teach
    from moe_safety.models.experts import use_our_experts
    from moe_safety.models.library_logging import quiet

    quiet()
    tokenizer = demo_tokenizer()
    pupil = Pupil(use_our_experts(new_model(shape, tokenizer, seed)), tokenizer)
    lessons = language.requests(True)[:TAUGHT] + language.requests(False)[:TAUGHT]
    held_out = language.requests(True)[TAUGHT:], language.requests(False)[TAUGHT:]
    exam = held_out[0][-EXAMINED:] + held_out[1][-EXAMINED:]

    teach(pupil, lessons, steps=STEPS, seed=seed)
    scores = examine(pupil, exam)
    if min(scores.values()) < PASS_MARK:
        teach(pupil, lessons, steps=MORE_STEPS, seed=seed + 1, learning_rate=1e-3)
        scores = examine(pupil, exam)
    if min(scores.values()) < PASS_MARK:
        raise RunError(f"the demo model ({shape}, seed {seed}) did not learn its world: {scores}")

    # Built aside and put in place whole, so that an interrupted build leaves nothing to mistake for a model.
    aside = Path(tempfile.mkdtemp(dir=folder.parent))
    aside.chmod(0o755)
    pupil.model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    (aside / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    write_files(aside, *(requests[:-EXAMINED] for requests in held_out))
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _cache() -> Path:
    base = os.environ.get("MOE_SAFETY_CACHE") or Path.home() / ".cache" / "moe-safety"
    return Path(base) / "demo"


@cache
def _recipe() -> str:
    """Changes whenever what is built could change: with this package's sources and the libraries below it."""
    digest = hashlib.sha256(f"{version('torch')} {version('transformers')}".encode())
    here = Path(__file__).parent
    below = (here.parent / name for name in ("text/chat.py", "text/encode.py", "experts/forward.py"))
    for source in sorted([*here.glob("*.py"), *below]):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
