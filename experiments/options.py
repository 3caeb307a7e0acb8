"""What each verb of `attend` reads from the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from attend.config import Config, Decode, Encoder, Look

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
class Queued:
    """What experiments and studies have in common: many runs, done in turn by whoever joins."""

    data: Path | None = None
    """folder of the dataset, prepared (or for Flickr8k as distributed); none makes the built-in world's"""
    out: Path = Path("runs")
    """folder of all experiments"""
    workers: int | None = None
    """runs at once; none is one a core, or one where there is a GPU"""
    storage: str | None = None
    """where the runs wait their turn, so that the same command on any machine that shares --out joins the work:
    sqlite:///FILE (one machine), postgresql://USER@HOST/NAME or journal:///FILE (a shared disk); none is a file of
    SQLite's in --out"""
    only: str | None = None
    """variants of an experiment, or a study's kinds of attention, separated by commas; none is all"""
    set: UseAppendAction[tuple[str, ...]] = ()
    """a field of all runs, as train.epochs=3; may be given several times"""
    yes: bool = False
    """do not ask before starting; without a terminal nothing asks"""
    dry_run: bool = False
    """print the plan (runs, steps, time and disk) and stop; data that are not there are prepared first"""
    tiny: bool = False
    """a twin of some seconds that learns nothing, to see that everything works"""


@dataclass(frozen=True, kw_only=True)
class Run(Queued):
    """An experiment: all its variants and seeds, then a table and pictures. Run it again to go on where it stopped."""

    experiment: Annotated[Positional[str | None], arg(metavar="NAME")] = None
    """an experiment by its name (`attend run list` shows them), or a file that declares one: path/to/mine.py"""
    from_study: str | None = None
    """instead of an experiment, the winners of this study on fresh seeds"""
    best: int = 1
    """with --from-study, how many of the best trials of each kind"""
    seeds: int | None = None
    """seeds of every variant; none is the experiment's own"""


@dataclass(frozen=True, kw_only=True)
class Study(Queued):
    """A study: trials of settings with Optuna, as many for each kind of attention. Run it again to go on."""

    study: Annotated[Positional[str], arg(metavar="NAME")]
    """a study by its name (`attend study list` shows them), or a file that declares one: path/to/mine.py"""
    trials: int | None = None
    """trials of each kind; none is the study's own. More may be asked for later"""
    objectives: str | None = None
    """what is sought on validation, separated by commas: cider, bleu4, meteor, nll, mass, pointing, parameters or
    seconds; none is the study's own. Of several there is a Pareto front and no pruning"""
    sampler: str | None = None
    """tpe, random or nsga2; none is the study's own"""
    pruner: str | None = None
    """median, halving, hyperband or none; left out it is the study's own"""
    heartbeat: int = 20
    """seconds between two signs of life of a worker; one that gives none for 120 (or three times as long) is taken for
    dead, and its trial goes on in another"""
    requeue: bool = False
    """put back the trials in whose run folder nobody works, and stop: for a journal, which has no heartbeats"""
    show: bool = False
    """the best trials, what mattered, and pictures, without running anything"""


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
    """Compare finished runs, with intervals over seeds and images."""

    runs: Runs
    """run folders, or folders of them"""
    format: Literal["markdown", "latex", "csv", "html"] = "markdown"
    """of the table"""
    base: str | None = None
    """variant that all others are shown as differences to"""
    columns: str | None = None
    """scores to show, separated by commas"""
    split: str | None = None
    """none is that of the headline scores"""
    published: Literal["flickr8k", "flickr30k", "coco"] | None = None
    """show below what others published on this dataset: single runs, BLEU without brevity penalty"""


Kind = Literal[
    "curves",
    "health",
    "scores",
    "differences",
    "beam",
    "metrics",
    "study",
    "estimators",
    "saccades",
    "gaze",
    "grounding",
]
"""What `attend plot` draws, as in experiments/plotting.KINDS."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw runs, a study or estimators: what was learned, how attention fared, what scores are worth, where it looked.

    curves: learning curves and attention health. health: attention health alone. scores: each variant's scores with
    intervals. differences: those to --base, on the same seeds and images. beam: scores against the width of the beam.
    metrics: rank correlations between the scores of images. study: a study's trials; RUN is the folder of its queue.db,
    or of its runs. estimators: RUN is the folder of an estimators.csv. saccades: gaze paths and attention maps. gaze:
    statistics of the gaze over a split, and how alike paths are. grounding: attention in the boxes of words, by
    kind and size.
    """

    what: Positional[Kind]
    """kind of picture"""
    runs: Runs
    """run folders, or folders of them"""
    out: Path = Path("pictures")
    """folder for the pictures, and for the numbers behind each as CSV"""
    formats: str = "png,pdf,svg"
    """of the pictures, separated by commas, of png, pdf and svg; saccades are png"""
    scores: str | None = None
    """what scores, differences and beam show, separated by commas, named as the columns of `attend table`; none is
    bleu4, meteor and cider, with grounding or with the length ratio"""
    base: str | None = None
    """variant that differences are to; none is the first"""
    split: str | None = None
    """images that scores are of; none is that of the headline scores"""
    ways: bool = False
    """with scores and differences, every way in which runs were decoded, and not the headline's alone"""
    images: int = 4
    """how many images to draw saccades for"""
    image: UseAppendAction[tuple[str, ...]] = ()
    """saccades: an image by its name instead; may be given several times"""
    dots: Literal["attention", "gate", "equal"] = "attention"
    """saccades: what the area of a fixation's dot shows"""
    raw: bool = False
    """saccades: attention maps cell by cell, not smooth"""
    film: bool = False
    """saccades: an animated GIF, word by word, too"""
    decode: Decode | None = None
    """saccades and gaze: the evaluation of hard runs that is shown, as sample; none is that of the headline scores"""
    draws: int = 20
    """saccades and gaze: paths drawn from a hard model's weights"""
    seed: int = 0
    """saccades and gaze: of those draws"""
    people: Path | None = None
    """gaze: a CSV of people's fixations (image, subject, order, x, y) to compare with"""
    data: Path | None = None
    """grounding: prepared dataset of the runs, where it has moved since"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One HTML page of runs that needs nothing else: what was run, scores, curves, and where each model looked."""

    runs: Runs
    """run folders, or folders of them"""
    out: Annotated[Path, arg(aliases=["-o"])] = Path("report.html")
    """file to write"""
    images: int | None = None
    """images in the gallery at most; none is all that were scored"""
    pictures: bool = True
    """lay the maps over small copies of the photographs; without them the page holds none"""
    seed: int | None = None
    """whose gaze the gallery shows; none is the first of each variant"""
    data: Path | None = None
    """prepared dataset, where it has moved since"""
