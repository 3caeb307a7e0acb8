"""Any damage to a document of ours: whoever reads it succeeds, or refuses it in one sentence that names the file."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from attend.analysis.records import one_dataset, read_run
from attend.analysis.report.gallery import gallery
from attend.analysis.scoring.files import read
from attend.analysis.tables.comparison import comparison
from attend.experiments.cli.common import summary
from attend.experiments.export import replay
from hypothesis import given, settings
from hypothesis import strategies as st

from attend.config.text import from_dict
from attend.data.phrases import read_phrases
from attend.data.prepared import Prepared
from attend.data.stores import Store
from attend.evaluation.caption import ImageCaptioner
from attend.evaluation.evaluate import _until_best, training_frequencies
from attend.evaluation.health import standstill
from attend.model import Model
from attend.runs.folder import RunFolder
from attend.runs.lease import clear, held
from attend.runs.processes import accelerator
from attend.training.loop import Trainer, train
from attend.training.start import begin
from tests import halves
from tests.data.test_fuzz_prepared import damaged
from tests.forks import no_java
from tests.made_runs import make_study


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was trained, with its dataset beside it."""
    root = tmp_path_factory.mktemp("own")
    data, folder = halves.write(root / "data", (12, 2, 2), boxes=True), root / "runs/made/hard/seed0"
    (data / "phrases.jsonl").write_text('{"image": "00.png", "boxes": {}, "captions": [[["1", ["a"], 0, 1, "b"]]]}\n')
    loop = halves.SMALL["train"] | {"epochs": 1, "monitor": "nll"}
    config = {"data": str(data), "attention": {"select": "sample", "width": 16}, "train": loop}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attend.metrics.captions.find_java", no_java)
        train(from_dict(halves.SMALL | config), folder)
    training_frequencies(Prepared(data), "simple")
    make_study(root / "runs", "made", study="x", trials=1)
    lease = {"owner": "a", "pid": 1, "host": "elsewhere", "renewed": 0.0}
    (folder / "lease.json").write_text(json.dumps(lease))
    return folder


def data_of(run: Path) -> Path:
    return run.parents[3] / "data"


# Readers


def analysed(run: Path) -> None:
    """All that the analysis makes of a run without its captions."""
    record = read_run(run)
    one_dataset([record])
    assert record.epochs_before >= 0
    for series in ("nll", "change"):
        record.series(series, "val")
    replay.logged(record)
    for path in run.glob("evaluations/*/scores.json"):
        replay.scores(path, 0)
    if record.finished:
        comparison([record])
        summary(record.scores)
    if record.headline():
        gallery([record], data=data_of(run))


def resumed(run: Path) -> None:
    trainer = Trainer(RunFolder(run).config(), RunFolder(run), None, accelerator())
    assert not trainer.stalled and trainer.epochs >= 0


def evaluated(run: Path) -> None:
    standstill({"change": 0.0}, True, _until_best(RunFolder(run)))


def begun(run: Path) -> None:
    """The budget of a run that another begins from; the model itself is read elsewhere."""
    source = RunFolder(run)
    begin(Model.read(source), source)
    assert source.stopped_early in (True, False)


def prepared(run: Path) -> None:
    dataset = Prepared(data_of(run))
    for row in range(len(dataset.examples)):
        assert dataset.image(row).is_relative_to(data_of(run)) or Path(dataset.about["images"]).is_absolute()
    training_frequencies(dataset, "simple")
    read_phrases(dataset.folder)


def stored(run: Path) -> None:
    store = Store(*data_of(run).glob("features-*"))
    store.read("inputs", range(min(2, len(store))))


def leased(run: Path) -> None:
    held(run)
    clear(run)


EVALUATION = "evaluations/test-argmax-beam2"
DOCUMENTS: dict[str, tuple[Callable[[Path], object], ...]] = {
    "config.json": (read_run,),
    "environment.json": (analysed,),
    "scores.json": (analysed, begun),
    f"{EVALUATION}/scores.json": (analysed,),
    f"{EVALUATION}/captions.json": (lambda run: read(run / EVALUATION / "captions.json", "captions"),),
    "metrics.jsonl": (analysed, evaluated),
    "vocabulary.json": (ImageCaptioner,),
    "novelty.json": (ImageCaptioner,),
    "lease.json": (leased,),
    "../../study.json": (read_run,),
    "../../../../data/dataset.json": (prepared,),
    "../../../../data/vocabulary.json": (prepared,),
    "../../../../data/examples.jsonl": (prepared,),
    "../../../../data/phrases.jsonl": (prepared,),
    "../../../../data/frequencies-simple.json": (prepared,),
    "../../../../data/features/store.json": (stored,),
}
"""The documents of a run and of its dataset, and who reads each."""


