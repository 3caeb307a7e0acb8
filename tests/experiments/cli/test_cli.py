"""The program as a user meets it: what it prints, what it writes, and one plain sentence when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from attend.experiments.cli.main import VERBS, main
from PIL import Image

import attend
from attend.config.setting import Setting
from attend.evaluation.novelty import Novelty
from attend.evaluation.saved import evaluate_run
from tests import halves


def flags(settings: dict, prefix: str = "") -> list[str]:
    """Nested settings as a command line."""
    line = []
    for name, value in settings.items():
        if isinstance(value, dict):
            line += flags(value, f"{prefix}{name}.")
        else:
            values = value if isinstance(value, list) else [value]
            line += [f"--{prefix}{name}".replace("_", "-"), *map(str, values)]
    return line


ROOT = Path(__file__).parents[3]
SMALL = flags(halves.SMALL)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return halves.write(tmp_path_factory.mktemp("cli") / "data")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A hard model, trained through the program."""
    folder = tmp_path_factory.mktemp("runs") / "halves" / "hard" / "seed0"
    main(
        [
            "train",
            "hard",
            "--data",
            str(data),
            "--out",
            str(folder),
            *SMALL,
            "--train.epochs",
            "8",
            "--train.monitor",
            "nll",
        ]
    )
    return folder


def test_help_shows_every_verb_and_every_field_with_its_default(capsys):
    main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n  {verb} " in shown for verb in VERBS)
    with pytest.raises(SystemExit) as stop:
        main(["train", "hard", "--help"])
    shown = capsys.readouterr().out
    assert not stop.value.code
    assert (
        "--train.learning-rate X " in shown
        and "default 0.001)" in " ".join(shown.split())
        and "--estimator.semi" not in shown
    )
    with pytest.raises(SystemExit):
        main(["train", "hard", "--help-all"])
    shown = capsys.readouterr().out
    assert "--estimator.semi" in shown and "probability that an image takes the expected" in shown
    main(["train", "--help"])
    assert "uniform" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [[], ["prepare"], ["train", "soft"]])
def test_a_reader_that_has_read_enough_is_no_error(verb):
    """Whether its end is met while the help is written or, where all of it fits into the buffer, after."""
    command = [sys.executable, "-m", "attend", *verb, "--help"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=buffered) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_caption_says_the_caption_and_draws_where_it_looked(trained, data, tmp_path, capsys):
    photo = tmp_path / "wide.jpg"
    Image.new("RGB", (90, 40), (220, 30, 30)).save(photo)
    main(["caption", str(trained), str(photo), str(data / "images/03.png"), "--out", str(tmp_path / "out")])
    lines = capsys.readouterr().out.splitlines()
    said = [line for line in lines if not line.startswith("  ")]
    assert [line.split(": ")[0] for line in said] == [str(photo), str(data / "images/03.png")]
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pictures == ["03-gaze.png", "03-maps.png", "wide-gaze.png", "wide-maps.png"]
    assert all(Path(line.strip()).exists() for line in lines if line.startswith("  "))


def test_the_library_captions_in_silence_what_the_program_prints(trained, data, tmp_path, capfd):
    from attend.evaluation.caption import caption_images

    photos = [data / "images/03.png", data / "images/05.png"]
    found = list(caption_images(trained, photos))
    assert capfd.readouterr() == ("", "")
    main(["caption", str(trained), *map(str, photos), "--out", str(tmp_path / "out")])
    lines = [line for line in capfd.readouterr().out.splitlines() if not line.startswith("  ")]
    assert lines == [f"{one.path}: {one.text}" for one in found]
    for one in found:
        assert (
            one.weights.shape == (len(one.words), 2, 2)
            and one.text == " ".join(one.words)
            and one.image.size == one.geometry.size == (32, 32)
        )
        assert len(one.glimpses) == len(one.gates) == len(one.words) > 0


def test_a_caption_draws_itself(trained, data, tmp_path):
    one = attend.load(trained).caption(data / "images/03.png")
    maps, path = one.plot(tmp_path / "maps.svg"), one.plot(path=True)
    assert [file.name for file in tmp_path.iterdir()] == ["maps.svg"]
    assert "weight, in multiples of an even look (1/4)" in [axes.get_title(loc="left") for axes in maps.axes]
    assert len(maps.axes) == len(one.words) + 2 and len(path.axes) >= 1  # the picture, and the colour bar
    with pytest.raises(ValueError, match=r"gaze.txt has no suffix of a picture: name a file that ends in .png"):
        one.plot(tmp_path / "gaze.txt")


