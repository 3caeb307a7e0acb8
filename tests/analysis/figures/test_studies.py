import csv
from pathlib import Path

import numpy as np
import pytest
from attend.analysis.figures.figures import save
from attend.analysis.figures.studies import (
    LABELS,
    Range,
    Trial,
    front,
    histories,
    history,
    importances,
    pareto,
    ranked,
    running_best,
    sliced,
    slices,
)
from matplotlib.cbook import STEP_LOOKUP_MAP
from matplotlib.figure import Figure

RANGES = {
    "rate": Range(low=1e-4, high=1e-1, log=True),
    "dropout": Range(low=0.0, high=0.6),
    "baseline": Range(choices=("average", "self-critical", None)),
}


def made(number, kind="soft", state="complete", cider=None, *, reports=None, nll=None, **params) -> Trial:
    values = {name: value for name, value in (("cider", cider), ("nll", nll)) if value is not None}
    ranges = {name: RANGES[name] for name in params}
    return Trial(
        number=number, kind=kind, state=state, values=values, reports=reports or {}, params=params, ranges=ranges
    )


TRIALS = [
    made(0, cider=0.3),
    made(1, state="pruned", reports={1: 0.2, 3: 0.1, 2: 0.4}),
    made(2, cider=0.2),
    made(4, state="failed"),
    made(5, state="running"),
    made(3, cider=0.5),
    made(0, "hard", cider=0.4),
    made(1, "hard", "pruned"),
    made(2, "hard", cider=0.4),
]


def numbers(figure: Figure, tmp_path: Path) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """The points of each series of each panel, as the CSV beside the picture has them."""
    *_, path = save(figure, tmp_path / "figure")
    found = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault((row["panel"], row["series"]), []).append((float(row["x"]), float(row["y"])))
    return found


def test_the_running_best_by_hand():
    values = [0.3, 0.1, 0.5, 0.4]
    trials = [made(number, cider=value) for number, value in enumerate(values)]
    trials = [*trials[::-1], made(9, state="pruned", reports={1: 0.9})]
    at, best = running_best(trials, "cider", "maximize")
    assert (list(at), list(best)) == ([0, 1, 2, 3], [0.3, 0.3, 0.5, 0.5])
    assert list(running_best(trials, "cider", "minimize")[1]) == [0.3, 0.1, 0.1, 0.1]
    assert [len(one) for one in running_best([], "cider", "maximize")] == [0, 0]


def test_history_draws_every_trial_of_both_kinds(tmp_path):
    (axes,) = histories(TRIALS, {"cider": "maximize"})
    assert numbers(axes.figure, tmp_path) == {
        ("CIDEr", "soft/trials"): [(0, 0.3), (2, 0.2), (3, 0.5)],
        ("CIDEr", "soft/best so far"): [(0, 0.3), (2, 0.3), (3, 0.5)],
        ("CIDEr", "soft/pruned"): [(1, 0.1)],
        ("CIDEr", "hard/trials"): [(0, 0.4), (2, 0.4)],
        ("CIDEr", "hard/best so far"): [(0, 0.4), (2, 0.4)],
    }
    below = {(line.get_marker(), *line.get_xdata()) for line in axes.lines if not line.get_gid()}
    assert {("+", 4), ("x", 1)} <= below  # what failed, and what was pruned before it reported anything
    colours = {line.get_gid(): line.get_color() for line in axes.lines if line.get_gid()}
    assert colours["soft/trials"] == colours["soft/pruned"] == colours["soft/best so far"] != colours["hard/trials"]
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["soft (n = 3)", "hard (n = 2)"]
    assert "pruned" in axes.figure.get_supxlabel() and "failed" in axes.figure.get_supxlabel()


def test_each_objective_has_a_history():
    trials = [made(number, cider=number / 10, nll=3 - number) for number in range(3)]
    panels = histories(trials, {"cider": "maximize", "nll": "minimize"})
    assert [axes.get_title(loc="left") for axes in panels] == [LABELS["cider"], LABELS["nll"]]
    best = [line for line in panels[1].lines if line.get_gid() == "soft/best so far"]
    assert list(best[0].get_ydata()) == [3, 2, 1]
    assert "pruned" not in panels[0].figure.get_supxlabel()


