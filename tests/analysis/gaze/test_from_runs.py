"""`attend plot saccades` and `attend plot gaze` as a stranger uses them."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from attend.analysis.figures.figures import drawn
from attend.analysis.gaze.from_runs import _read_records, glances
from attend.analysis.gaze.paths import DRAWS, path_of, paths
from attend.analysis.gaze.pictures import content, side_by_side
from attend.analysis.gaze.saccades import heated, times_even
from attend.analysis.records import read_runs
from attend.experiments.cli.main import main
from PIL import Image

from attend.data.prepared import Prepared
from attend.runs.evaluations import read_attention
from tests.made_gaze import GEOMETRY, IMAGES, drawn_path, make_experiment, make_gazes, peaked


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("runs"))


def rows(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_pictures_a_film_and_fixations(runs, tmp_path, capsys):
    main(["plot", "saccades", str(runs), "--out", str(tmp_path), "--images", "1", "--film", "--raw", "--draws", "3"])
    names = {path.rpartition("/")[2] for path in capsys.readouterr().out.split()}
    assert names == {f"gaze-0.{end}" for end in ("png", "csv", "gif")} | {
        f"maps-0-{variant}.{end}" for variant in ("soft", "hard") for end in ("png", "csv")
    }
    with Image.open(tmp_path / "gaze-0.gif") as film:
        assert film.n_frames == 8 and film.info["loop"] == 0  # seven words, and the whole
        first = np.asarray(film.convert("RGB"), int)
        film.seek(7)
        assert np.abs(np.asarray(film.convert("RGB"), int) - first).mean() > 1
    found = rows(tmp_path / "gaze-0.csv")
    look = read_attention(runs / "hard/seed0/evaluations/test-argmax-beam3/attention.h5", 0)
    drawn = [(float(r["x"]), float(r["y"])) for r in found if r["way"] == DRAWS and r["draw"] == "2"]
    assert drawn == [fixation.point for fixation in paths(look, DRAWS, draws=3)[2]]
    assert {r["way"] for r in found} == {"largest weight", "centre of mass", "argmax", "draws"}


def test_no_path_above_a_caption_that_it_did_not_write(runs):
    """The panels of hard attention are the path that wrote the caption and the mean of the weights; no sampled path."""
    records = read_runs([runs])
    (hard,) = (one for _, one in _read_records(records, None, once=True) if one.glimpsed)
    panels = glances(hard, IMAGES[0])
    assert [glance.name for glance in panels] == ["hard: argmax", "hard: mean over words"]
    assert panels[0].attention is hard.attention[IMAGES[0]]
    figure = side_by_side(np.zeros((32, 32, 3), np.uint8), [panels], sizes="gate", note="More.")
    *drawn_panels, bar = figure.axes
    assert [axes.get_title() for axes in drawn_panels] == ["hard: argmax", "hard: mean over words"]
    points = [(x, y) for panel, name, x, y in drawn(figure)]
    named, _ = content(panels[0].attention)
    assert points == [fixation.point for fixation in path_of(named)] and not drawn_panels[1].lines
    even = heated(np.zeros((32, 32, 3)), times_even(panels[1].attention.weights.mean(0), GEOMETRY, (32, 32)))
    np.testing.assert_allclose(drawn_panels[1].images[0].get_array(), even, atol=1e-6)
    assert bar.get_title(loc="left").endswith("(1/16)")
    (note,) = [text.get_text() for text in figure.texts if text.get_text()]
    assert "area of a dot: gate" in note and note.endswith("More.")


def test_dots_are_as_large_as_what_they_show():
    words, weights = ["dog", "cat", "men"], peaked([0, 5, 10])
    weights[1] = peaked([5], 0.2)[0]
    picture = np.zeros((32, 32, 3), np.uint8)
    axes = drawn_path(picture, words, weights, GEOMETRY, sizes="attention")
    dots = sorted(line.get_markersize() for line in axes.lines if line.get_marker() == "o")
    areas = (np.array(dots) - 4) ** 2 / 64  # one scale for all pictures: 16 times an even look of 1/16
    np.testing.assert_allclose(areas, [0.2, 0.7, 0.7], rtol=1e-6)
    with pytest.raises(ValueError, match="no gate to size dots by"):
        drawn_path(picture, words, weights, GEOMETRY, sizes="gate")
    with pytest.raises(ValueError, match="sized by 'length'; known are attention, gate"):
        drawn_path(picture, words, weights, GEOMETRY, sizes="length")
    with pytest.raises(ValueError, match="path is 'mode'; known are cells, mass"):
        drawn_path(picture, words, weights, GEOMETRY, path="mode")


def test_a_film_adds_to_what_stands():
    """After every word the labels lie where they lie at the end, and say no more than was said."""
    words, weights = ["snow", "red", "dog", "a", "runs", "home"], peaked([0, 5, 5, 3, 10, 0])
    picture = np.zeros((32, 32, 3), np.uint8)
    end = {tuple(t.get_position()): t.get_text() for t in drawn_path(picture, words, weights, GEOMETRY).texts}
    assert list(end.values()) == ["1 snow\n4 home", "2 red dog", "3 runs"]
    for spoken in range(1, 7):
        axes = drawn_path(picture, words, weights, GEOMETRY, spoken=spoken)
        texts = {tuple(t.get_position()): t.get_text() for t in axes.texts}
        assert texts.keys() == end.keys()
        said = sorted(" ".join(texts.values()).split())
        assert sum(not word.isdigit() for word in said) == spoken - (spoken > 3)  # without "a"
        assert all(end[at].startswith(text) for at, text in texts.items())


def test_statistics_similarity_and_export(runs, tmp_path, capsys):
    main(["plot", "gaze", str(runs), "--out", str(tmp_path), "--draws", "2"])
    names = [path.rpartition("/")[2] for path in capsys.readouterr().out.split()]
    assert names == ["gaze.md", "gaze.png", "gaze.pdf", "gaze.svg", "gaze.csv", "similarity.csv", "fixations.csv"]
    said = (tmp_path / "gaze.md").read_text()
    assert "6 images; soft seed 0 (expected)" in said and "Draws (2, seed 0)" in said and "within hard" in said
    fixations = rows(tmp_path / "fixations.csv")
    whole = [r for r in fixations if r["subject"] == "soft/seed1/largest weight" and r["image"] == IMAGES[0]]
    assert " ".join(r["words"] for r in whole) == whole[0]["caption"]
    assert {r["way"] for r in fixations} == {"largest weight", "centre of mass", "argmax"}
    assert sum(int(r["duration"]) for r in whole) == len(whole[0]["caption"].split())
    people = tmp_path / "people.csv"
    with open(people, "w", newline="") as file:
        writer = csv.DictWriter(file, fixations[0].keys())
        writer.writeheader()
        writer.writerows(r for r in fixations if r["subject"] in ("soft/seed0/largest weight", "hard/seed0/argmax"))
    one = ["plot", "gaze", str(runs / "soft/seed0"), "--out", str(tmp_path / "p"), "--draws", "1"]
    main([*one, "--people", str(people)])
    assert "people.csv" in capsys.readouterr().out
    alike = {
        r["subject"]: r for r in rows(tmp_path / "p/people.csv") if r["model"] == "soft" and r["image"] == IMAGES[1]
    }
    own = alike["soft/seed0/largest weight"]
    assert all(
        float(own[name]) == pytest.approx(1) for name in ("shape", "direction", "length", "position", "duration")
    )
    assert float(own["auc"]) > float(alike["hard/seed0/argmax"]["auc"])


def test_what_is_missing_is_said_and_the_rest_goes_on(tmp_path, capsys):
    runs = make_experiment(tmp_path, seeds=1)
    data = Prepared(tmp_path / "data")
    (data.folder / data.about["images"] / IMAGES[0]).unlink()
    out = str(tmp_path / "out")
    main(["plot", "saccades", str(runs), "--out", out, "--images", "2"])
    told = capsys.readouterr()
    assert f"{IMAGES[0]} does not exist: check the name of the image; this image is left out" in told.err
    assert "gaze-1.png" in told.out and "gaze-0" not in told.out
    main(["plot", "saccades", str(runs), "--out", out, "--image", "no.png", "--image", IMAGES[2], "--dots", "gate"])
    told = capsys.readouterr()
    assert "'no.png' is not among the 6 images of these runs" in told.err and "gaze-36.png" in told.out
    main(["plot", "gaze", str(runs), "--out", out, "--decode", "sample", "--draws", "1", "--formats", "png"])
    assert "hard/seed0 has no evaluation test sample: add it" in capsys.readouterr().err
    (runs / "hard/seed0/evaluations/test-argmax-beam3/attention.h5").unlink()
    main(["plot", "gaze", str(runs), "--out", out, "--formats", "png"])
    told = capsys.readouterr()
    assert "attention.h5 is missing: evaluate the run again" in told.err and "gaze.md" in told.out


def test_what_cannot_be_drawn(runs, tmp_path, fails):
    other = make_experiment(tmp_path, seeds=1, gates=False)
    path = other / "hard/seed0/evaluations/test-argmax-beam3/attention.h5"
    make_gazes(path, ["a dog"], [peaked([0, 3])], sampled=True, images=["x.png"])
    said = fails("plot", "gaze", other, "--out", tmp_path / "out")
    assert "these runs have no images in common: compare runs of one dataset and split" in said
    assert "nothing to draw" in fails("plot", "saccades", runs, "--out", tmp_path / "out", "--image", "no.png")
    assert "draws is 0" in fails("plot", "gaze", runs, "--draws", "0")
    assert "seed is -1" in fails("plot", "gaze", runs, "--seed", "-1")
    assert "there is no file" in fails(
        "plot", "gaze", runs / "soft/seed0", "--people", tmp_path / "no.csv", "--out", tmp_path
    )
