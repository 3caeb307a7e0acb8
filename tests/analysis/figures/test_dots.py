"""Charts of tables, of widths of the beam and of rank correlations."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from attend.analysis.figures.beam_width import width_curves, widths
from attend.analysis.figures.dots import dot_panels, dots, numbers
from attend.analysis.figures.figures import LEAST, learning_curves, mean_interval, save
from attend.analysis.figures.metric_agreement import (
    METRICS,
    correlate,
    heat_map,
    heat_maps,
    rank_correlation,
    read_metrics,
)
from attend.analysis.figures.metric_agreement import numbers as correlated
from attend.analysis.records import read_runs
from attend.analysis.statistics.intervals import Interval
from attend.analysis.tables.columns import COLUMNS, CONTROLS, Cell, Row, Table
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from tests.made_runs import make_metrics, make_run, scores

BLEU, NLL, MASS = (COLUMNS[name] for name in ("bleu4", "nll", "mass"))


def cell(*values: float, low: float | None = None, high: float | None = None, **more) -> Cell:
    if low is None:
        return Cell(values, **more)
    method = f"bootstrap over {len(values)} seeds and 100 images"
    told = {"low": low, "high": high, "level": 0.95, "seeds": len(values), "images": 100, "method": method}
    told |= {"lowest": min(values), "highest": max(values), "degrees": len(values) - 1}
    return Cell(values, interval=Interval(value=float(np.mean(values)), **told), **more)


def table(base: str | None = None) -> Table:
    rows = (
        Row(name="soft", decode="expected", beam=3, runs=3, base=base == "soft",
            cells=(cell(20.0, 21.0, 22.0, low=19.0, high=23.0), cell(2.0, 2.5, 3.0), cell(37.0, low=36.0, high=38.0))),
        Row(name="hard", decode="argmax", beam=3, runs=1, collapsed=1,
            cells=(cell(17.0, low=15.0, high=19.0, p=0.01, mark="differs" if base else ""), cell(2.9), None)),
        Row(name="hard", decode="sample", beam=3, runs=1, cells=(cell(18.0, low=16.0, high=20.0, p=0.2), None, None)),
        Row(name=CONTROLS["cell"], cells=(None, None, cell(42.0))),
    )  # fmt: skip
    return Table(split="test", columns=(BLEU, NLL, MASS), rows=rows, caption="", base=base)


def points(axes) -> list[float]:
    """Where the dots are, from the top."""
    found = [line for line in axes.lines if line.get_marker() in "os" and len(line.get_xdata()) == 1]
    return [line.get_xdata()[0] for line in sorted(found, key=lambda line: line.get_ydata()[0])]


def test_a_table_is_drawn_as_it_is():
    bleu, nll, mass = dot_panels(table())
    assert [axes.get_title(loc="left") for axes in (bleu, nll, mass)] == [
        "BLEU-4 (%)", "NLL (nats per token)", "Grounding mass (%)"]  # fmt: skip
    assert [text.get_text() for text in bleu.get_yticklabels()] == ["soft, expected", "hard, argmax †", "hard, sample"]
    assert points(bleu) == [21.0, 17.0, 18.0] and points(nll) == [2.5, 2.9] and points(mass) == [37.0]
    bars = [
        sorted(line.get_xdata()) for line in bleu.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 2
    ]
    assert bars == [[19.0, 23.0], [15.0, 19.0], [16.0, 20.0]]
    assert [text.get_text() for text in mass.texts] == ["one cell"] and mass.lines[-1].get_xdata()[0] == 42.0
    said = bleu.figure.get_supxlabel().replace("\n", " ")
    assert "95 % interval, bootstrap over 3 seeds and 100 images" in said and "tick: one seed" in said
    assert "Student's t over 3 seeds" in said and "no bar: 1 seed and no scores of images" in said
    assert "† : collapsed" in said.replace("†:", "† :") and "test, beam 3" in said


def test_what_images_do_not_tell_has_the_interval_of_its_seeds():
    (dot,) = [dot for dot in dots(table()) if dot.column is NLL and dot.row.name == "soft"]
    # t(0.975; 2) = 4.3027; the seeds 2, 2.5 and 3 have standard deviation 0.5.
    assert (dot.low, dot.high) == pytest.approx((2.5 - 4.3027 * 0.5 / 3**0.5, 2.5 + 4.3027 * 0.5 / 3**0.5), abs=1e-4)


def test_differences_are_around_a_line_and_hollow_where_nothing_is_shown():
    bleu, nll = dot_panels(table("soft"))
    assert [text.get_text() for text in bleu.get_yticklabels()] == ["hard, argmax †", "hard, sample"]
    faces = [line.get_markerfacecolor() for line in bleu.lines if line.get_marker() == "s"]
    assert faces == ["#D55E00", "white"]
    assert any(list(line.get_xdata()) == [0, 0] for line in nll.lines)
    said = bleu.figure.get_supxlabel().replace("\n", " ")
    assert said.startswith("minus soft, paired by seed and image") and "hollow: no significant difference" in said


def test_numbers_of_a_chart_are_those_of_its_table():
    header, *rows = numbers(table("soft"))
    assert header[-2] == "p_against_soft" and numbers(table())[0][-2] == "p_against_best"
    assert rows[0][:8] == ("hard", "argmax", 3, "", "BLEU-4", "17", "15", "19") and rows[0][-2] == "0.01"
    assert len(rows) == 3 and len({len(row) for row in (header, *rows)}) == 1


def test_a_table_without_scores_cannot_be_drawn():
    empty = replace(table(), rows=tuple(replace(row, cells=(None,) * 3) for row in table().rows))
    with pytest.raises(ValueError, match="no variant has any of these scores"):
        dot_panels(empty)


def searched(root, widths_of: dict[str, dict[int, float]]):
    for name, points in widths_of.items():
        some = [scores(decode="argmax", beam=beam, bleu4=value) for beam, value in points.items()]
        make_run(root, name, headline=scores(decode="argmax"), evaluations=some)
    return read_runs([root])


def test_the_mean_is_at_the_widths_that_all_seeds_have(tmp_path):
    runs = {"x/hard/seed0": {1: 0.2, 2: 0.25, 10: 0.3, 0: 0.1}, "x/hard/seed1": {1: 0.3, 3: 0.9, 10: 0.5}}
    records = searched(tmp_path, runs)
    (lines,) = widths(records, "bleu4").values()
    assert [list(x) for _, x, _ in lines] == [[1, 2, 10], [1, 3, 10]]  # in order, and without the drawn words of beam 0
    axes, *_ = width_curves(records, scores=("bleu4",))
    (mean,) = [line for line in axes.lines if line.get_gid() == "hard/mean"]
    np.testing.assert_allclose(mean.get_data(), [[1, 10], [25, 40]])
    assert "no band: it needs 3 seeds" in axes.figure.get_supxlabel()


def test_of_one_width_there_is_no_curve(tmp_path):
    with pytest.raises(ValueError, match="no run was evaluated with two widths"):
        width_curves(searched(tmp_path, {"x/hard/seed0": {3: 0.2}}))


def test_a_variant_decoded_in_two_ways_is_two_curves(tmp_path):
    some = [scores(decode=decode, beam=beam) for decode in ("argmax", "expected") for beam in (1, 2)]
    make_run(tmp_path, "x/hard/seed0", headline=scores(decode="argmax"), evaluations=some)
    assert list(widths(read_runs([tmp_path]), "cider")) == ["hard, argmax", "hard, expected"]


def test_rank_correlation_is_scipys_and_that_worked_by_hand():
    # Ranks 1 2 3 4 5 against 2 1 4 3 5: squared differences 1 1 1 1 0, rho = 1 - 6 * 4 / (5 * 24) = 0.8.
    assert rank_correlation(np.arange(5.0), np.array([2.0, 1, 4, 3, 5])) == pytest.approx(0.8)
    generator = np.random.default_rng(0)
    a, b = generator.integers(6, size=(2, 50)).astype(float)  # with ties
    a[3], b[7] = np.nan, np.nan
    kept = np.isfinite(a) & np.isfinite(b)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a[kept], b[kept]).statistic)
    assert np.isnan(rank_correlation(a, np.ones(50)))


def test_chance_reaches_the_grey_numbers_once_in_twenty():
    generator = np.random.default_rng(1)
    limit = correlate("x", [{"cider": np.zeros(30), "meteor": np.zeros(30)}]).chance
    found = [abs(rank_correlation(*generator.normal(size=(2, 30)))) > limit for _ in range(2000)]
    assert 0.035 < np.mean(found) < 0.065


def test_correlations_are_means_over_runs():
    ranks, turned = np.arange(4.0), np.array([3.0, 2, 1, 0])
    runs = [{"cider": ranks, "meteor": ranks, "bleu1": np.ones(4)}, {"cider": ranks, "meteor": turned}]
    found = correlate("soft", runs)
    assert found.metrics == ("bleu1", "meteor", "cider") and (found.runs, found.images) == (2, 4)
    assert found.rho[1, 2] == found.rho[2, 1] == pytest.approx(0.0) and np.isnan(found.rho[0, 1])
    axes = heat_map(found)
    assert [text.get_text() for text in axes.texts] == ["–", "–", ".00"]
    assert axes.get_title(loc="left") == "soft (n = 2)"
    assert ("soft", "CIDEr", "METEOR", "0.000000", 4, 2) in [tuple(row) for row in correlated([found])]


def test_images_csv_is_read_with_what_it_lacks(tmp_path):
    run = make_run(tmp_path, headline=scores(), evaluations=[{**scores(), "images": 2}])
    (evaluation,) = read_runs([run])[0].evaluations
    with pytest.raises(ValueError, match=r"images.csv is missing"):
        read_metrics(evaluation)
    path = evaluation.folder / "images.csv"
    path.write_text("image,caption,meteor,grounding_mass\na.jpg,a dog,0.25,\nb.jpg,a cat,0.5,0.125\n")
    found = read_metrics(evaluation)
    assert list(found) == ["meteor", "grounding_mass"] and list(found["meteor"]) == [0.25, 0.5]
    assert np.isnan(found["grounding_mass"][0])
    path.write_text("image,caption,meteor\na.jpg,a dog,high\nb.jpg,a cat,0.5\n")
    with pytest.raises(ValueError, match="is no number"):
        read_metrics(evaluation)
    with pytest.raises(ValueError, match="nothing to correlate"):
        heat_maps([correlate("soft", [{"meteor": np.arange(3.0)}])])


def test_figures_compose_in_one(tmp_path):
    for seed in range(LEAST):
        make_run(tmp_path, f"made/soft/seed{seed}", metrics=make_metrics(offset=seed / 10))
    figure = Figure(figsize=(9, 6), layout="constrained")
    (a, b, c), (d, e, f) = figure.subplots(2, 3)
    runs = read_runs([tmp_path / "made"], unfinished=True)
    assert learning_curves(runs, axes=(a, b)) == (a, b)
    assert dot_panels(table(), axes=(c, d, e)) == (c, d, e)
    ranks = np.arange(5.0)
    assert heat_map(correlate("soft", [{"cider": ranks, "meteor": -ranks}]), axes=f) is f
    assert not figure.legends and "Student's t" in a.get_legend().get_title().get_text().replace("\n", " ")
    save(figure, tmp_path / "all", formats=("svg",))
    with open(tmp_path / "all.csv", newline="") as file:
        series = {row["series"] for row in csv.DictReader(file)}
    assert {"soft/mean", "soft/low", "soft/high", "hard, sample/interval", "soft, expected"} <= series
    assert "bootstrap over 3 seeds" in c.get_xlabel().replace("\n", " ")
    with pytest.raises(ValueError, match="there are 1 axes for 2 panels"):
        learning_curves(runs, axes=[a])


def test_the_interval_of_a_mean_covers_as_it_says():
    generator = np.random.default_rng(2)
    seeds = generator.normal(3.0, 0.7, size=(3, 4000))
    mean, low, high = mean_interval(seeds)
    assert np.mean((low < 3.0) & (high > 3.0)) == pytest.approx(0.95, abs=0.012)
    np.testing.assert_allclose(mean, (low + high) / 2)
    assert all(np.isnan(one).all() for one in mean_interval(seeds[:1])[1:])


def test_the_metrics_are_named_in_images_csv():
    from attend.metrics.captions import BLEU_STATISTICS

    assert "bleu_length" in BLEU_STATISTICS and {"bleu1", "meteor", "rouge_l", "cider"} < set(METRICS)
