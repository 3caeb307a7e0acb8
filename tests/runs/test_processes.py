"""Several processes train the run that one would: a real pair of them, and what each takes of a minibatch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace as replaced
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from attend.experiments.cli.errors import LOST, sentence
from attend.experiments.cli.main import VERBS

from attend.config import Config, Estimator
from attend.config.catalogue import FACTS
from attend.config.text import from_dict, replace, to_dict
from attend.data.batches import Batches
from attend.data.examples import Source
from attend.data.prepared import Prepared, write_prepared
from attend.data.stores import Store, fill_store
from attend.estimators import ESTIMATORS, Learner
from attend.estimators.baselines import BASELINES, Average
from attend.estimators.noise import Noise
from attend.evaluation import generate, teacher_forced
from attend.model import Model
from attend.runs import processes
from attend.runs.checkpoint import read_checkpoint
from attend.runs.files import read_json, write_json
from attend.training import loop as training
from attend.training.objective import loss_of
from tests import bed, halves
from tests.forks import no_java

TIMES = {"time", "train_seconds", "wait_seconds", "step_seconds", "tokens_per_second"}
SHAPE = (7, 5, 5)
"""Images of the splits: in minibatches of three, two processes have two and one, and in the last, one has none."""
SMALLER = {  # where the grid, two by two, has too many paths, or too few locations
    "enumeration": {"encoder.grid": "1 2"},
    "marginal": {"encoder.grid": "1 2"},
    "unordered-set": {"estimator.samples": 3},
}
CHANGED = [
    {"attention.select": "expected"},
    *({"estimator.name": name} | SMALLER.get(name, {}) for name in ESTIMATORS),
    *({"estimator.baseline": name} for name in BASELINES if name != Estimator.baseline),
    {"attention.feed": "expected", "estimator.name": "enumeration"},
    {"attention.feed": "expected", "estimator.name": "unordered-set", "estimator.samples": 3},
    {"estimator.name": "xu2015-code", "estimator.coin": "minibatch", "objective.doubly_stochastic": 1.0},
    {"objective.doubly_stochastic": 1.0, "objective.reduce": "mean", "objective.target": "length"},
    {"attention.weights": "random", "attention.select": "expected"},
    {"estimator.name": "vimco", "objective.supervised": 0.5},
    {"encoder.tune_blocks": 1, "train.encoder_learning_rate": 0.01},
    {"attention.score": "dot", "attention.heads": 2, "attention.simplex": "sparsemax", "train.clip": 0.0},
    {"decoder.cell": "gru-residual", "decoder.gate": "none", "decoder.readout": "linear", "train.workers": 1},
    *(
        {f"decoder.{name}": value for name, value in decoder.items()} | {"attention.select": "sample"}
        for decoder in (bed.ADAPTIVE, bed.TRANSFORMER)
    ),
    {"attention.select": "expected", "train.training_images": 4},
]


OFTEN = [
    {"attention.select": "expected"},
    {"estimator.name": "unordered-set", "estimator.samples": 3},
    {"estimator.baseline": "learned"},
    {"objective.doubly_stochastic": 1.0, "objective.reduce": "mean", "objective.target": "length"},
    CHANGED[-1],
]
"""What `make test` trains too; `make test-slow` trains all."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Prepared:
    """The halves, but of images with captions of many lengths, and of one without any."""
    root = tmp_path_factory.mktemp("uneven")
    examples = list(Prepared(halves.write(root / "halves", SHAPE, boxes=True)).examples)
    for n, example in enumerate(examples):
        (long, short), most = example.captions, 1 + n % 7
        cut = [
            SimpleNamespace(raw=c.raw, tokens=c.tokens[:most], boxes=c.boxes and c.boxes[:most], phrases=None)
            for c in (long, short)
        ]
        captions = ((), (cut[0],), (short,), (long, cut[1]))[n % 4 if n < 4 else 1 + n % 3]
        examples[n] = SimpleNamespace(image=example.image, split=example.split, captions=captions)
    source = Source(name="uneven", root=root / "halves/images", examples=examples)
    return write_prepared(source, root / "data", minimum_count=1)