@pytest.mark.parametrize("trials", [[made(0, cider=0.5)], [made(3, state="pruned")]])
def test_one_trial_is_a_history(tmp_path, trials):
    assert save(history(trials, "cider", "maximize").figure, tmp_path / "one")


@pytest.mark.parametrize("trials", [[], [made(0, state="failed"), made(1, state="waiting")]])
def test_nothing_done_is_said(trials):
    with pytest.raises(ValueError, match="no trial is done"):
        history(trials, "cider", "maximize")
    with pytest.raises(ValueError, match="no completed trial has a parameter"):
        slices(trials, "cider", "maximize")
    with pytest.raises(ValueError, match="2 objectives of 0 completed trials"):
        pareto(trials, {"cider": "maximize", "nll": "minimize"})


def test_slices_are_a_panel_for_each_parameter(tmp_path):
    trials = [
        made(0, cider=0.3, rate=1e-3, dropout=0.1, baseline="average"),
        made(1, cider=0.5, rate=1e-2, dropout=0.2, baseline=None),
        made(2, cider=0.4, rate=3e-2, dropout=0.3),  # one that has fewer
        made(3, state="pruned", reports={1: 0.9}, rate=5e-2, dropout=0.3),
    ]
    panels = {axes.get_xlabel(): axes for axes in slices(trials, "cider", "maximize")}
    points = {name: axes.lines[0].get_xydata() for name, axes in panels.items()}
    np.testing.assert_allclose(points["rate"], [(1e-3, 0.3), (1e-2, 0.5), (3e-2, 0.4)])
    np.testing.assert_allclose(points["dropout"][:, 0], [0.1, 0.2, 0.3])
    assert list(np.round(points["baseline"][:, 0])) == [0, 2]
    assert [text.get_text() for text in panels["baseline"].get_xticklabels()] == ["average", "self-critical", "None"]
    assert [panels[name].get_xscale() for name in RANGES] == ["log", "linear", "linear"]
    low, high = panels["rate"].get_xlim()
    assert low < 1e-4 and high > 1e-1  # as wide as what was searched
    rings = [list(axes.lines[1].get_ydata()) for axes in panels.values()]
    assert rings == [[0.5]] * 3
    *_, path = save(panels["rate"].figure, tmp_path / "slices", numbers=sliced(trials, "cider"))
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["kind", "trial", "parameter", "value", "cider"] and len(rows) == 1 + 3 + 3 + 2
    assert ["soft", "0", "baseline", "average", "0.3"] in rows and ["soft", "2", "rate", "0.03", "0.4"] in rows


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_slices_of_one_trial_and_of_a_range_of_one_number(tmp_path, direction):
    trial = made(0, cider=0.5, rate=1e-3, dropout=0.3)
    one = {"rate": Range(low=1e-3, high=1e-3, log=True), "dropout": Range(low=0.3, high=0.3)}
    trial = Trial(number=0, kind="soft", state="complete", values=trial.values, params=trial.params, ranges=one)
    assert save(slices([trial], "cider", direction)[0].figure, tmp_path / "one")


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(1e-4, 1e-1, [1e-4, 1e-3, 1e-2, 1e-1]), (5e-4, 1e-2, [1e-3, 1e-2]), (0.3, 0.9, [0.3, 0.9]), (1e-8, 1, None)],
)
def test_ticks_of_a_logarithmic_axis_are_few(low, high, ticks):
    trial = made(0, cider=0.5, rate=low)
    trial = Trial(**{**vars(trial), "ranges": {"rate": Range(low=low, high=high, log=True)}})
    (axes,) = slices([trial], "cider", "maximize")
    found = list(axes.get_xticks())
    assert found == pytest.approx(ticks) if ticks else 2 <= len(found) <= 4
    assert "$" not in "".join(text.get_text() for text in axes.get_xticklabels())


