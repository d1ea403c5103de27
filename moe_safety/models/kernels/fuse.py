"""A model whose norms and rotary embeddings take one pass over memory, where the machine can do that."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from moe_safety.models.kernels.fused_norms import fuse_norms
from moe_safety.models.kernels.fused_rotary import fuse_rotary


def fuse(model: PreTrainedModel) -> PreTrainedModel:
    """The same model; parameters and their names stay. Experts run fused wherever they run through our function.

    Attention leaves cuDNN, for the whole process: that plans anew, for 15 ms and more, whenever a number of rows or a
    length is new, and here it nearly always is.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    return fuse_rotary(fuse_norms(model))
