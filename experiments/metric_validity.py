"""What are the caption metrics worth: do they rank captions as people do?

    attend run metric_validity --data DIR      DIR: Flickr8k as distributed, with both files of human judgements

Nothing is trained. Captions that people rated for images of Flickr8k are scored one by one by each metric that tables
report, and Kendall's tau says how far a metric and the people agree on which of two captions is better:

- experts (ExpertAnnotations.txt): tau-c over three ratings of 1 to 4 of each of the 5,664 pairs that do not score an
  image's own caption, each rating a judgement of its own (3 x 5,664);
- crowd (CrowdFlowerAnnotations.txt): tau-b with the share of people who said yes, of 47,830 pairs; an image's own
  captions that were judged are no references of it.

Source: Hodosh et al. (2013) for the judgements; the protocol is that of Anderson et al. (2016) as Hessel et al. (2021),
CLIPScore, appendix A and github.com/jmhessel/clipscore/flickr8k_example, write it down, and the published values are of
their tables 1 and 2.

Differs: CIDEr counts its frequencies over the pairs, theirs over the judgements, so three times each.

Measured in 15 minutes on two cores beside much other work (two minutes of computing), not on a GPU
(experiments/results/metric_validity.md): experts CIDEr 43.9, METEOR 41.8, BLEU-4 30.8; crowd 24.6, 22.3 and 16.9; all
as published but for METEOR of the crowd, 22.2 there.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from attend.analysis.human_judgement import Judgement, agreement, read_captions, read_crowd, read_expert
from attend.analysis.records import Record
from attend.analysis.statistics.intervals import Interval
from attend.analysis.tables.text import bracketed
from attend.analysis.tables.text import markdown as table
from attend.experiments.runner.experiment import Experiment

from attend.chance import numpy_generator
from attend.data.sources.scenes import CONTENT_KINDS, WORD_KINDS, generate
from attend.metrics.captions import score_captions
from attend.runs.files import write_rows, write_text

CAPTIONS, EXPERT, CROWD = "Flickr8k.token.txt", "ExpertAnnotations.txt", "CrowdFlowerAnnotations.txt"
JUDGES = {"experts": (EXPERT, read_expert, "c"), "crowd": (CROWD, read_crowd, "b")}
METRICS = {
    "bleu1": "BLEU-1", "bleu2": "BLEU-2", "bleu3": "BLEU-3", "bleu4": "BLEU-4", "meteor": "METEOR",
    "rouge_l": "ROUGE-L", "cider": "CIDEr",
}  # fmt: skip
PUBLISHED = {  # tau-c of the experts and tau-b of the crowd, in percent: Hessel et al. (2021), tables 1 and 2
    "BLEU-1": (32.3, None),
    "BLEU-4": (30.8, 16.9),
    "METEOR": (41.8, 22.2),
    "ROUGE-L": (32.3, 19.9),
    "CIDEr": (43.9, 24.6),
    "SPICE": (44.9, 24.4),
    "CLIP-S": (51.2, 34.4),
    "RefCLIP-S": (53.0, 36.4),
}
TINY = Path("data/judgements-tiny")
TIME_LIMIT = 3600.0
"""Seconds that METEOR's program may take for 47,830 captions."""


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """No variants: all is done at the end. ``tiny`` makes captions and judgements of its own."""
    if data is None and not tiny:
        raise ValueError(
            f"metric_validity needs --data DIR, the folder of Flickr8k as distributed with {CAPTIONS}, {EXPERT} and "
            f"{CROWD}"
        )
    return Experiment(
        name="metric_validity-tiny" if tiny else "metric_validity",
        variants={},
        seeds={},
        prepare=make if tiny else None,
        conclude=partial(compare, TINY if tiny else data),
    )


