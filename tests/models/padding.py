"""Prompts with answers, padded on either side."""

import torch

from moe_safety.models.text.answer_losses import IGNORED


def padded(prompts, answers, side, *, rubbish, room=0):
    """Tokens, labels and mask, with `room` more places than the longest row takes; rubbish stands in padding."""
    width = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)) + room
    ids, labels = torch.full((len(prompts), width), rubbish), torch.full((len(prompts), width), IGNORED)
    mask = torch.zeros_like(ids)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        start = 0 if side == "right" else width - len(prompt) - len(answer)
        end = start + len(prompt) + len(answer)
        ids[row, start:end] = torch.tensor(prompt + answer)
        labels[row, start + len(prompt) : end] = torch.tensor(answer)
        mask[row, start:end] = 1
    return ids, labels, mask