def read_or_refused(path: Path, read: Callable[[Path], object], run: Path) -> None:
    """With this content, a reader succeeds or says one sentence with the name of the file, and warns of nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(run)
    except ValueError as error:
        said = str(error)
        assert (
            (path.name in said or (path.name == "store.json" and "00000.h5" in said))
            and "\n" not in said
            and not isinstance(error, UnicodeError)
        ), said
        said.encode()


def located(run: Path, name: str) -> Path:
    if "/features/" in name:
        (folder,) = data_of(run).glob("features-*")
        return folder / Path(name).name
    return (run / name).resolve()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_as_they_were_written(run, name):
    assert located(run, name).exists()
    for one in DOCUMENTS[name]:
        one(run)
    if name == "lease.json":  # it was stale
        located(run, name).write_text('{"owner": "a", "pid": 1, "host": "elsewhere", "renewed": 0.0}')


def with_a_field(content: bytes) -> st.SearchStrategy[bytes]:
    """The first object that has fields, with one of them replaced by something that is often wrong."""
    value = json.loads(content)
    wrong = st.sampled_from(
        [
            "a dog",
            "",
            -1,
            10**400,
            0,
            1.5,
            True,
            None,
            [],
            {},
            [[]],
            ["a"],
            {"a": 1},
            float("nan"),
            float("inf"),
            "x\ny",
        ]
    )
    places = [(value, key) for key in value] if isinstance(value, dict) else []
    places += [(value[key], inner) for key in value if isinstance(value, dict) and isinstance(value[key], dict)
               for inner in value[key]]  # fmt: skip

    @st.composite
    def replaced(draw) -> bytes:
        changed = json.loads(content)
        holder, key = draw(st.sampled_from(places)) if places else (None, None)
        if holder is None:
            return content
        part = changed if holder is value else next(changed[k] for k in value if value[k] is holder)
        part[key] = draw(wrong)
        return json.dumps(changed).encode()

    return replaced()


def damage(content: bytes) -> st.SearchStrategy[bytes]:
    deep = st.sampled_from([b"[" * 10_000, b"[" * 900 + b"]" * 900, b'{"a":' * 400 + b"1" + b"}" * 400])
    return damaged(content) | with_a_field(content) | deep


@pytest.mark.parametrize("name", DOCUMENTS)
@given(data=st.data())
def test_damaged(run, name, data):
    path = located(run, name)
    before = path.read_bytes()
    first, _, rest = before.partition(b"\n") if name.endswith("l") else (before, b"", b"")
    path.write_bytes(data.draw(damage(first)) + (b"\n" + rest if name.endswith("l") else b""))
    try:
        for one in DOCUMENTS[name]:
            read_or_refused(path, one, run)
    finally:
        path.write_bytes(before)


# Checkpoints


def parts(path: Path) -> tuple[dict, bytes]:
    """The header of a safetensors file, and what follows."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: bytes, rest: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + rest


CHECKPOINTS = {"best": (ImageCaptioner, evaluated), "last": (resumed,)}


@pytest.mark.parametrize("name", CHECKPOINTS)
@settings(max_examples=max(10, settings().max_examples // 2))
@given(data=st.data())
def test_damaged_states(run, name, data):
    path = run / f"checkpoint/{name}.safetensors"
    before, (header, rest) = path.read_bytes(), parts(path)
    state = data.draw(damage(header["__metadata__"]["state"].encode()))
    header["__metadata__"]["state"] = state.decode("utf-8", "replace")
    path.write_bytes(joined(json.dumps(header).encode(), rest))
    try:
        for one in CHECKPOINTS[name]:
            read_or_refused(path, one, run)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", CHECKPOINTS)
@given(data=st.data())
def test_damaged_headers(run, name, data):
    path = run / f"checkpoint/{name}.safetensors"
    before, (header, rest) = path.read_bytes(), parts(path)
    tensors = [key for key in header if key != "__metadata__"]
    keys = [*data.draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=2)), "__metadata__"]
    few = json.dumps({key: header[key] for key in keys}).encode()
    changed = data.draw(damage(few))
    try:
        other = json.loads(changed)
        changed = json.dumps({key: header[key] for key in header if key not in keys} | other).encode()
    except (ValueError, TypeError, RecursionError):
        pass
    path.write_bytes(joined(changed, rest))
    try:
        for one in CHECKPOINTS[name]:
            read_or_refused(path, one, run)
    finally:
        path.write_bytes(before)