def compare(data: Path, records: Sequence[Record], folder: Path) -> list[Path]:
    """Write and print the agreement of each metric with both groups of judges; what is missing is said and left out.

    Raises:
        ValueError: there are no captions, or no judgements of either group.
    """
    captions, found, notes = read_captions(data / CAPTIONS), {}, []
    files = [folder / "metric_validity.md", folder / "metric_validity.csv"]
    for judges, (name, read, variant) in JUDGES.items():
        try:
            judged = read(data / name, captions)
        except ValueError as error:
            notes.append(str(error))
            continue
        found[judges], missing = agreements(judged, variant)
        notes += [f"{METRICS.get(metric, metric)}: {why}" for metric, why in missing.items()]
        write_text(files[0], markdown(found, notes))  # the crowd takes ten times as long as the experts
        write_rows(files[1], numbers(found))
    if not found:
        raise ValueError("; ".join(notes))
    text = markdown(found, notes)
    write_text(files[0], text)
    print(text)
    return files


def agreements(judged: Sequence[Judgement], variant: str) -> tuple[dict[str, Interval], dict[str, str]]:
    """tau of each metric by name, and why a metric is missing."""
    hypotheses = {str(number): one.caption for number, one in enumerate(judged)}
    references = {str(number): one.references for number, one in enumerate(judged)}
    scores = score_captions(hypotheses, references, time_limit=TIME_LIMIT)
    known = {name: scores.images[name] for name in METRICS if name in scores.images}
    return {name: agreement(values, judged, variant=variant) for name, values in known.items()}, scores.missing


def markdown(found: dict[str, dict[str, Interval]], notes: Sequence[str]) -> str:
    """The table in percent, published values beside ours."""
    titles = {"experts": "experts, tau-c", "crowd": "crowd, tau-b"}
    lines = [["Metric", *(part for judges in found for part in (titles[judges], "Hessel et al. (2021)"))]]
    for name in [*METRICS, *(published for published in PUBLISHED if published not in METRICS.values())]:
        title = METRICS.get(name, name)
        lines.append([title])
        for judges, own in found.items():
            theirs = PUBLISHED.get(title, (None, None))[list(JUDGES).index(judges)]
            lines[-1] += [bracketed(own.get(name), 1, scale=100) or "–", "–" if theirs is None else f"{theirs:.1f}"]
    methods = "; ".join(f"{judges}: {next(iter(own.values())).method}" for judges, own in found.items() if own)
    return (
        table(lines)
        + f"\nKendall's tau in percent with 95 % intervals ({methods}).\n"
        + "".join(f"\n{note}\n" for note in notes)
    )


def numbers(found: dict[str, dict[str, Interval]]) -> list[tuple]:
    """A header and one row for each metric and group of judges, as fractions."""
    rows = [("metric", "judges", "variant", "tau", "low", "high", "images", "published")]
    for judges, own in found.items():
        for name, one in own.items():
            theirs = PUBLISHED.get(METRICS[name], (None, None))[list(JUDGES).index(judges)]
            values = (f"{value:.6g}" for value in (one.value, one.low, one.high))
            published = "" if theirs is None else f"{theirs / 100:.3f}"
            rows.append((METRICS[name], judges, JUDGES[judges][2], *values, one.images, published))
    return rows


def make(images: int = 12, seed: int = 0) -> None:
    """Captions of the built-in world for its own and for other images, and people who count the words that are true."""
    rng = numpy_generator("made judgements", seed)
    examples = [example for _, example in generate(train=images, val=0, test=0, size=64)]
    lines = [f"{e.image}#{n}\t{c.raw}" for e in examples for n, c in enumerate(e.captions)]
    content = {word for kind in CONTENT_KINDS for word in WORD_KINDS[kind]}
    true = [{token for c in e.captions for token in c.tokens} & content for e in examples]
    expert, crowd = [], []
    for i, example in enumerate(examples):
        for j in (i, *rng.choice(images, size=6)):
            said = examples[j].captions[int(rng.integers(5))]
            key = f"{examples[j].image}#{examples[j].captions.index(said)}"
            named = content & {*said.tokens}
            share = len(named & true[i]) / len(named)
            ratings = [int(np.clip(round(1 + 3 * share + rng.normal(0, 0.5)), 1, 4)) for _ in range(3)]
            yes = int(rng.binomial(3, share))
            expert.append("\t".join([example.image, key, *map(str, sorted(ratings))]))
            crowd.append("\t".join([example.image, key, f"{yes / 3:.6g}", str(yes), str(3 - yes)]))
    for name, some in ((CAPTIONS, lines), (EXPERT, expert), (CROWD, crowd)):
        write_text(TINY / name, "\n".join(some) + "\n")