@pytest.mark.parametrize("directions", [("maximize", "maximize"), ("maximize", "minimize"), ("minimize", "minimize")])
@pytest.mark.parametrize("grid", [0, 3])
def test_the_front_is_that_of_brute_force(directions, grid):
    generator = np.random.default_rng(1)
    points = generator.random((40, 2))
    points = np.round(points * grid) if grid else points  # on a grid some are equal
    trials = [made(number, cider=x, nll=y) for number, (x, y) in enumerate(points)]
    signs = [1 if direction == "maximize" else -1 for direction in directions]
    goods = [tuple(sign * value for sign, value in zip(signs, point, strict=True)) for point in points]

    def beats(one, other):
        return one != other and all(a >= b for a, b in zip(one, other, strict=True))

    expected = [i for i, own in enumerate(goods) if not any(beats(other, own) for other in goods)]
    aims = dict(zip(("cider", "nll"), directions, strict=True))
    assert [trial.number for trial in front(trials, aims)] == expected and 0 < len(expected) < 40
    order = [trial.number for trial in ranked(trials, aims)]
    assert order == sorted(expected, key=lambda i: (-goods[i][0], i))


def test_ranked_by_the_objective_then_by_number():
    trials = [made(2, cider=0.4), made(0, cider=0.4), made(1, cider=0.5), made(3, state="pruned", reports={1: 0.9})]
    assert [trial.number for trial in ranked(trials, {"cider": "maximize"})] == [1, 0, 2]
    assert [trial.number for trial in ranked(trials, {"cider": "minimize"})] == [0, 2, 1]


def test_pareto_has_all_trials_and_a_front_of_each_kind(tmp_path):
    trials = [made(i, cider=x, nll=y) for i, (x, y) in enumerate([(0.1, 1.0), (0.3, 3.0), (0.2, 2.5), (0.2, 2.0)])]
    trials += [made(0, "hard", cider=0.5, nll=0.5), made(1, "hard", "pruned")]
    axes = pareto(trials, {"cider": "maximize", "nll": "minimize"})
    found = numbers(axes.figure, tmp_path)
    assert found["", "soft/trials"] == [(0.1, 1.0), (0.3, 3.0), (0.2, 2.5), (0.2, 2.0)]
    assert found["", "soft/front"] == [(0.1, 1.0), (0.2, 2.0), (0.3, 3.0)]
    assert found["", "hard/front"] == found["", "hard/trials"] == [(0.5, 0.5)]
    assert axes.get_xlabel() == "CIDEr, higher is better" and axes.get_ylabel().endswith("lower is better")
    given = Figure().add_subplot()
    assert pareto(trials, {"cider": "maximize", "nll": "minimize"}, axes=given) is given
    assert given.get_legend() and not given.figure.legends and axes.figure.legends


@pytest.mark.parametrize(("across", "points"), [("maximize", [(1, 0.9), (3, 0.2)]), ("minimize", [(1, 0.2), (3, 0.9)])])
def test_the_front_passes_through_what_was_attained(across, points):
    """At x = 2 that is 0.2: only one of the two trials is as good in x, and the other is the better in y."""
    trials = [made(i, cider=x, nll=y) for i, (x, y) in enumerate(points)]
    axes = pareto(trials, {"cider": across, "nll": "maximize"})
    (line,) = [line for line in axes.lines if line.get_gid() == "soft/front"]
    edge = STEP_LOOKUP_MAP[line.get_drawstyle()](*line.get_data())
    assert np.interp(2, *edge) == 0.2


def test_bars_are_the_shares_with_the_largest_on_top(tmp_path):
    shares = {"rate": 0.7, "a_parameter.with_a_very_long_name_that_goes_on_and_on": 0.3, "dropout": 0.0}
    axes = importances(shares, "soft", "as told")
    assert [bar.get_width() for bar in axes.patches] == [0.0, 0.3, 0.7]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[2] == "rate" and "\n" in labels[1] and labels[1].replace("\n", "") in shares
    assert "soft" in axes.get_title(loc="left") and axes.figure.get_supxlabel() == "as told"
    assert save(axes.figure, tmp_path / "bars", numbers=[("parameter", "share"), *shares.items()])


def test_names_that_are_no_formula(tmp_path):
    trials = [Trial(**{**vars(made(i, cider=i / 9)), "kind": "$a_^$"}) for i in range(2)]
    assert save(history(trials, "cider", "maximize").figure, tmp_path / "dollars")
