import csv
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from attend.analysis.figures.figures import (
    FORMATS,
    PALETTE,
    POINTS,
    colours,
    curves,
    drawn,
    health_curves,
    learning_curves,
    save,
)
from attend.analysis.records import read_runs
from matplotlib.figure import Figure
from PIL import Image

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


def test_three_seeds_have_a_band_and_its_ends_are_in_the_numbers(tmp_path):
    left, _ = learning_curves(made(tmp_path))
    low, high = line(left, "soft/low"), line(left, "soft/high")
    # At epoch 2 the seeds are at 4, 4.6 and 4.3: mean 4.3, deviation 0.3, and t(0.975; 2) = 4.3027.
    half = 4.3027 * 0.3 / 3**0.5
    assert np.interp(2, *low.get_data()) == pytest.approx(4.3 - half, abs=1e-4)
    assert np.interp(2, *high.get_data()) == pytest.approx(4.3 + half, abs=1e-4)
    assert len(left.collections) == 1 and "band: 95 % interval" in left.figure.get_supxlabel().replace("\n", " ")
    assert "(if n >= 3)" in left.figure.get_supxlabel().replace("\n", " ")  # hard has one seed
    assert {series for _, series, *_ in drawn(left.figure)} >= {"soft/low", "soft/high"}


def test_a_wide_band_does_not_hide_the_lines(tmp_path):
    for seed, offset in enumerate((0.0, 0.0, 4.0)):
        make_run(tmp_path, f"made/soft/seed{seed}", metrics=make_metrics(offset=offset))
    axes = curves(read_runs([tmp_path], unfinished=True), "nll", "train")
    assert max(line(axes, "soft/high").get_ydata()) > 11 > 9.5 > axes.get_ylim()[1]


@pytest.mark.parametrize(
    ("seeds", "said"), [(1, "one run each (n = 1), so there is no interval"), (2, "no band: it needs 3 seeds")]
)
def test_too_few_seeds_have_no_band_and_it_is_said(tmp_path, seeds, said):
    for seed in range(seeds):
        make_run(tmp_path, f"made/soft/seed{seed}", metrics=make_metrics(offset=seed))
    left, _ = learning_curves(read_runs([tmp_path], unfinished=True))
    assert said in left.figure.get_supxlabel() and not left.collections


def test_many_variants_have_bars_in_place_of_bands(tmp_path):
    for variant in "abcde":
        for seed in range(3):
            make_run(tmp_path, f"made/{variant}/seed{seed}", metrics=make_metrics(offset=seed))
    left, _ = learning_curves(read_runs([tmp_path], unfinished=True))
    assert len(left.collections) == 5 and "; bar: 95 % interval" in left.figure.get_supxlabel()
    assert "thin" not in left.figure.get_supxlabel()


def test_a_variant_of_two_experiments_is_two(tmp_path):
    for name in ("one/soft/seed0", "two/soft/seed0", "two/hard/seed0"):
        make_run(tmp_path, name, metrics=make_metrics())
    axes = curves(read_runs([tmp_path], unfinished=True), "nll", "train")
    labels = [line.get_label() for line in axes.lines]
    assert sorted(labels) == ["hard (n = 1)", "one/soft (n = 1)", "two/soft (n = 1)"]
    styles = colours(["one/soft", "two/soft", "soft"])
    assert {colour for colour, _ in styles.values()} == {PALETTE[0]} and len(set(styles.values())) == 3


def test_what_no_run_logged_is_left_out_and_said(tmp_path):
    make_run(tmp_path, metrics=[one for one in make_metrics() if one["split"] == "val"])
    (only,) = learning_curves(read_runs([tmp_path], unfinished=True))
    assert "BLEU-4" in only.get_title(loc="left")
    assert "not logged: NLL (nats per token), training" in only.figure.get_supxlabel().replace("\n", " ")
    with pytest.raises(ValueError, match="no run logged any of nll, cider"):
        learning_curves([replace(read_runs([tmp_path], unfinished=True)[0], folder=tmp_path)], score="cider")


def test_a_single_run_has_no_mean(tmp_path):
    axes = curves(made(tmp_path), "nll", "train")
    assert line(axes, "hard/made/seed1").get_label() == "hard (n = 1)"
    assert not any(line.get_gid() == "hard/mean" for line in axes.lines)


def test_long_curves_are_averaged_and_keep_their_level(tmp_path):
    make_run(tmp_path, metrics=make_metrics(10, per_epoch=100))
    axes = curves(read_runs([tmp_path], unfinished=True), "nll", "train")
    epochs, values = axes.lines[0].get_data()
    assert POINTS / 2 < len(epochs) <= POINTS
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
    with pytest.raises(ValueError, match="no run logged 'cider' for 'val'"):
        curves(records, "cider", "val")
    with pytest.raises(ValueError, match="no run logged any of attention_gradient"):
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


def test_the_same_figure_is_the_same_file_whatever_is_written_beside_it(tmp_path):
    records = made(tmp_path / "runs")
    for formats in (FORMATS, ("svg", "pdf")):
        for file in save(learning_curves(records)[0].figure, tmp_path / "-".join(formats), formats=formats):
            first = tmp_path / f"{'-'.join(FORMATS)}{file.suffix}"
            assert file.read_bytes() == first.read_bytes(), file


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