def state_with(run: Path, change: Callable[[dict, dict], None]) -> None:
    """Write last.safetensors with another state, or without some tensors."""
    from safetensors.torch import save

    from attend.runs.checkpoint import KIND, read_checkpoint

    path = run / "checkpoint/last.safetensors"
    tensors, state = read_checkpoint(path)
    change(tensors, state)
    path.write_bytes(save(tensors, metadata={"kind": KIND, "state": json.dumps(state)}))


def progress(**values: object) -> Callable[[dict, dict], None]:
    return lambda tensors, state: state["progress"].update(values)


def without(prefix: str) -> Callable[[dict, dict], None]:
    def change(tensors: dict, _: dict) -> None:
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    return change


def shaped(tensors: dict, _: dict) -> None:
    tensors["optimiser.0.exp_avg"] = tensors["optimiser.0.exp_avg"].flatten()[:1].clone()


def renamed(tensors: dict, _: dict) -> None:
    for name in [name for name in tensors if name.endswith(".exp_avg")]:
        tensors[name.replace("exp_avg", "square_avg")] = tensors.pop(name)


def group(**values: object) -> Callable[[dict, dict], None]:
    return lambda tensors, state: state["groups"][0].update(values)


def integers(tensors: dict, _: dict) -> None:
    name = next(name for name in tensors if name.startswith("captioner."))
    tensors[name] = tensors[name].long()


WRONG_STATES = {
    "a position beyond the epoch": (progress(epoch=0, position=4, step=4), "position"),
    "an epoch too many": (progress(epoch=2, step=6), "epoch"),
    "steps that do not fit": (progress(step=7), "step"),
    "a negative epoch": (progress(epoch=-1), "epoch"),
    "a score that is no number": (progress(best=float("nan")), "best"),
    "negative seconds": (progress(train_seconds=-1.0), "train_seconds"),
    "endless seconds": (progress(train_seconds=float("inf")), "train_seconds"),
    "no average": (progress(average=[float("nan")]), "average"),
    "negative words": (progress(meters={"words": -3.0, "steps": 1.0}), "words"),
    "no words": (progress(meters={"nll": 3.0}), "words"),
    "a negative length": (progress(logged=-1), "logged"),
    "no optimiser": (without("optimiser."), "optimiser"),
    "half an optimiser": (without("optimiser.0.exp_avg_sq"), "optimiser"),
    "an optimiser of other shapes": (shaped, "optimiser"),
    "another optimiser": (renamed, "optimiser"),
    "no groups": (lambda tensors, state: state.pop("groups"), "alone"),
    "a group less": (lambda tensors, state: state["groups"].pop(), "group"),
    "a group more": (lambda tensors, state: state["groups"].append(state["groups"][0]), "group"),
    "a group of other weights": (group(params=[0, 1]), "group"),
    "a group of another optimiser": (group(betas=[0.5, 0.5]), "betas"),
    "a rate that is no number": (group(lr=float("nan")), "lr"),
    "a rate below zero": (group(lr=-1.0), "lr"),
    "no learner": (without("learner."), None),
    "whole numbers for weights": (integers, "captioner"),
    "no weights": (without("captioner."), "captioner"),
}


@pytest.mark.parametrize("kind", WRONG_STATES)
def test_a_state_that_does_not_fit_is_refused(run, kind):
    change, said = WRONG_STATES[kind]
    path = run / "checkpoint/last.safetensors"
    before = path.read_bytes()
    state_with(run, change)
    try:
        if said is None:  # this run has a learner without weights
            resumed(run)
        else:
            with pytest.raises(ValueError, match=rf"last\.safetensors .*{said}") as refused:
                resumed(run)
            assert "\n" not in str(refused.value)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("kind", ["attend checkpoint 2", "attend checkpoint 2\nx", "x", ""])
def test_a_checkpoint_of_another_version(run, kind):
    path = run / "checkpoint/last.safetensors"
    before, (header, rest) = path.read_bytes(), parts(path)
    header["__metadata__"]["kind"] = kind
    path.write_bytes(joined(json.dumps(header).encode(), rest))
    try:
        read_or_refused(path, resumed, run)
        with pytest.raises(ValueError, match=r"this version reads|no checkpoint of attend"):
            resumed(run)
    finally:
        path.write_bytes(before)
