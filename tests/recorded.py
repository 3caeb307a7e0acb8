"""A capture without a GPU, for tests of what is captured."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import torch


class Recorded:
    """Doing recorded work is calling it again. As a graph does, it returns the same tensors each time."""

    def __init__(self) -> None:
        self.warmed, self.recorded, self.replayed = 0, 0, 0

    def staged(self, part):
        return part.clone()

    def warm(self, work):
        self.warmed += 1
        return work()

    def record(self, work):
        self.recorded += 1
        kept = []

        def replay():
            self.replayed += 1
            result = work()
            if kept:
                for place, value in zip(tensors(kept[0]), tensors(result), strict=True):
                    place.detach().copy_(value.detach())
            else:
                kept.append(result)
            return kept[0]

        return replay


def tensors(nest) -> list[torch.Tensor]:
    """The tensors in a nest of tuples, dictionaries and dataclasses."""
    if isinstance(nest, torch.Tensor):
        return [nest]
    if is_dataclass(nest):
        nest = [getattr(nest, one.name) for one in fields(nest)]
    elif isinstance(nest, dict):
        nest = list(nest.values())
    return [tensor for part in nest or [] for tensor in tensors(part)]
