"""What each verb of `attend` reads from the command line, and what it does."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from attend.config import LARGEST, Config, Decode, Encoder, Look, Search
from attend.settings import check_field
from experiments.summaries import bounds, summary

OneRun = Annotated[Positional[Path], arg(metavar="RUN")]
Runs = Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)")]
Images = Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE [IMAGE ...]", help_behavior_hint="(required)")]


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """A dataset or the built-in world `scenes` -> a prepared folder: examples, vocabulary and stores."""

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """folder of a dataset, its caption file, or `scenes`"""
    out: Path
    """folder to write"""
    images: Path | None = None
    """folder of the images, where it is not beside the captions"""
    entities: Path | None = None
    """folder of Flickr30k Entities (Annotations/ and Sentences/), for the boxes of the words"""
    layout: Literal["karpathy", "flickr8k", "kaggle", "coco", "classic", "csv", "json"] | None = None
    """layout of the captions; none tells it from the files"""
    split: tuple[float, float, float] = (80, 10, 10)
    """shares of train, val and test, also as 0.8 0.1 0.1, drawn by image where the dataset has no splits of its own"""
    split_seed: int = 0
    """of that draw"""
    captions_per_image: int | None = None
    """captions of every image, drawn where it has more and repeated where it has fewer; none takes all"""
    caption_seed: int = 0
    """of that draw"""
    minimum_count: int = 5
    """how often a word occurs in the training captions to enter the vocabulary"""
    classic: str | None = None
    """write the classic input files (HDF5 and JSON) under this name, as flickr8k, instead of a prepared folder"""
    count: Literal["all", "train"] = "all"
    """captions that the classic word map counts, for words seen more than minimum-count times"""
    maximum_length: int = 52
    """tokens of a caption in the classic files, its two marks among them"""
    strict: bool = False
    """stray entries and missing or unreadable images are errors instead of being skipped"""
    restval: bool = True
    """join COCO's restval to the training split"""
    features: bool = False
    """compute the encoder's features now; otherwise the first run does"""
    compress: bool = False
    """those features: a quarter of the disk where most are 0, as after a ReLU, and read half as fast"""
    encoder: Encoder = field(default_factory=Encoder)


@dataclass(frozen=True, kw_only=True)
class Train(Config):
    """One run: train, evaluate, and leave everything in a run folder. Run it again to resume."""

    out: Path | None = None
    """run folder; none is runs/train/<preset>/seed<k>"""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score the best model of a run in one more way."""

    run: OneRun
    """a run folder"""
    split: Literal["train", "val", "test"] | None = None
    """images to caption; none is test, or val where there is no test split"""
    decode: Decode | None = None
    """context of decoding; none is the run's own"""
    beam: int | None = None
    """width of the beam; 1 is greedy, 0 draws every word from the model, none is the run's own"""
    draws: int = 1
    """how often `sample`, a beam of 0 or random weights draw; scores.json then holds mean and standard deviation"""
    look: Look | None = None
    """weights in place of the run's own: the evaluation controls uniform, centre (a Gaussian), random (drawn for every
    word), shuffled (what the model looks at in another image of the split, at the same word) and oracle (the boxes of
    given captions, so it writes none); or first, the run's own weights at the first word for all of them"""
    bound: int | None = None
    """instead of captioning, bound the likelihood of the given captions with so many paths of each: nats per token of
    the bound that hard attention learns from, of those from 1, 5, 50 and all paths, and of the exact sum where there
    is one"""
    data: Path | None = None
    """prepared dataset, where it has moved since"""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Caption images, and draw where the model looked for each word."""

    run: OneRun
    """a run folder"""
    images: Images
    """image files, or folders of them"""
    out: Path = Path("captions")
    """folder for the pictures"""
    decode: Decode | None = None
    """context of decoding; none is the run's own"""
    beam: int | None = None
    """width of the beam; 1 is greedy, 0 draws every word from the model, none is the run's own"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """An experiment: all its variants and seeds, then a table and pictures. Run it again to go on where it stopped."""

    experiment: Positional[Literal["quickstart", "flickr8k", "world", "arrangements", "bound_or_variance"]]
    """quickstart and flickr8k: soft, hard and uniform attention on the built-in world or on photographs; world: what
    these and the oracle know of that world; arrangements: two well-known ones, soft and hard, on photographs;
    bound_or_variance: what the bound and what sampling cost hard attention, on the built-in world or photographs"""
    data: Path | None = None
    """folder of the dataset, prepared (or for Flickr8k as distributed); none makes the built-in world's"""
    out: Path = Path("runs")
    """folder of all experiments"""
    seeds: int | None = None
    """seeds of every variant; none is the experiment's own"""
    workers: int | None = None
    """runs at once; none is one a core, or one where there is a GPU"""
    only: str | None = None
    """variants to run, separated by commas"""
    set: UseAppendAction[tuple[str, ...]] = ()
    """a field of all variants, as train.epochs=3; may be given several times"""
    tiny: bool = False
    """a twin of some seconds that learns nothing, to see that everything works"""


