"""Tensors on their way between the host and a card, for which nobody waits before they are needed."""

from __future__ import annotations

import torch


def sent(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The host's tensor on the device, without waiting for what the device has yet to do."""
    device = torch.device(device)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Fetched:
    """Tensors on their way to the host. Calling it waits for them, and not for what a card was given after them."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        # A card's are copied to memory that is pinned, which nothing but the event says to be full.
        self._tensors = [tensor.to("cpu", non_blocking=tensor.is_cuda) for tensor in tensors]
        cards = {tensor.device for tensor in tensors if tensor.is_cuda}
        self._sent = [torch.cuda.current_stream(card).record_event() for card in cards]

    @property
    def waits(self) -> bool:
        """Whether a card has yet to say them."""
        return bool(self._sent)

    def __call__(self) -> list[torch.Tensor]:
        for event in self._sent:
            event.synchronize()
        return self._tensors
