"""The images that captions and references have in common, and what is wrong if they do not fit."""

from collections.abc import Sequence
from typing import NamedTuple

from attend.analysis.scoring.files import CaptionSource


class Pairs(NamedTuple):
    """The caption of each image for each source, the references of these images, and the number of images left out."""

    captions: list[dict[str, str]]
    references: dict[str, list[str]]
    left_out: int


def pair(sources: Sequence[CaptionSource], references: CaptionSource, partial: bool = False) -> Pairs:
    """One caption per image of each source, and the references of the same images.

    Images have the names and the order of the first source. If the references have splits, only those splits count in
    which an image is captioned. With ``partial``, images that one of them lacks are left out.

    Raises:
        ValueError: an image has several captions, or one of the sources lacks an image, unless ``partial`` allows it.
    """
    found = [_by_reference(source, references, partial) for source in sources]
    splits = {references.splits.get(image) for captions in found for image in captions}
    wanted = [image for image in references.captions if references.splits.get(image) in splits]
    if not partial:
        for source, captions in zip(sources, found, strict=True):
            lacking = [image for image in wanted if image not in captions]
            if lacking:
                raise ValueError(
                    f"{len(lacking):,} of the {len(wanted):,} images of {references.name} have no caption in "
                    f"{source.name}, as {lacking[0]!r}: add their captions (an empty one scores 0), or score the other "
                    "images alone (--partial)"
                )
    common = [image for image in found[0] if all(image in captions for captions in found)]
    if not common:
        raise ValueError(f"{' and '.join(source.name for source in sources)} have no image in common")
    names = {references.find(image): image for image in sources[0].captions}
    captions = [{names[image]: some[image] for image in common} for some in found]
    known = {names[image]: list(references.captions[image]) for image in common}
    strange = {image for source in sources for image in source.captions if references.find(image) is None}
    return Pairs(captions, known, len({*wanted}.union(*found)) - len(common) + len(strange))


def _by_reference(source: CaptionSource, references: CaptionSource, partial: bool) -> dict[str, str]:
    """The caption of each image, by its name in the references."""
    several = [image for image, texts in source.captions.items() if len(texts) > 1]
    if several:
        image, total = several[0], len(source.captions)
        raise ValueError(
            f"{len(several):,} of the {total:,} images of {source.name} have several captions, as {image!r} with "
            f"{len(source.captions[image])}: give one caption per image; only references may have several"
        )
    captions: dict[str, str] = {}
    unknown = []
    for image, (text,) in source.captions.items():
        known = references.find(image)
        if known is None:
            unknown.append(image)
        elif known in captions:
            raise ValueError(f"{source.name} names the image {known!r} twice, once as {image!r}: keep one caption")
        else:
            captions[known] = text
    if not captions:
        raise ValueError(
            f"no image of {source.name} is in {references.name}: its images are named as {unknown[0]!r}, those of the "
            f"references as {next(iter(references.captions))!r}"
        )
    if unknown and not partial:
        raise ValueError(
            f"{len(unknown):,} of the {len(source.captions):,} images of {source.name} are not in {references.name}, "
            f"as {unknown[0]!r}: add their references, or score the other images alone (--partial)"
        )
    return captions
