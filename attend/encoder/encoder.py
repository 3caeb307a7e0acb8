"""Images -> features (N, L, D) with any timm backbone. The only file that knows timm."""

import hashlib
import itertools
import math
from functools import partial
from typing import Self

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional as F

from attend import config
from attend.encoder.weights import _backbone, _reason


class Encoder(nn.Module):
    """A timm backbone (or one of OWN) without classifier and pooling. ``seed`` is that of random weights.

    ``forward`` takes images (N, 3, S, S) as uint8 and returns features (N, L, D), the cells row by row. It is always
    in evaluation mode (fixed BatchNorm statistics); only the last ``tune_blocks`` blocks have gradients.

    Attributes:
        size: S, side of the input in pixels.
        grid: (rows, columns), L = rows x columns.
        width: D.
        interpolation: how the backbone wants images resized.

    Raises:
        ValueError: an unknown backbone, weights that cannot be had or do not fit, a stride it has not.
    """

    def __init__(self, settings: config.Encoder, seed: int = 0) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = _backbone(settings, seed)
        data = timm.data.resolve_model_data_config(self.backbone)
        self.size = settings.size or data["input_size"][-1]
        self.interpolation = data["interpolation"]
        mean, std = (data["mean"], data["std"]) if settings.pixels == "backbone" else ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)
        self.requires_grad_(False).eval()
        self._hashed: tuple[list[tuple[int, int]], str] = ([], "")
        self.stage = None
        blank = torch.zeros(1, 3, self.size, self.size)
        with torch.no_grad():
            try:
                maps = self._maps(blank)
            except (AssertionError, RuntimeError, TypeError) as error:
                raise ValueError(
                    f"{settings.name} cannot read images of {self.size} px ({_reason(error)}): choose another "
                    "encoder.size, or leave it out"
                ) from None
            if settings.stride is not None:
                self.stage, maps = self._stage_of(settings.stride, blank)
        _, self.width, rows, columns = maps.shape
        self.grid = settings.grid or (rows, columns)
        if settings.tune_blocks:
            self._tune(settings.tune_blocks, blank)

    def forward(self, images: Tensor) -> Tensor:
        maps = self._maps((images - self.mean) / self.std)
        if self.settings.grid is not None:
            maps = F.adaptive_avg_pool2d(maps, self.grid)
        return maps.flatten(2).transpose(1, 2)  # (N, L, D)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: statistics are fixed also while blocks are tuned."""
        return super().train(False)

    def fingerprint(self) -> str:
        """Hash of the weights, so that features of other weights are never taken for these.

        It is computed again only if a weight has been moved or written since: every checkpoint records it.
        """
        tensors = list(self.backbone.state_dict().values())
        versions = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        if versions != self._hashed[0]:
            digest = hashlib.sha256()
            for tensor in tensors:
                digest.update(tensor.cpu().contiguous().numpy())
            self._hashed = versions, digest.hexdigest()[:16]
        return self._hashed[1]

    def tuned(self) -> list[nn.Parameter]:
        """The parameters of the blocks that are tuned."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _maps(self, images: Tensor) -> Tensor:
        """Normalised images -> feature maps (N, D, rows, columns) of every kind of backbone."""
        if self.stage is not None:
            return self._stages(images, [self.stage])[0]
        maps = self.backbone.forward_features(images)
        if maps.ndim == 3:  # tokens of a transformer, its class and register tokens first
            maps = maps[:, getattr(self.backbone, "num_prefix_tokens", 0) :].transpose(1, 2)
            side, tokens = math.isqrt(maps.shape[2]), maps.shape[2]
            if side * side != tokens:
                pixels = tuple(images.shape[-2:])
                raise ValueError(
                    f"the backbone's {tokens} tokens for {pixels} px are no square: choose another encoder.size or "
                    "encoder.name"
                )
            return maps.unflatten(2, (side, side))
        if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC":
            return maps.permute(0, 3, 1, 2)
        return maps

    def _stages(self, images: Tensor, indices: list[int] | None = None) -> list[Tensor]:
        """The feature maps (N, D, rows, columns) of these stages of the backbone, or of all.

        A network without timm's forward_intermediates (VGG before timm 1.0.31) is read where timm lists its stages.
        """
        if hasattr(self.backbone, "forward_intermediates"):
            return self.backbone.forward_intermediates(
                images, indices=indices, intermediates_only=True, stop_early=True, output_fmt="NCHW"
            )
        listed = getattr(self.backbone, "feature_info", None)
        if not listed:
            raise ValueError(f"encoder.stride: {self.settings.name} gives only its last map, leave the stride out")
        names = [listed[i]["module"] for i in (range(len(listed)) if indices is None else indices)]
        maps: dict[str, Tensor] = {}

        def keep(name: str, _module: nn.Module, _inputs: tuple, seen: Tensor) -> None:
            maps[name] = seen

        hooks = [self.backbone.get_submodule(name).register_forward_hook(partial(keep, name)) for name in names]
        try:
            self.backbone.forward_features(images)
        finally:
            for hook in hooks:
                hook.remove()
        return [maps[name] for name in names]

    def _stage_of(self, stride: int, blank: Tensor) -> tuple[int, Tensor]:
        """The last feature map with this stride, and its index before it."""
        stages = self._stages(blank)
        strides = [self.size / one.shape[-1] for one in stages]
        fits = [i for i, there in enumerate(strides) if abs(math.log2(there / stride)) < 0.2]
        if not fits:
            known = ", ".join(str(round(there)) for there in sorted(set(strides)))
            raise ValueError(
                f"encoder.stride is {stride}, but {self.settings.name} at {self.size} px has {known}: choose one"
            )
        return fits[-1], stages[fits[-1]]

    def _tune(self, blocks: int, blank: Tensor) -> None:
        """Give the last blocks gradients; a block is a group of timm's own layer grouping that features pass."""
        self.backbone.requires_grad_(True)
        self._maps(blank).sum().backward()
        named = dict(self.backbone.named_parameters())
        used = {name for name, parameter in named.items() if parameter.grad is not None}
        self.backbone.zero_grad(set_to_none=True)
        self.backbone.requires_grad_(False)
        groups = group_parameters(self.backbone, self.backbone.group_matcher(coarse=False))
        passed = [[name for name in names if name in used] for _, names in sorted(groups.items())]
        passed = [names for names in passed if names]
        if blocks > len(passed):
            raise ValueError(
                f"encoder.tune_blocks is {blocks}, but {self.settings.name} has {len(passed)} blocks: choose fewer"
            )
        for name in itertools.chain.from_iterable(passed[-blocks:]):
            named[name].requires_grad_(True)