def test_a_picture_unlike_the_training_images_is_said(trained, data, tmp_path, capsys):
    """White is farther than the halves in plain colours; a run without the file warns of repetition alone.

    The limit of a few validation images is far, so it is set between the two.
    """
    white, known = tmp_path / "white.png", data / "images/03.png"
    Image.fromarray(np.full((60, 60, 3), 255, np.uint8)).save(white)
    near = shutil.copytree(trained, tmp_path / "near")
    far, close = (attend.load(near).caption(image).novelty for image in (white, known))
    assert far > close
    replace(Novelty.read(near), limit=(far + close) / 2).write(near)
    main(["caption", str(near), str(white), str(known), "--out", str(tmp_path)])
    said = capsys.readouterr().err
    assert "warning: white.png is unlike the images that this model learned from" in said and "03.png is" not in said
    older = shutil.copytree(trained, tmp_path / "older", ignore=shutil.ignore_patterns("novelty.json"))
    one = attend.load(older).caption(white)
    assert one.novelty is None and not any("unlike" in sentence for sentence in one.warnings)


def test_caption_takes_a_folder_and_names_what_it_leaves_out(trained, data, tmp_path, capsys):
    folder = tmp_path / "photos"
    shutil.copytree(data / "images", folder / "below", ignore=shutil.ignore_patterns("*[2-9].png", "1?.png"))
    (folder / "broken.jpg").write_bytes(b"")
    main(["caption", str(trained), str(folder), "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    named = [line.split(": ")[0] for line in said.out.splitlines() if not line.startswith("  ")]
    assert named == [str(path) for path in sorted((folder / "below").iterdir())] and named
    assert f"skipped 1: image empty, truncated or otherwise unreadable ({folder / 'broken.jpg'})" in said.err


def test_images_without_captions_are_prepared_captioned_and_compared_with_people(trained, data, tmp_path, capsys):
    photos = tmp_path / "my photos"
    shutil.copytree(data / "images", photos, ignore=shutil.ignore_patterns("[0-2]*.png"))
    (photos / "broken.jpg").write_bytes(b"")
    main(["prepare", str(photos), "--layout", "images", "--out", str(tmp_path / "prepared")])
    said = capsys.readouterr()
    count = len(list(photos.glob("*.png")))
    assert f"my photos: 0 train, 0 val, {count} test images, 0 captions" in said.err and "broken.jpg" in said.err
    run = shutil.copytree(trained, tmp_path / "runs/halves/hard/seed0")
    main(["evaluate", str(run), "--data", str(tmp_path / "prepared")])
    folder = run / "evaluations/my_photos-argmax-beam2"
    assert str(folder) in capsys.readouterr().out and not (folder / "images.csv").exists()
    captions = {one["image_id"]: one["caption"] for one in json.loads((folder / "captions.json").read_text())}
    (shared,) = (run / "evaluations").glob("test-argmax-beam*")
    known = {Path(one["image_id"]).name: one["caption"] for one in json.loads((shared / "captions.json").read_text())}
    assert len(captions) == count and all(caption == known.get(name, caption) for name, caption in captions.items())
    assert set(known) & set(captions), "the same images have the same captions"
    lines = [f"{name},{who},{order},{x},{x}" for name in captions for who in "ab" for order, x in ((1, 4), (2, 28))]
    (tmp_path / "people.csv").write_text("\n".join(["image,subject,order,x,y", *lines]) + "\n")
    people = ["--people", str(tmp_path / "people.csv"), "--out", str(tmp_path / "out"), "--formats", "png"]
    main(["plot", "gaze", str(run), "--split", "my_photos", *people])
    text = (tmp_path / "out/gaze.md").read_text()
    assert f"# Agreement with people: 2 subjects on {count} images" in text and "| other people |" in text
    for wrong, says in (
        (["evaluate", run, "--data", tmp_path / "prepared", "--look", "uniform"], "has no captions, so --look has no"),
        (
            ["prepare", photos, "--layout", "images", "--split", "1", "1", "1", "--out", tmp_path / "x"],
            "--split has no effect",
        ),
        (["plot", "gaze", run, "--split", "elsewhere", *people], "has no evaluation elsewhere argmax"),
    ):
        with pytest.raises(SystemExit):
            main([*map(str, wrong)])
        assert says in capsys.readouterr().err


def test_uniform_attention_is_drawn_without_a_gaze(data, tmp_path, capsys):
    main(["train", "uniform", "--data", str(data), "--out", str(tmp_path / "run"), *SMALL, "--train.monitor", "nll"])
    main(["caption", str(tmp_path / "run"), str(data / "images/03.png"), "--out", str(tmp_path / "out")])
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["03-maps.png"]
    assert "attends to all places alike: there is no gaze to draw" in capsys.readouterr().err


def test_the_pictures_of_two_images_never_share_a_name():
    from attend.experiments.cli.caption import picture_names as _names

    assert _names([Path("x/a.jpg"), Path("b.jpg"), Path("y/a.jpg")]) == ["a-0", "b", "a-2"]
    clash = _names([Path("x/a.jpg"), Path("a-0.jpg"), Path("y/a.jpg"), Path("a-2.jpg")])
    assert len(set(clash)) == 4


def test_evaluate_records_how_it_decoded(trained, capsys):
    for decode in ("expected", "sample"):
        main(["evaluate", str(trained), "--decode", decode, "--beam", "1", "--split", "val"])
        scores = json.loads((trained / f"evaluations/val-{decode}-beam1/scores.json").read_text())
        assert (scores["decode"], scores["beam"], scores["split"]) == (decode, 1, "val")
    assert "val, sample, beam 1: BLEU-4" in capsys.readouterr().out
    main(["evaluate", str(trained), "--beam", "0", "--split", "val"])
    assert json.loads((trained / "evaluations/val-argmax-beam0/scores.json").read_text())["beam"] == 0


def test_table_and_plot_read_the_run(trained, tmp_path, capsys):
    main(["table", str(trained)])
    assert "| hard" in capsys.readouterr().out
    main(["plot", "curves", str(trained), "--out", str(tmp_path)])
    main(["plot", "saccades", str(trained), "--out", str(tmp_path), "--images", "1"])
    written = capsys.readouterr().out.split()
    assert {Path(path).name for path in written} >= {"curves.png", "health.png", "gaze-0.png", "maps-0-hard.png"}
    assert all(Path(path).exists() for path in written)
    main(["plot", "saccades", str(trained), "--out", str(tmp_path / "all"), "--images", "99"])
    assert (tmp_path / "all/gaze-5.png").exists() and not (tmp_path / "all/gaze-6.png").exists()


def test_a_run_of_any_name_is_in_the_table(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "study/mine")
    main(["table", str(tmp_path)])
    assert re.search(r"\| mine( †)? \| argmax, beam 2 \| 1 \|", capsys.readouterr().out)


def test_prepare_writes_the_world_and_says_what_is_in_it(tmp_path, capsys, monkeypatch):
    from attend.data import prepare as sources

    whole = sources.write_scenes
    monkeypatch.setattr(sources, "write_scenes", lambda out, **_: whole(out, train=5, val=2, test=2))
    main(["prepare", "scenes", "--out", str(tmp_path / "scenes"), "--minimum-count", "1"])
    said = capsys.readouterr()
    assert "scenes: 5 train, 2 val, 2 test images, 45 captions" in said.err
    assert said.out.split() == [str(tmp_path / "scenes")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["scenes", "--split", "70", "20", "10"], "--split has no effect on the built-in world"),
        (["scenes", "--captions-per-image", "2"], "--captions-per-image has no effect"),
        (["DIR", "--count", "train"], "--count has no effect without --classic"),
        (["DIR", "--encoder.name", "resnet50"], "--encoder has no effect without --features"),
        (["DIR", "--compress"], "--compress has no effect without --features"),
        (["DIR", "--caption-seed", "3"], "--caption-seed has no effect without --captions-per-image"),
        (["DIR", "--classic", "x", "--entities", "DIR"], "--entities has no effect on the classic files"),
        (["DIR", "--classic", "x", "--encoder.name", "resnet18"], "--encoder has no effect"),
    ],
)
def test_options_without_effect_are_refused(fails, tmp_path, arguments, words):
    arguments = [str(tmp_path) if one == "DIR" else one for one in arguments]
    assert words in fails("prepare", *arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_that_are_none(fails, trained, tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    for name, why in {
        "no.jpg": "does not exist",
        "empty.jpg": "empty file",
        "text.jpg": "not a readable image",
    }.items():
        sentence = fails("caption", trained, tmp_path / name, "--out", tmp_path / "out")
        assert str(tmp_path / name) in sentence and why in sentence
    assert "folder" in fails("caption", trained, tmp_path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_that_are_none(fails, tmp_path, data):
    assert "attend prepare" in fails("train", "soft", "--data", tmp_path / "no", "--out", tmp_path / "run")
    assert str(tmp_path / "no") in fails("prepare", tmp_path / "no", "--out", tmp_path / "out")
    assert str(tmp_path) in fails("prepare", tmp_path, "--out", tmp_path / "out")
    assert "no run folder" in fails("caption", tmp_path, data / "images/00.png")
    assert str(tmp_path) in fails("table", tmp_path)
    assert not (tmp_path / "out").exists()


def test_empty_splits(fails, tmp_path):
    dataset = halves.write(tmp_path / "data", splits=(8, 0, 2))
    sentence = fails("train", "soft", "--data", dataset, "--out", tmp_path / "run", *SMALL)
    assert "no images in its val split" in sentence
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    sentence = fails("run", "quickstart", "--data", dataset, "--out", tmp_path / "runs")
    assert "no images in its val split" in sentence and not list(dataset.glob("features*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--encoder.name", "resnet99"], ["encoder.name", "resnet99"]),
        (["--train.epoch", "3"], ["--train.epoch", "--train.epochs"]),
        (["--train.epochs", "many"], ["--train.epochs", "many"]),
        (["--train.epochs", "0"], ["train.epochs", "1 or more"]),
        (["--decoder.dropout", "1.5"], ["decoder.dropout", "[0, 1)"]),
        (["--attention.temperature", "-1"], ["attention.temperature", "0.000001 or more"]),
        (["--train.clip", "inf"], ["train.clip", "a finite number"]),
        (["--decoder.hidden", "1" + "0" * 30], ["decoder.hidden", "1000000 or less"]),
        (["--decoder.hidden", "1000000", "--attention.width", "1000000"], ["not enough memory", "decoder.hidden"]),
        (["--decoder.freeze-embeddings"], ["decoder.freeze_embeddings", "decoder.embeddings"]),
        (["--attention.select", "argmax"], ["argmax", "sample"]),
        (["--decoder.embeddings", "no.txt"], ["decoder.embeddings", "no.txt"]),
    ],
)
def test_fields_that_do_not_fit(fails, data, tmp_path, arguments, words):
    sentence = fails("train", "hard", "--data", data, "--out", tmp_path / "run", *SMALL, *arguments)
    assert all(word in sentence for word in words), sentence
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "the corrected command would be refused"


def test_unknown_names(fails):
    assert "unknown verb 'trian': did you mean train?" in fails("trian")
    assert "known are soft, hard, uniform, oracle" in fails("train", "mine")
    assert "unknown preset 'sotf': did you mean soft?" in fails("train", "sotf")
    assert "write `attend train hard --seed ...`" in fails("train", "--seed", "3")
    assert "no.field" in fails("run", "quickstart", "--tiny", "--set", "no.field=3")
    assert "--data DIR" in fails("run", "flickr8k")
    assert "images is 0" in fails("plot", "saccades", "runs", "--images", "0")
    assert "no run is named" in fails("table") and "no run is named" in fails("plot", "curves")
    assert "--beam is 1001, but must be 0 to 1000" in fails("caption", "run", "x.jpg", "--beam", "1001")
    assert "--beam is -1, but must be 0 to 1000" in fails("evaluate", "run", "--beam", "-1")


def test_a_dataset_is_never_written_over_by_the_built_in_world(fails, tmp_path):
    for experiment in ("quickstart", "world"):
        assert "no prepared dataset" in fails("run", experiment, "--data", tmp_path)
    assert "no effect with --tiny" in fails("run", "flickr8k", "--data", tmp_path, "--tiny")
    assert not list(tmp_path.iterdir())


def test_settings_of_an_experiment_add_up(monkeypatch, tmp_path):
    """They are held against the variants that are run, not against others."""
    planned = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("attend.experiments.quickstart.prepare_scenes", lambda *_, **__: None)
    monkeypatch.setattr("attend.data.prepared.Prepared", Mock())
    monkeypatch.setattr("attend.experiments.runner.estimate.estimate", Mock())
    monkeypatch.setattr("attend.experiments.runner.runner.run", lambda runs, *_: planned.extend(runs))
    monkeypatch.setattr("attend.experiments.runner.runner.present", lambda *_, **__: [])
    main(["run", "quickstart", "--only", "soft", "--set", "attention.score=dot", "--set", "attention.heads=2"])
    assert {one.variant: one.config.attention.heads for one in planned} == {"soft": 2}
    assert {one.config.attention.score for one in planned} == {"dot"}


def test_a_checkpoint_that_is_none_or_does_not_fit(fails, trained, data, tmp_path):
    photo = data / "images/00.png"
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    best = run / "checkpoint/best.safetensors"
    best.write_bytes(b"not a checkpoint")
    assert f"{best} is no checkpoint" in fails("caption", run, photo)
    torch.save({"weights": torch.zeros(2)}, best)
    assert f"{best} is no checkpoint" in fails("caption", run, photo)
    best.unlink()
    assert f"{best} does not exist" in fails("caption", run, photo)
    shutil.copy(trained / "checkpoint/best.safetensors", best)
    words = json.loads((run / "vocabulary.json").read_text())
    words["words"][4:6] = reversed(words["words"][4:6])
    (run / "vocabulary.json").write_text(json.dumps(words))
    assert "is not the vocabulary" in fails("caption", run, photo)
    shutil.copy(trained / "vocabulary.json", run)
    for field, value, words in (
        ("name", "resnet18", "another encoder"),
        ("grid", [1, 1], None),
        ("name", "no_net", "no timm backbone"),
    ):
        settings = json.loads((trained / "config.json").read_text())
        settings["encoder"][field] = value
        (run / "config.json").write_text(json.dumps(settings))
        if words:
            assert words in fails("caption", run, photo)
    (run / "config.json").write_text("{")
    assert str(run / "config.json") in fails("caption", run, photo)


def test_scores_that_are_none(fails, trained, data, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "scores.json").write_text("{}")
    command = ["train", "hard", "--data", data, "--out", run, *SMALL, "--train.epochs", "8", "--train.monitor", "nll"]
    assert f"{run / 'scores.json'} holds no scores of an evaluation: restore it, or remove it" in fails(*command)
    evaluation = next(run.glob("evaluations/*/scores.json"))
    evaluation.write_text("[]")
    split, decode, beam = evaluation.parent.name.split("-")
    with pytest.raises(ValueError, match=f"{evaluation} holds no scores of an evaluation: restore it, or remove it"):
        evaluate_run(run, Setting(decode, int(beam.removeprefix("beam")), split=split), again=False)


def test_a_dataset_that_has_moved_since(fails, trained, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    settings = json.loads((run / "config.json").read_text()) | {"data": "moved/away"}
    (run / "config.json").write_text(json.dumps(settings))
    assert "moved/away, which is not here: say where it is with --data" in fails("evaluate", run)


def test_two_processes_on_one_run_folder(fails, data, tmp_path):
    folder = tmp_path / "run"
    hold = "import sys, time; from attend.runs.lease import Lease\nfrom pathlib import Path\n"
    hold += "with Lease(Path(sys.argv[1])): print('held', flush=True); time.sleep(100)"
    with subprocess.Popen([sys.executable, "-c", hold, folder], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        sentence = fails("train", "soft", "--data", data, "--out", folder, *SMALL)
        other.kill()
    assert f"{folder} is in use by process {other.pid}" in sentence
    assert not (folder / "config.json").exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "no permission")],
)
def test_a_full_disk_and_a_read_only_folder(fails, data, tmp_path, monkeypatch, number, words):
    def refuse(source, target, *arguments):
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr(os, "replace", refuse)
    sentence = fails("train", "soft", "--data", data, "--out", tmp_path / "run", *SMALL)
    assert words in sentence and str(tmp_path / "run") in sentence
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == []


def test_debug_shows_the_traceback(data, tmp_path):
    with pytest.raises(ValueError, match="no prepared dataset"):
        main(["train", "soft", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--debug"])


def test_nothing_is_unpickled(data, trained, tmp_path):
    """A checkpoint or a file of weights with code in it is refused without running the code."""

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    weights = tmp_path / "weights.pth"
    torch.save({"a": Bomb()}, weights)
    with pytest.raises(SystemExit):
        main(
            [
                "train",
                "soft",
                "--data",
                str(data),
                "--out",
                str(tmp_path / "run"),
                *SMALL,
                "--encoder.weights",
                str(weights),
            ]
        )
    assert not (tmp_path / "exploded").exists()