def settings(dataset: Prepared, changed: dict) -> Config:
    plain = {
        "data": str(dataset.folder),
        "attention": {"select": "sample", "width": 16},
        "train": {
            "images": 3, "epochs": 1, "monitor": "nll", "log_every": 2, "optimiser": "sgd", "learning_rate": 0.3,
            "clip": 0.5,
        },
    }  # fmt: skip
    return replace(from_dict(halves.SMALL | plain), changed)


def name_of(changed: dict) -> str:
    return "-".join(map(str, changed.values())).replace(" ", "x")


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory, request):
    """Configurations trained by one process (folder "one") and by two ("two"), and a run that changes over.

    Of its copies "begun" is begun by one process and ended by two, "killed" the reverse: SIGKILL ends the main one of
    two. "evaluated" is trained by one and evaluated by two.
    """
    root = tmp_path_factory.mktemp("runs")
    tests = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    asked = [changed for changed in CHANGED if any(test.get("changed") is changed for test in tests)]
    jobs = [job(settings(dataset, changed), root / "two" / name_of(changed)) for changed in asked]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attend.metrics.captions.find_java", no_java)
        for module in (generate, teacher_forced):
            patch.setattr(module, "IMAGES", 2)
        monitored = {"train.epochs": 2, "train.monitor": "cider", "train.checkpoint_minutes": 0.0}
        changing = settings(dataset, monitored | {"search.decode": "sample", "search.beam": 0, "train.log_every": 1})
        training.train(changing, root / "one/changing")
        left_out = shutil.ignore_patterns("scores.json", "evaluations")
        shutil.copytree(root / "one/changing", root / "two/evaluated", ignore=left_out)
        with patch.context() as stopping, pytest.raises(KeyboardInterrupt):
            step = training.Trainer.step
            stopping.setattr(training.Trainer, "step", lambda t, b: stop() if t.progress.step == 4 else step(t, b))
            training.train(changing, root / "two/begun")
        jobs += [job(changing, root / "two" / name, evaluated=True) for name in ("evaluated", "begun", "killed")]
        jobs[-1]["kill"] = 4
        write_json(root / "jobs.json", jobs)
        pair = launched("-m", "tests.several", str(root / "jobs.json"))
        with patch.context() as quick:
            quick.setattr(training, "evaluate", lambda *_, **__: {})
            for changed in asked:
                training.train(settings(dataset, changed), root / "one" / name_of(changed))
        _, said = pair.communicate(timeout=300)
        assert "Signal 9 (SIGKILL)" in said, said[-3000:]
        training.train(changing, root / "two/killed")
    return root


def job(config: Config, folder: Path, evaluated: bool = False) -> dict:
    return {"config": to_dict(config), "folder": str(folder), "evaluated": evaluated}


def stop() -> None:
    raise KeyboardInterrupt


