"""A small convolutional network, to be trained from nothing."""

from typing import Any

from torch import Tensor, nn

WIDTHS = (32, 64, 128, 256, 256)
STRIDES = (2, 2, 2, 2, 1)


class SmallCNN(nn.Module):
    """Five blocks of convolution, group normalisation and ReLU: (N, 3, S, S) -> (N, 256, S/16, S/16).

    It has what the encoder asks of a backbone of timm. Groups are normalised instead of minibatches, because the
    encoder keeps statistics fixed.
    """

    pretrained_cfg: dict[str, Any] = {  # noqa: RUF012
        "input_size": (3, 128, 128),
        "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
    }

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        before = 3
        for width, stride in zip(WIDTHS, STRIDES, strict=True):
            convolution = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            self.blocks.append(nn.Sequential(convolution, nn.GroupNorm(8, width), nn.ReLU()))
            before = width

    def forward_features(self, images: Tensor) -> Tensor:
        for block in self.blocks:
            images = block(images)
        return images

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The names of a block's parameters, for timm's grouping."""
        return {"blocks": r"^blocks\.(\d+)"}
