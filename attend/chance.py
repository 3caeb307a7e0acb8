"""Every random stream, by name. What a stream gives depends on its name and its key alone.

A key begins with the seed of the run. Streams of one key are told apart by numbers that are added to it, which stand
here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

STREAMS: dict[str, tuple[int, ...]] = {
    "training step": (),  # seed, step: semi-sampling, glimpses, places, dropout
    "random weights of a step": (1,),  # seed, step: the control
    "order of an epoch": (),  # seed, epoch
    "training images": (0, 1),  # seed: which are learned from, if not all
    "another image": (),  # seed, number of images: whose attention a shuffled evaluation is shown
    "glimpses of a caption": (),  # seed, draw, row: of a caption that is generated
    "words of a caption": (1,),  # seed, draw, row
    "random weights of a caption": (2,),  # seed, draw, row
    "glimpses of a given caption": (),  # seed, row, caption + 1, and draw + 2 for bounds
    "soft given captions": (1,),  # seed, row, caption + 1 of the first in a minibatch
    "random weights of a given caption": (2,),  # seed, row, caption + 1
    "scene": (),  # seed, number of the split, number of the image
    "words of other images": (),  # seed, number of words: a baseline of grounding
    "another object": (4,),  # row, caption, place: where attention is moved
    "a random box": (5,),  # row, caption, place
    "paths of another image": (),  # seed: a baseline of similarity
    "glimpses of a path": (),  # seed: paths drawn from stored weights
    "fixations on other images": (),  # seed: negatives of the shuffled AUC
    "paths on other images": (1,),  # seed: somebody's path there, beside each person's
    "dots of a cloud": (),  # 0: so that dots of one cell do not cover each other
    "resampled judgements": (),  # seed, number of images
    "made judgements": (),  # seed: of the tiny twin of metric_validity
    "resampled images": (0,),  # seed
    "halves of the images": (1,),  # seed
    "places of the ends": (2,),  # seed
    "resampled ranks": (3,),  # seed
}
"""By name: the numbers that are added to the key, and in the comment the key."""


def numpy_generator(stream: str, *key: int) -> np.random.Generator:
    """numpy's generator of a stream."""
    return np.random.default_rng([*key, *STREAMS[stream]])


def torch_generator(stream: str, *key: int) -> torch.Generator:
    """torch's generator of a stream, on the CPU. It reads 32 bits of the key."""
    import torch

    state = np.random.SeedSequence([*key, *STREAMS[stream]]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(state))


def uniform(shape: tuple[int, ...], stream: str, *key: int) -> np.ndarray:
    """Numbers in [0, 1) as fp32. A shape with more rows begins with the same numbers."""
    return numpy_generator(stream, *key).random(shape, dtype=np.float32)