def launched(*arguments: str) -> subprocess.Popen:
    """Two processes that torchrun starts on the CPU, with the repository's root to import from."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], env=environment, **pipes)


def metrics(folder: Path) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def same_training(one: Path, two: Path, config: Config) -> None:
    """Weights to the rounding of sums, and all that was logged; the weights have moved far from their start."""
    (ours, state), (theirs, its) = (read_checkpoint(folder / "checkpoint/last.safetensors") for folder in (two, one))
    began = Model.build(config, Prepared(config.data).vocabulary).tensors()
    assert max(float((theirs[name] - start).abs().max()) for name, start in began.items()) > 0.02
    for name in began:
        assert torch.allclose(ours[name], theirs[name], rtol=0, atol=1e-6), name
    numbers = [
        {k: v for k, v in own["progress"].items() if k not in ("meters", "train_seconds") and v is not None}
        for own in (state, its)
    ]
    assert numbers[0].pop("logged") and numbers[1].pop("logged")
    assert numbers[0].pop("average") == pytest.approx(numbers[1].pop("average"), rel=1e-6)
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-6)
    for line, truth in zip(metrics(two), metrics(one), strict=True):
        assert line.pop("split") == truth.pop("split")
        assert line == pytest.approx(truth, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    "changed",
    [pytest.param(one, id=name_of(one), marks=() if one in OFTEN else pytest.mark.slow) for one in CHANGED],
)
def test_two_processes_train_what_one_does(trained, dataset, changed):
    config, name = settings(dataset, changed), name_of(changed)
    same_training(trained / "one" / name, trained / "two" / name, config)
    told = [read_json(trained / folder / name / "environment.json")["processes"] for folder in ("one", "two")]
    assert told == [1, 2]


@pytest.mark.parametrize("name", ["begun", "killed"])
def test_a_run_is_resumed_by_another_number_of_processes(trained, dataset, name):
    one, two = trained / "one/changing", trained / "two" / name
    same_training(one, two, settings(dataset, {}))
    scores = [read_json(folder / "scores.json") for folder in (one, two)]
    assert scores[0]["given"] == pytest.approx(scores[1]["given"], rel=1e-6)
    assert not list(two.rglob("*.partial")) and not (two / "lease.json").exists()


def test_the_number_of_processes_changes_no_bit_of_an_evaluation(trained):
    one, two = trained / "one/changing", trained / "two/evaluated"
    scores = [
        read_json(folder / "scores.json") | dict.fromkeys(("seconds", "train_seconds"), 0) for folder in (one, two)
    ]
    assert scores[0] == scores[1] and scores[0]["captions"]["rouge_l"] > 0
    (ours,), (theirs,) = ((folder / "evaluations").iterdir() for folder in (two, one))
    for name in ("captions.json", "images.csv"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    with h5py.File(ours / "given.h5") as one, h5py.File(theirs / "given.h5") as two:
        assert one.keys() == two.keys() and len(one["alpha"]) > 0
        assert all(np.array_equal(one[name][:], two[name][:]) for name in one)


@pytest.fixture(scope="module")
def store(dataset, tmp_path_factory) -> Store:
    """Rows that tell which image they are of."""
    folder, count = tmp_path_factory.mktemp("store"), len(dataset.examples)

    def produce(rows: range) -> dict[str, np.ndarray]:
        numbers = np.repeat(np.array(rows, np.float16), 6).reshape(-1, 2, 3)
        return {"inputs": numbers, "size": np.full((len(rows), 2), 32), "affine": np.zeros((len(rows), 4))}

    list(fill_store(folder, count, {"grid": [1, 2]}, produce))
    return Store(folder)


WITHOUT = ("xu2015-code", "expected")
ROWS = [0, 3, 5, 6, 9, 11, 12]


def shares(several: int) -> list[slice]:
    return [processes.share(SimpleNamespace(process_index=n, num_processes=several)) for n in range(several)]


@pytest.mark.parametrize("several", [1, 2, 3, 9])
def test_the_shares_of_a_minibatch_make_it_up(dataset, store, monkeypatch, several):
    """With nine processes two have no image; no process reads the inputs of another."""
    whole, read = Batches(dataset, store)[ROWS], []
    monkeypatch.setattr(
        Store, "_array", lambda self, name, n, *row, own=Store._array: (read.extend(row), own(self, name, n, *row))[1]
    )
    for part in shares(several):
        read.clear()
        mine = Batches(dataset, store, part=part)[ROWS]
        assert torch.equal(mine.whole, whole.lengths) and mine.words.shape[1:] == whole.words.shape[1:]
        for name in ("rows", "inputs", "words", "lengths", "order"):
            assert torch.equal(getattr(mine, name), getattr(whole, name)[part]), name
        assert read == mine.rows.tolist() == mine.inputs[:, 0, 0].tolist()
    places = [place for part in shares(several) for place in range(len(ROWS))[part]]
    assert sorted(places) == list(range(len(ROWS)))


@pytest.mark.parametrize("several", [2, 3, 4])
def test_shares_have_equal_work(several):
    """Of images from the longest to the shortest, two shares differ by less than the longest."""
    lengths = np.sort(np.random.default_rng(0).integers(2, 50, 64))[::-1]
    work = [lengths[part].sum() for part in shares(several)]
    assert max(work) - min(work) < lengths[0] and sum(work) == lengths.sum()


def test_noise_is_that_of_the_whole_minibatch():
    drawn = Noise.draw(
        from_dict({"attention": {"select": "sample"}, "decoder": {"dropout_words": 0.5}}), (5, 2, 3), 0, 0
    )
    for part in shares(2):
        mine = drawn.part(part)
        for name in ("glimpse", "soft"):
            assert torch.equal(getattr(mine, name), getattr(drawn, name)[part])
        for ours, whole in zip(mine.drop, drawn.drop, strict=True):
            assert torch.equal(ours, whole[part])


@pytest.mark.parametrize("several", [1, 2, 3, 9])
def test_what_was_dealt_out_is_gathered_in_its_order(monkeypatch, several):
    items = list("abcdefg")
    monkeypatch.setattr(processes, "gather_object", lambda own: [items[part] for part in shares(several)])
    assert processes.gather(items[shares(several)[0]], None) == items


BOTH = [(name, feed) for feed in ("glimpse", "expected") for name in ESTIMATORS if (name, feed) != WITHOUT]


def learning(config: Config) -> torch.nn.ModuleList:
    """A captioner, and its learner."""
    learner = Learner(config, bed.FEATURES, bed.WORDS).double()
    return torch.nn.ModuleList([bed.captioner(config), learner])


def ruled(name: str, feed: str) -> dict[str, dict]:
    """Settings of an estimator, with two samples if it may have several."""
    rule = {"name": name, "entropy": 0.1} | ({"samples": 2} if FACTS[name].most > 1 else {})
    return {"attention": {"select": "sample", "feed": feed}, "estimator": rule}


@pytest.mark.parametrize(("name", "feed"), BOTH)
def test_the_losses_of_the_parts_add_up(name, feed):
    """And so do their gradients: of images with different numbers of captions, and of none; the penalty is a mean."""
    penalty = {"doubly_stochastic": 0.5, "reduce": "mean"}
    config = bed.settings(**ruled(name, feed), objective=penalty)
    both, a = learning(config), bed.features(3)
    model, learner = both
    words, lengths = bed.captions([[[4, 5, 6, 2], [5, 2]], [[6, 4, 2], []], [[4, 2], []]])
    noise = Noise.draw(config, tuple(words.shape), 0, 0, bed.LOCATIONS)

    def loss(part: slice) -> torch.Tensor:
        batch = replaced(bed.batch(a[part], words[part], lengths[part]), whole=lengths)
        return loss_of(model, a[part], batch, noise.part(part), learner, Average.of([1.3]))[1].total

    whole = loss(slice(None))
    for several in (2, 4):
        parts = sum(loss(part) for part in shares(several))
        assert torch.isclose(parts, whole)
        assert bed.distance(bed.gradient(both, parts), bed.gradient(both, whole)) < 1e-9


EMPTY = [
    {},
    *(ruled(*both) for both in BOTH),
    {"attention": {"select": "sample"}, "estimator": {"baseline": "learned"}},
    {"attention": {"score": "dot", "heads": 2, "width": 4, "simplex": "sparsemax"}},
    {"attention": {"score": "bilinear", "simplex": "entmax"}},
    {"attention": {"weights": "uniform"}},
    {"decoder": {"gate": "vector"}},
    *({"decoder": decoder} for decoder in bed.BLIND.values()),
]


WHOLE = torch.tensor([[3, 2], [2, 2]])
"""Lengths of the whole minibatch: 9 words in 4 captions."""


@pytest.mark.parametrize("sections", EMPTY, ids=str)
def test_a_share_without_images_or_words_has_a_gradient_of_zero(sections):
    """And the whole minibatch has one that is not zero."""
    config = bed.settings(**sections)
    both, (words, lengths) = learning(config), bed.captions([[[4, 5, 2], [5, 2]], [[6, 2], [4, 2]]])
    model, learner = both

    def gradients(images: slice, lengths: torch.Tensor) -> list[torch.Tensor]:
        noise = Noise.draw(config, tuple(words.shape), 0, 0, bed.LOCATIONS).part(images)
        both.zero_grad()
        a = bed.features(2)[images]
        batch = replaced(bed.batch(a, words[images], lengths[images]), whole=WHOLE)
        loss_of(model, a, batch, noise, learner, Average.of([1.0]))[1].total.backward()
        return [p.grad for p in both.parameters() if p.grad is not None]

    assert any(gradient.any() for gradient in gradients(slice(None), lengths))
    for empty in (gradients(slice(2, None), lengths), gradients(slice(1), 0 * lengths)):
        assert empty and not any(gradient.any() for gradient in empty)


AVERAGING = [{"baseline": name} for name in BASELINES if name.startswith("average")]
AVERAGING += [{"baseline": "average", "cost": "sentence"}, {"name": "xu2015-code"}]


@pytest.mark.parametrize("rule", AVERAGING, ids=name_of)
def test_moving_averages_take_in_the_mean_over_all_processes(rule):
    """Which is not the mean of their means, nor that of one process alone."""
    config = bed.settings(attention={"select": "sample"}, estimator=rule)
    model, learner, a = bed.captioner(config), bed.learner(config), bed.features(3)
    words, lengths = bed.captions([[[4, 5, 6, 2], [5, 2]], [[6, 4, 2], []], [[4, 2], []]])
    noise = Noise.draw(config, tuple(words.shape), 0, 0)
    average = Average.of([3.0, 2.0] if rule == {"baseline": "average-per-place"} else [3.0])

    def observed(part: slice) -> torch.Tensor:
        batch = bed.batch(a[part], words[part], lengths[part])
        return loss_of(model, a[part], batch, noise.part(part), learner, average)[1].observed

    def after(sums: torch.Tensor) -> list[float]:
        return [value or 0.0 for value in average.after(sums, 0.5).values()]

    means, whole = [after(observed(part)) for part in shares(2)], after(observed(slice(None)))
    for several in (2, 4):  # the last of four processes has nothing of its own
        assert after(sum(observed(part) for part in shares(several))) == pytest.approx(whole, rel=1e-12)
    assert means[0] != pytest.approx(whole, rel=1e-3) and np.mean(means, 0) != pytest.approx(whole, rel=1e-3)


def environment(monkeypatch, **variables: object) -> None:
    for name, value in ({"MASTER_ADDR": "localhost", "MASTER_PORT": 29500} | variables).items():
        monkeypatch.setenv(name, str(value))


def test_every_other_verb_is_for_one_process(monkeypatch, fails, tmp_path):
    environment(monkeypatch, LOCAL_RANK=0, RANK=0, WORLD_SIZE=2)
    for verb in (v for v in VERBS if v != "train"):
        said = fails(verb, tmp_path, alone=True)
        assert said == f"attend: `attend {verb}` is for one process: start it without torchrun or `accelerate launch`"


def test_other_processes_speak_last_and_say_which_they_are(monkeypatch, fails):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    environment(monkeypatch, LOCAL_RANK=1, RANK=3, WORLD_SIZE=4)
    assert fails("train", "nothing").startswith("attend: process 3: unknown preset")
    assert waited == [5]
    monkeypatch.setenv("RANK", "0")
    assert fails("train", "nothing").startswith("attend: unknown preset") and waited == [5]


def test_more_processes_than_devices_are_refused(monkeypatch):
    environment(monkeypatch, LOCAL_RANK=0, RANK=0, LOCAL_WORLD_SIZE=3, WORLD_SIZE=3)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="3 processes were launched on a machine with 2 devices: launch 2"):
        processes.accelerator(several=True)


def test_products_in_bf16_add_up_in_fp32():
    matmul = torch.backends.cuda.matmul
    matmul.allow_bf16_reduced_precision_reduction = True
    processes.accelerator()
    assert not matmul.allow_bf16_reduced_precision_reduction


def test_a_process_that_was_lost_is_told_of_plainly():
    broken = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:37547"
    assert sentence(RuntimeError(broken)) == LOST


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_all_and_says_why(dataset, tmp_path):
    (tmp_path / "fails.py").write_text("""
import os
from attend.experiments.cli.main import main
from attend.training.loop import Trainer
step = Trainer.step

def fails(trainer, batch):
    if trainer.progress.step == 2 and os.environ["RANK"] == "1":
        raise ValueError("a shard is damaged")
    return step(trainer, batch)

Trainer.step = fails
main()
""")
    options = ["--data", dataset.folder, "--out", tmp_path / "run", "--encoder.name", "resnet10t"]
    options += ["--encoder.weights", "random", "--encoder.size", "32", "--encoder.grid", "2", "2"]
    options += ["--encoder.stride", "8", "--train.images", "3"]
    process = launched(str(tmp_path / "fails.py"), "train", "soft", *map(str, options))
    said = process.communicate(timeout=100)[1].splitlines()
    assert [line for line in said if line.startswith("attend: ")] == ["attend: process 1: a shard is damaged"]
    assert process.returncode and not (tmp_path / "run/lease.json").exists()
