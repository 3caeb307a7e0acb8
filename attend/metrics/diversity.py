"""How varied generated captions are: distinct captions, distinct words, novel captions, and mBLEU between samples.

A caption is the tuple of its words.
"""

from collections.abc import Iterable, Sequence

from attend.metrics.captions import bleu_statistics, corpus_bleu

Words = tuple[str, ...]


def diversity(captions: Sequence[Words], vocabulary: int | None = None) -> dict[str, float]:
    """How many captions and words differ.

    Shapes and units: ``captions`` (N) has one caption per image. ``distinct_captions`` is the number of different
    captions divided by N, ``words_used`` the number of different words in all captions, and ``vocabulary_used`` that
    number divided by the size of the ``vocabulary``, if it is given. All three depend on N: compare systems on the same
    images.

    Raises:
        ValueError: there are no captions.

    Source: van Miltenburg et al. (2018).
    """
    if not captions:
        raise ValueError("there are no captions whose diversity could be measured")
    words = len({word for caption in captions for word in caption})
    found = {"distinct_captions": len(set(captions)) / len(captions), "words_used": float(words)}
    return found | ({"vocabulary_used": words / vocabulary} if vocabulary else {})


def novelty(captions: Sequence[Words], training: Iterable[Words]) -> list[float]:
    """1 for each caption that is not among the ``training`` captions, word for word, and 0 for the others.

    An empty caption is not novel. The training captions are read once and not kept.
    """
    unseen = {caption for caption in captions if caption}
    unseen.difference_update(training)
    return [float(caption in unseen) for caption in captions]


def mbleu(samples: Sequence[Sequence[Words]]) -> float:
    """BLEU-4 of each sample against the other samples of its image, from counts summed over all samples and images.

    Shapes and units: ``samples`` (K, N) are K captions of each of N images. 1 if all samples of an image are equal;
    smaller is more diverse. It grows with K, since more references match more n-grams: compare it at equal K.

    Raises:
        ValueError: there are fewer than two samples of each image, or the numbers of images differ.

    Source: Shetty et al. (2017).
    """
    if len(samples) < 2:
        raise ValueError(f"mBLEU compares the samples of an image, and there is {len(samples)}: draw 2 or more")
    images = [[" ".join(words) for words in image] for image in zip(*samples, strict=True)]
    hypotheses = [caption for image in images for caption in image]
    others = [image[:k] + image[k + 1 :] for image in images for k in range(len(image))]
    statistics = bleu_statistics(hypotheses, others)
    return float(corpus_bleu({name: values.sum() for name, values in statistics.items()})["bleu4"])
