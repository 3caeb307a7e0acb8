"""Another image for each image, and a word of another image for each word: the baselines that know nothing of both."""

import numpy as np

from attend.chance import numpy_generator


def circle(order: np.ndarray) -> np.ndarray:
    """Another image (N,) for each of N >= 2: they stand in a circle in this ``order``, and each takes the next one."""
    other = np.empty_like(order)
    other[order] = np.roll(order, -1)
    return other


def words_of_others(image: np.ndarray, seed: int) -> np.ndarray:
    """For each of M words, of images (M,), the number of a word drawn from all words of other images.

    It is the word itself if there is one image only.
    """
    rng = numpy_generator("words of other images", seed, len(image))
    chosen = np.arange(len(image))
    if len(np.unique(image)) < 2:
        return chosen
    left = chosen.copy()
    while len(left):
        chosen[left] = rng.integers(len(image), size=len(left))
        left = left[image[chosen[left]] == image[left]]
    return chosen