@dataclass(frozen=True, kw_only=True)
class Estimators:
    """Estimators of hard attention's gradient side by side: bias, variance, time and memory of a step."""

    run: Path | None = None
    """a run folder of hard attention; none is --tiny"""
    tiny: bool = False
    """a made-up minibatch of four locations and three words, where all paths can be summed, for both attention.feed"""
    checkpoints: str = "best"
    """of the run, separated by commas, of fresh, epoch<k> (train.keep_every), best and last; or all"""
    split: Literal["train", "val", "test"] = "val"
    """of the run's data, where the minibatch comes from"""
    images: int = 4
    """in that minibatch"""
    data: Path | None = None
    """prepared dataset, where it has moved since"""
    draws: int = 200
    """of each gradient"""
    samples: int | None = None
    """K of the estimators that take several samples; none is 3 on the tiny minibatch, and as in training on a run"""
    rounds: int = 5
    """of steps in turn, for their time; 0 measures neither time nor memory"""
    only: str | None = None
    """names of estimators, separated by commas; none is all"""
    seed: int = 0
    """of the minibatch and the draws; equal seeds give equal tables, but for time and memory"""
    out: Path = Path("runs/estimators")
    """folder for estimators.csv, estimators.md and the figures"""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Speed and memory, beside a textbook arrangement of the same captioner and beside the floor of this machine."""

    sizes: str = "flickr8k,lite,coco"
    """minibatches to measure, separated by commas"""
    parts: str | None = None
    """what to measure, separated by commas, of train, samples, memory, search, features, waiting, stores, scoring,
    startup, processes and growth; none is all of it"""
    rounds: int = 5
    """how often, in turn; the table has the median, the lowest and the highest"""
    precision: Literal["fp32", "bf16"] | None = None
    """of all but the textbook; none is the faster one here"""
    data: Path | None = None
    """a prepared dataset for the parts that read images and captions; none draws the built-in world"""
    out: Path = Path("runs/bench")
    """folder for bench.json, bench.md and growth.png"""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Compare finished runs."""

    runs: Runs
    """run folders, or folders of them"""
    format: Literal["markdown", "csv"] = "markdown"
    """of the table"""
    columns: str | None = None
    """scores to show, separated by commas"""
    split: str | None = None
    """none is that of the headline scores"""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw runs: learning curves and attention health, or gaze paths and attention maps."""

    what: Positional[Literal["curves", "saccades"]]
    """curves over epochs, or saccades over images"""
    runs: Runs
    """run folders, or folders of them"""
    out: Path = Path("pictures")
    """folder for the pictures"""
    images: int = 4
    """how many images to draw saccades for"""


NEEDS = {
    "caption_seed": "captions_per_image",
    "encoder": "features",
    "compress": "features",
    "count": "classic",
    "maximum_length": "classic",
}
"""Options of `prepare` that another one must go with."""
READING = ("images", "layout", "minimum_count", "captions_per_image", "caption_seed", "strict", "restval", "split",
           "split_seed")  # fmt: skip
CLASSIC = ("maximum_length", "count")


def prepare(command: Prepare) -> None:
    from experiments import sources

    options = {name: getattr(command, name) for name in READING}
    if command.classic is not None:
        _without_effect(command, "the classic files", READING + CLASSIC)
        options |= {name: getattr(command, name) for name in CLASSIC}
        for file in sources.write_classic_files(command.source, command.out, name=command.classic, **options):
            print(file)
        return
    _at_least(1, minimum_count=command.minimum_count)
    if command.source == Path(sources.SCENES) and not command.source.exists():
        _without_effect(command, "the built-in world", ("minimum_count", "features", "compress", "encoder"))
        dataset = sources.prepare_scenes(command.out, minimum_count=command.minimum_count)
    else:
        _without_effect(command, "a prepared folder", (*READING, "entities", "features", "compress", "encoder"))
        dataset = sources.prepare_dataset(command.source, command.out, entities=command.entities, **options)
    sources.say(dataset)
    if command.features:
        print(sources.store_features(dataset, command.encoder, compress=command.compress))
    print(command.out)


def _without_effect(command: Prepare, what: str, used: Sequence[str]) -> None:
    """ValueError for an option that was given and would not be read."""
    plain = Prepare(source=command.source, out=command.out)
    given = [one.name for one in fields(command) if getattr(command, one.name) != getattr(plain, one.name)]
    for name in given:
        option, needed = (f"--{one.replace('_', '-')}" for one in (name, NEEDS.get(name, name)))
        if NEEDS.get(name, name) not in given:
            raise ValueError(f"{option} has no effect without {needed}: leave it out, or give both")
        if name not in ("classic", *used):
            raise ValueError(f"{option} has no effect on {what}: leave it out")


def train(command: Train, preset: str) -> None:
    from attend import training

    config = Config(**{one.name: getattr(command, one.name) for one in fields(Config)})
    folder = command.out or Path("runs") / "train" / preset / f"seed{config.seed}"
    scores = training.train(config, folder)
    if int(os.environ.get("RANK", 0)) == 0:  # of several processes the main one speaks
        print(f"{folder}: {summary(scores)}")


def evaluate(command: Evaluate) -> None:
    from attend import reopen

    options = {name: getattr(command, name) for name in ("split", "decode", "beam", "draws", "look")}
    data = None if command.data is None else str(command.data)
    if command.bound is not None:
        for name in ("decode", "beam", "draws", "look"):
            if getattr(command, name) != getattr(Evaluate, name):
                raise ValueError(f"--{name} has no effect with --bound, which captions nothing: leave one of them out")
        print(*bounds(*reopen.evaluate_bound(command.run, command.bound, data=data, split=command.split)), sep="\n")
        return
    _check_beam(command.beam)
    _at_least(1, draws=command.draws)
    folder, scores = reopen.evaluate_run(command.run, data=data, **options)
    print(f"{folder}: {summary(scores)}")


def caption(command: Caption) -> None:
    from experiments.captioning import caption_images

    _check_beam(command.beam)
    if not command.images:
        raise ValueError("no image is named: give image files, or folders of them, after the run folder")
    for image, text, files in caption_images(
        command.run, command.images, command.out, decode=command.decode, beam=command.beam
    ):
        print(f"{image}: {text or '(no words)'}", *(f"  {file}" for file in files), sep="\n")


def run(command: Run) -> None:
    from experiments import runner

    module = importlib.import_module(f"experiments.{command.experiment}")
    _at_least(1, seeds=command.seeds, workers=command.workers)
    settings = {}
    for one in command.set:
        name, equals, value = one.partition("=")
        if not equals:
            raise ValueError(f"--set {one!r} is no setting: write it as train.epochs=3")
        settings[name] = value
        check_field(name)  # before any data are made
    if command.tiny and command.data is not None:
        raise ValueError("--data has no effect with --tiny, which is of the built-in world: leave one of them out")
    experiment = module.experiment(command.data, command.tiny)
    if command.only:
        experiment = experiment.only(command.only.split(","))
    experiment = experiment.with_settings(settings)
    runner.run(experiment, command.out, command.seeds, command.workers)
    for file in runner.present(experiment, command.out):
        print(file)


def bench(command: Bench) -> None:
    from experiments.bench.floor import SIZES
    from experiments.bench.run import PARTS
    from experiments.bench.run import bench as measure

    parts = ",".join(PARTS) if command.parts is None else command.parts
    chosen = {"sizes": command.sizes.split(","), "parts": parts.split(",")}
    for name, known in (("sizes", SIZES), ("parts", PARTS)):
        for one in chosen[name]:
            if one not in known:
                raise ValueError(f"unknown {name} {one!r}: known are {', '.join(known)}")
    _at_least(1, rounds=command.rounds)
    options = {"rounds": command.rounds, "precision": command.precision, "data": command.data}
    print(*measure(command.out, **chosen, **options), sep="\n")


def estimators(command: Estimators) -> None:
    from attend.facts import FACTS
    from experiments.laboratory.run import laboratory

    if command.run is not None and command.tiny:
        raise ValueError("--tiny has a minibatch of its own and --run that of a run: leave one of them out")
    if command.run is None:
        for name in ("checkpoints", "split", "images", "data"):
            if getattr(command, name) != getattr(Estimators, name):
                raise ValueError(f"--{name} has no effect without --run: leave it out, or name a run")
    only = tuple(FACTS) if command.only is None else tuple(command.only.split(","))
    for name in only:
        if name not in FACTS:
            raise ValueError(f"unknown estimator {name!r}: known are {', '.join(FACTS)}")
    _at_least(2, draws=command.draws)
    _at_least(1, images=command.images, samples=command.samples)
    _at_least(0, rounds=command.rounds, seed=command.seed)
    options = {one.name: getattr(command, one.name) for one in fields(command) if one.name not in ("tiny", "out")}
    said, files = laboratory(command.out, **options | {"only": only})
    print(said, *files, sep="\n")


def table(command: Table) -> None:
    from analysis.records import read_runs
    from analysis.tables import DEFAULT, comparison, render

    columns = command.columns.split(",") if command.columns else DEFAULT
    _named(command.runs)
    print(render(comparison(read_runs(command.runs), columns=columns, split=command.split), command.format))


def plot(command: Plot) -> None:
    from analysis.records import read_runs
    from experiments.pictures import draw_curves, draw_gazes

    _at_least(1, images=command.images)
    _named(command.runs)
    records = read_runs(command.runs, unfinished=command.what == "curves")
    if command.what == "curves":
        files = draw_curves(records, command.out)
    else:
        files = draw_gazes(records, command.out, command.images)
    if not files:
        raise ValueError("these runs have nothing to draw: no attention that is learned, or no epoch that was logged")
    print(*files, sep="\n")


VERBS: dict[str, tuple[type, Callable]] = {
    "prepare": (Prepare, prepare),
    "train": (Train, train),
    "evaluate": (Evaluate, evaluate),
    "caption": (Caption, caption),
    "run": (Run, run),
    "estimators": (Estimators, estimators),
    "bench": (Bench, bench),
    "table": (Table, table),
    "plot": (Plot, plot),
}


def _named(runs: Sequence[Path]) -> None:
    if not runs:
        raise ValueError("no run is named: give run folders, or folders of them, as runs/quickstart")


def _check_beam(beam: int | None) -> None:
    """ValueError for a width that no run could have been configured with."""
    if beam is not None:
        Search(beam=beam)


def _at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and not least <= value <= LARGEST:
            raise ValueError(f"{name} is {value}, but must be {least} to {LARGEST}")
