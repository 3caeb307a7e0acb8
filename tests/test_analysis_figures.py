import csv

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis.figures import PALETTE, POINTS, colours, curves, drawn, health_curves, learning_curves, save
from analysis.records import read_runs
from tests.made_runs import make_metrics, make_run


def made(tmp_path):
    """Three soft seeds, the last of which stopped an epoch early, and one hard."""
    for seed, (epochs, offset) in enumerate(((4, 0.0), (4, 0.6), (3, 0.3)), 1):
        make_run(tmp_path, f"made/soft/seed{seed}", metrics=make_metrics(epochs, offset=offset))
    make_run(tmp_path, "made/hard/seed1", metrics=make_metrics())
    return read_runs([tmp_path], unfinished=True)


def line(axes, gid):
    (found,) = [line for line in axes.lines if line.get_gid() == gid]
    return found


def test_seeds_are_thin_and_their_mean_is_thick(tmp_path):
    axes = curves(made(tmp_path), "nll", "train")
    mean, seed = line(axes, "soft/mean"), line(axes, "soft/made/seed1")
    assert mean.get_linewidth() > 2 * seed.get_linewidth()
    # At epoch 2 the three seeds are at 4, 4.6 and 4.3, whose mean is 4.3; the third ends at epoch 3.
    assert np.interp(2, *mean.get_data()) == pytest.approx(4.3)
    assert mean.get_xdata()[-1] == 3 and seed.get_xdata()[-1] == 4
    assert "NLL" in axes.get_title(loc="left") and "training" in axes.get_title(loc="left")


def test_dollars_in_names_are_no_formula(tmp_path):
    make_run(tmp_path, "made/$lr^$/seed1", metrics=make_metrics())
    left, _ = learning_curves(read_runs([tmp_path], unfinished=True))
    assert save(left.figure, tmp_path / "curves")


def test_a_single_run_has_no_mean(tmp_path):
    axes = curves(made(tmp_path), "nll", "train")
    assert line(axes, "hard/made/seed1").get_label() == "hard (n = 1)"
    assert not any(line.get_gid() == "hard/mean" for line in axes.lines)


def test_long_curves_are_averaged_and_keep_their_level(tmp_path):
    make_run(tmp_path, metrics=make_metrics(10, per_epoch=100))
    axes = curves(read_runs([tmp_path], unfinished=True), "nll", "train")
    epochs, values = axes.lines[0].get_data()
    assert len(epochs) == POINTS
    np.testing.assert_allclose(values, 5 - epochs / 2, atol=1e-9)


def test_learning_curves_say_n(tmp_path):
    left, right = learning_curves(made(tmp_path))
    figure = left.figure
    assert right.figure is figure and "BLEU-4" in right.get_title(loc="left")
    assert np.interp(2, *line(right, "soft/mean").get_data()) == pytest.approx(0.2)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["soft (n = 3)", "hard (n = 1)"]
    assert "thin: one seed" in figure.get_supxlabel()


def test_health_has_a_panel_for_each_metric_written(tmp_path):
    panels = health_curves(made(tmp_path), names=("entropy", "maximum", "attention_gradient", "distinct"))
    titles = [axes.get_title(loc="left") for axes in panels]
    assert titles == [
        "entropy of the weights (nats), training",
        "largest weight, training",
        "share of distinct glimpses, training",
    ]
    assert len(panels[0].figure.axes) == 3


def test_what_was_never_written_is_said(tmp_path):
    records = made(tmp_path)
    with pytest.raises(ValueError, match="no run wrote 'cider' for 'val'"):
        curves(records, "cider", "val")
    with pytest.raises(ValueError, match="no run wrote any of attention_gradient"):
        health_curves(records, names=("attention_gradient",))


def test_colour_belongs_to_the_variant():
    few, many = colours(["soft", "hard"]), colours(["hard", "gumbel", "soft", "a", "b", "c", "d", "e", "f"])
    assert many["soft"] == few["soft"] == (PALETTE[0], "-")
    assert many["hard"] == few["hard"] == (PALETTE[1], "-")
    assert len(set(many.values())) == 9
    assert colours(["gumbel"]) == {"gumbel": colours(["soft", "gumbel", "hard"])["gumbel"]}
    assert colours(["gumbel"])["gumbel"][0] not in PALETTE[:2]
    assert len(colours(map(str, range(30)))) == 30


def test_the_users_settings_stay(tmp_path):
    before = dict(matplotlib.rcParams)
    learning_curves(made(tmp_path))
    assert dict(matplotlib.rcParams) == before


def test_saved_with_its_numbers(tmp_path):
    left, _ = learning_curves(made(tmp_path / "runs"))
    written = save(left.figure, tmp_path / "out" / "curves.v1.png", formats=("png", "pdf", "svg"))
    assert [path.name for path in written] == [
        "curves.v1.png",
        "curves.v1.pdf",
        "curves.v1.svg",
        "curves.v1.csv",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    assert np.asarray(Image.open(written[0]).convert("L")).std() > 5
    with open(written[-1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(drawn(left.figure))
    series = [(float(r["x"]), float(r["y"])) for r in rows if r["series"] == "soft/mean" and "NLL" in r["panel"]]
    np.testing.assert_allclose(np.array(series).T, line(left, "soft/mean").get_data())


def test_the_same_figure_is_the_same_file(tmp_path):
    records = made(tmp_path / "runs")
    files = [save(learning_curves(records)[0].figure, tmp_path / name, formats=("pdf",))[0] for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    path.write_text("old")

    def full(self, file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="disk full"):
        save(Figure(), path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("curves.png", "old")]
