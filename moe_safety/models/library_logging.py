"""Keeps libraries from writing between a command's own lines."""

from __future__ import annotations

import os

import torch
from transformers.utils import logging


def quiet() -> None:
    """Errors are raised anyway; what is left are warnings and progress bars."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if not torch.cuda.is_available():
        # Told what it would find out anyway, DeepSpeed does not warn of it.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
