"""Published scores, for rows below ours in a table: by dataset, as fractions, single runs of their sources.

BLEU of Xu et al. (2015) has no brevity penalty, so it is in the columns without penalty. METEOR is from the version
that each source used. Scores published as a range are left out: CIDEr 0.76 to 0.96 and METEOR 21.3 to 25.2 of soft
models on COCO.
"""

from dataclasses import dataclass

TABLE_1 = "Xu et al. (2015), table 1"
UNKNOWN = "a reimplementation whose source is not recorded here"
CORRECTNESS = "Liu et al. (2017), arXiv 1605.09553"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published model: its name in the table, and scores under the names of our columns."""

    name: str
    scores: dict[str, float]
    source: str


def _captions(
    name: str, bleu1: float, bleu2: float, bleu3: float, bleu4: float, meteor: float, source: str = TABLE_1
) -> Published:
    scores = {"bleu1_free": bleu1, "bleu2_free": bleu2, "bleu3_free": bleu3, "bleu4_free": bleu4, "meteor": meteor}
    return Published(name=name, scores=scores, source=source)


def _mass(name: str, mass: float) -> Published:
    return Published(name=f"Liu et al., {name}", scores={"mass": mass}, source=CORRECTNESS)


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "flickr8k": (
        _captions("Xu et al., soft", 0.670, 0.448, 0.299, 0.195, 0.1893),
        _captions("Xu et al., hard", 0.670, 0.457, 0.314, 0.213, 0.2030),
        _captions("soft, frozen ResNet-50", 0.657, 0.414, 0.271, 0.165, 0.179, UNKNOWN),
        _captions("soft, frozen VGG-16", 0.648, 0.404, 0.259, 0.155, 0.171, UNKNOWN),
    ),
    "flickr30k": (
        _captions("Xu et al., soft", 0.667, 0.434, 0.288, 0.191, 0.1849),
        _captions("Xu et al., hard", 0.669, 0.439, 0.296, 0.199, 0.1846),
        _mass("uniform", 0.32),
        _mass("learned", 0.38),
        _mass("supervised", 0.43),
    ),
    "coco": (
        _captions("Xu et al., soft", 0.707, 0.492, 0.344, 0.243, 0.2390),
        _captions("Xu et al., hard", 0.718, 0.504, 0.357, 0.250, 0.2304),
    ),
}
"""The published models by the dataset's name in `attend prepare`."""
