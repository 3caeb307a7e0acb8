"""Tables with intervals: what stands beside a mean, which rows are told apart, differences to a base, and bad input."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from attend.analysis.records import read_runs
from attend.analysis.statistics.intervals import interval, paired
from attend.analysis.statistics.per_image import RESAMPLED, statistics_of
from attend.analysis.tables.comparison import COLUMNS, comparison, render
from attend.analysis.tables.render import FORMATS
from attend.experiments.cli.main import main
from scipy import stats

from attend.runs.evaluations import read_images
from tests.made_runs import images_of, make_run, make_scored, scores

SHOWN = ("bleu4", "meteor", "cider", "mass")


def two_variants(tmp_path, *, better=0.4, seeds=3, **more):
    for seed in range(seeds):
        make_scored(tmp_path, f"made/soft/seed{seed}", better=better, chance=seed, **more)
        make_scored(tmp_path, f"made/hard/seed{seed}", chance=100 + seed, **more)
    return read_runs([tmp_path])


def row_of(table, name):
    return next(row for row in table.rows if row.name == name)


def column_of(runs, name):
    """(S, N) of one column of images.csv."""
    tables = (csv.DictReader(images_of(run).read_text().splitlines()) for run in runs)
    return np.array([[float(line[name]) for line in table] for table in tables])


def test_every_score_is_computed_again_from_its_images(tmp_path):
    run = make_scored(tmp_path, "made/soft/seed0", images=30)
    said = json.loads((run / "scores.json").read_text())
    table = read_images(images_of(run).parent, 30)
    for name in ("bleu1", "bleu4", "bleu4_free", "length_ratio", "meteor", "rouge_l", "cider", "mass"):
        again = RESAMPLED[name].scores[name](statistics_of(table, name).sum(axis=0))
        assert again == pytest.approx((said["captions"] | said["grounding"])[name])


def test_what_is_resampled_are_columns():
    assert {*RESAMPLED} - {"cider_frozen"} <= {*COLUMNS}


def test_a_mean_stands_with_its_interval(tmp_path):
    runs = [make_scored(tmp_path, f"made/soft/seed{seed}", chance=seed) for seed in range(3)]
    table = comparison(read_runs([tmp_path]), columns=("cider", "mass", "nll"))
    cider, mass, nll = row_of(table, "soft").cells
    found = interval(column_of(runs, "cider"))
    assert (cider.interval.low, cider.interval.high) == pytest.approx((found.low, found.high))
    words = column_of(runs, "grounding_words")
    found = interval(column_of(runs, "grounding_mass"), weights=words)
    assert (mass.interval.low, mass.interval.high) == pytest.approx((100 * found.low, 100 * found.high))
    assert cider.interval.method == "bootstrap over 3 seeds and 40 images" and nll.interval is None
    line = next(line for line in render(table).splitlines() if "soft" in line)
    assert f"{cider.mean:.3f} [{cider.interval.low:.3f}, {cider.interval.high:.3f}]" in line
    assert "3.000 (3.000 to 3.000)" in line
    assert (
        "Mean over n = 3 seeds with its [95 % interval] in brackets: bootstrap over seeds and 40 images."
        in table.caption
    )
    assert "In (parentheses): the range over seeds, if there are no scores of single images, or" in table.caption


def test_of_one_seed_the_interval_is_over_images_and_says_so(tmp_path):
    make_scored(tmp_path, "made/soft/seed0")
    table = comparison(read_runs([tmp_path]), columns=("bleu4", "nll"))
    assert "bootstrap over 40 images of one seed, without the spread between seeds" in table.caption
    assert "Without an interval, because there are no scores of single images: NLL" in table.caption
    make_scored(tmp_path, "made/hard/seed0", chance=1)
    make_scored(tmp_path, "made/hard/seed1", chance=2)
    table = comparison(read_runs([tmp_path]), columns=("bleu4",))
    assert "n = 1 to 2 seeds" in table.caption and not any(cell.interval for row in table.rows for cell in row.cells)
    assert "[lowest, highest] in brackets. A value without brackets is a single run" in table.caption


def test_the_best_is_marked_and_what_is_not_distinguishable_from_it(tmp_path):
    for seed in range(4):
        make_scored(tmp_path, f"made/good/seed{seed}", better=0.6, chance=seed, images=200)
        make_scored(tmp_path, f"made/alike/seed{seed}", better=0.58, chance=50 + seed, images=200)
        make_scored(tmp_path, f"made/bad/seed{seed}", better=-0.5, chance=100 + seed, images=200)
    table = comparison(read_runs([tmp_path]), columns=("bleu4", "cider", "length_ratio"))
    marks = {row.name: tuple(cell.mark for cell in row.cells) for row in table.rows}
    assert {marks["good"][0], marks["alike"][0]} == {"best", "tied"} and marks["bad"] == ("", "", "")
    assert all(row.cells[2].mark == "" for row in table.rows)  # no ratio is better than another
    assert "Holm's correction for all 4 tests of this table" in table.notes[0]
    text = render(table)
    assert "| good | expected, beam 3 | 4 | **" in text and "| alike | expected, beam 3 | 4 | *" in text


def test_p_values_of_a_table_are_corrected_for_all_of_it(tmp_path):
    records = two_variants(tmp_path)
    table = comparison(records, columns=("cider", "rouge_l"), base="soft")
    alone = comparison(records, columns=("cider",), base="soft")
    (cider, rouge), (single,) = (row_of(one, "hard").cells for one in (table, alone))
    assert cider.p == pytest.approx(min(1, 2 * single.p), rel=0.01) and rouge.p >= single.p


def test_differences_to_a_base_are_paired(tmp_path):
    records = two_variants(tmp_path)
    table = comparison(records, columns=("cider", "nll"), base="hard", published="flickr8k")
    soft, hard = row_of(table, "soft"), row_of(table, "hard")
    runs = {name: [tmp_path / f"made/{name}/seed{seed}" for seed in range(3)] for name in ("soft", "hard")}
    found = paired(column_of(runs["soft"], "cider"), column_of(runs["hard"], "cider"))
    assert (soft.cells[0].interval.low, soft.cells[0].p) == pytest.approx((found.low, found.p))
    assert soft.cells[0].mean == pytest.approx(found.value) and soft.cells[1].mean == 0
    assert hard.base and not soft.base and hard.cells[0].mean == pytest.approx(column_of(runs["hard"], "cider").mean())
    assert [row.name for row in table.rows] == ["hard", "soft"]  # no controls and nothing published: no differences
    line = next(line for line in render(table).splitlines() if line.startswith("| soft"))
    assert f"+{found.value:.3f}" in line and "+0.000 (+0.000 to +0.000)" in line
    assert "hard (base)" in render(table) and table.caption.startswith(
        "Scores on test. Rows other than hard are differences"
    )
    assert any(f"CIDEr {found.detectable:.3f}" in note for note in table.notes)
    soft = next(row for row in csv.DictReader(io.StringIO(render(table, "csv"))) if row["Variant"] == "soft")
    assert float(soft["CIDEr effect"]) == pytest.approx(found.effect, rel=1e-3)
    assert float(soft["CIDEr improvement"]) == pytest.approx(found.improvement, rel=1e-3)
    with pytest.raises(ValueError, match="no variant 'firm' to compare with; known are hard, soft"):
        comparison(records, base="firm")


def test_images_are_paired_by_name_in_whatever_order_they_stand(tmp_path):
    records = two_variants(tmp_path, seeds=1)
    before = row_of(comparison(records, columns=("cider",), base="soft"), "hard").cells[0].interval
    path = images_of(tmp_path / "made/soft/seed0")
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *lines[::-1]]))
    after = row_of(comparison(records, columns=("cider",), base="soft"), "hard").cells[0].interval
    assert (after.low, after.high, after.p_images) == pytest.approx((before.low, before.high, before.p_images))


def test_a_row_is_compared_with_the_base_decoded_the_same_way(tmp_path):
    for name in ("soft", "hard"):
        run = make_scored(tmp_path, f"made/{name}/seed0", chance=len(name))
        folder = shutil.copytree(images_of(run).parent, run / "evaluations/test-argmax-beam3")
        other = json.loads((folder / "scores.json").read_text()) | {"decode": "argmax"}
        (folder / "scores.json").write_text(json.dumps(other))
    table = comparison(read_runs([tmp_path]), columns=("cider",), base="soft")
    assert [row.base for row in table.rows] == [False, False, True, True]


def test_seeds_that_only_one_has_are_left_out_and_said(tmp_path):
    for seed in (0, 1, 2):
        make_scored(tmp_path, f"made/soft/seed{seed}", chance=seed)
    for seed in (1, 2, 7):
        make_scored(tmp_path, f"made/hard/seed{seed}", chance=10 + seed)
    table = comparison(read_runs([tmp_path]), columns=("cider",), base="soft")
    assert len(row_of(table, "hard").cells[0].values) == 2
    assert "Differences use the seeds that both rows have. Not all seeds: hard (2 of 3)." in table.notes
    for seed in (1, 2):
        shutil.rmtree(tmp_path / f"made/hard/seed{seed}")
    table = comparison(read_runs([tmp_path]), columns=("cider",), base="soft")
    assert row_of(table, "hard").cells == (None,) and "hard (0 of 3)" in table.notes[0]
    table = comparison(read_runs([tmp_path]), columns=("cider",))
    assert row_of(table, "hard").cells[0].interval and not any(cell.mark for row in table.rows for cell in row.cells)


def test_one_seed_is_not_tested_beside_rows_that_have_more(tmp_path):
    """Images alone would call it different from nearly everything."""
    two_variants(tmp_path)
    make_scored(tmp_path, "made/lucky/seed0", better=1.0, chance=300)
    table = comparison(read_runs([tmp_path]), columns=("cider",))
    lucky, soft = row_of(table, "lucky").cells[0], row_of(table, "soft").cells[0]
    assert lucky.mark == "" and lucky.p is None and soft.mark == "best"
    assert lucky.interval.degrees == 4, "what seeds do is known from the others"
    assert "Not tested against the best (too few seeds, or no common seeds and images): lucky." in table.notes
    lucky = row_of(comparison(read_runs([tmp_path]), columns=("cider",), base="soft"), "lucky").cells[0]
    assert lucky.p is None and lucky.interval.method == (
        "bootstrap over 1 seed and 40 images, the spread of seeds pooled (2 degrees of freedom)"
    )


def test_an_interval_ends_where_no_score_can_be(tmp_path):
    for seed, better in enumerate((-0.9, 0.9, 0.9)):
        make_scored(tmp_path, f"made/soft/seed{seed}", better=better, chance=seed)
    table = comparison(read_runs([tmp_path]), columns=("bleu1", "cider"))
    bleu, cider = row_of(table, "soft").cells
    assert cider.interval.low == 0 and cider.interval.high > 1
    assert bleu.interval is None, "from 0 to 100 says nothing"
    assert f"{bleu.mean:.1f} ({bleu.low:.1f} to {bleu.high:.1f})" in render(table)


def test_two_seeds_alone_have_a_range_and_with_other_rows_an_interval(tmp_path):
    records = two_variants(tmp_path, seeds=2)
    alone = comparison([one for one in records if one.variant == "soft"], columns=("cider",))
    cell = row_of(alone, "soft").cells[0]
    assert cell.interval is None and f"{cell.mean:.3f} [{cell.low:.3f}, {cell.high:.3f}]" in render(alone)
    both = row_of(comparison(records, columns=("cider",)), "soft").cells[0].interval
    runs = {v: [tmp_path / f"made/{v}/seed{s}" for s in (0, 1)] for v in ("soft", "hard")}
    pooled = np.mean([np.var(column_of(some, "cider").mean(axis=1), ddof=1) for some in runs.values()])
    assert both.degrees == 2
    images = interval(column_of(runs["soft"], "cider")[:1])
    least = stats.t.ppf(0.975, 2) * np.sqrt(pooled / 2)
    assert least * 0.95 < (both.high - both.low) / 2 < np.hypot(least, images.high - images.low)


def test_one_seed_beside_one_seed_is_never_significant(tmp_path):
    records = two_variants(tmp_path, better=0.9, seeds=1)
    for base in (None, "hard"):
        table = comparison(records, columns=("bleu4", "cider"), base=base)
        assert not any(cell.mark or cell.p for row in table.rows for cell in row.cells if cell)
    assert "No row shares two seeds with its base, so nothing is tested" in table.notes[0]


def test_what_is_within_the_margin_is_said_to_be_equal(tmp_path):
    """Variants that are the same in truth, of many images and of too few to say so."""
    for images, mark in ((4000, "equal"), (40, "tied")):
        for seed in range(3):
            for variant, chance in (("soft", 0), ("hard", 50)):
                make_scored(tmp_path / str(images), f"made/{variant}/seed{seed}", chance=chance + seed, images=images)
        table = comparison(read_runs([tmp_path / str(images)]), columns=("cider",))
        assert {row.cells[0].mark for row in table.rows if row.runs} == {"best", mark}
        assert "≈: equal within a margin (CIDEr 0.05; two one-sided tests at 5 %, not corrected)." in table.notes[0]
        assert ("≈" in render(table).splitlines()[2] + render(table).splitlines()[3]) == (mark == "equal")
    records = read_runs([tmp_path / "4000"])
    strict = comparison(records, columns=("cider",), margins={"cider": 1e-6})
    assert {row.cells[0].mark for row in strict.rows if row.runs} == {"best", "tied"}
    assert "a margin (CIDEr 1e-06;" in strict.notes[0]


def test_parameters_and_training_time(tmp_path):
    make_scored(tmp_path, "made/soft/seed0", parameters=7_728_875, train_seconds=707.5)
    make_scored(tmp_path, "made/old/seed0")
    table = comparison(read_runs([tmp_path]), columns=("cider",))
    text = render(table)
    assert "| n | Parameters | Training |" in text
    assert "| 1 | 7.73 M | 11.8 min |" in text and "| 1 | – | – |" in text
    rows = {row["Variant"]: row for row in csv.DictReader(io.StringIO(render(table, "csv")))}
    assert (rows["soft"]["Parameters"], rows["soft"]["Training seconds"]) == ("7728875", "707.5")
    assert rows["old"]["Parameters"] == ""


# Formats


class Cells(HTMLParser):
    """The text of every cell, and all tags."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.cells += [""] * (tag in ("td", "th"))

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


HOSTILE = r"<script>alert(1)</script>&%$#_{}~^\|[x]"


def hostile(tmp_path):
    """Two variants, one with a name that every format has to escape."""
    records = two_variants(tmp_path, better=0.8)
    return [r if r.variant == "soft" else type(r)(**{**vars(r), "variant": HOSTILE}) for r in records]


def test_html_is_escaped(tmp_path):
    text = render(comparison(hostile(tmp_path), columns=SHOWN), "html")
    read = Cells(text)
    assert "script" not in read.tags and {"strong", "small", "caption"} <= {*read.tags}
    assert any(HOSTILE in cell for cell in read.cells) and "http" not in text and len(text) < 8000


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_every_number(tmp_path, format):
    table = comparison(two_variants(tmp_path), columns=SHOWN)
    text = render(table, format)
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            if cell:
                number = f"{cell.mean:.6g}" if format == "csv" else f"{cell.mean:.{column.decimals}f}"
                assert number in text


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex: apt-get install texlive-latex-recommended")
@pytest.mark.parametrize("base", [None, "soft"])
def test_latex_compiles(tmp_path, base):
    table = comparison(hostile(tmp_path), columns=tuple(COLUMNS), base=base, published="flickr8k")
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\usepackage{graphicx}"
    document = "\n".join([head, r"\begin{document}", render(table, "latex"), r"\end{document}"])
    (tmp_path / "table.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=300)
    assert ran.returncode == 0, ran.stdout[-2000:]
    log = (tmp_path / "table.log").read_text(errors="replace")
    assert "Overfull \\hbox" not in log and "Missing character" not in log


# Bad input


def test_runs_of_different_data_are_refused(tmp_path):
    make_scored(tmp_path, "made/soft/seed0")
    make_scored(tmp_path, "made/hard/seed0", fingerprint="other")
    with pytest.raises(
        ValueError, match=r"different data \(other of made/hard/seed0, data of made/soft/seed0\): compare"
    ):
        comparison(read_runs([tmp_path]))


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def older(path):
    rows = list(csv.reader(path.read_text().splitlines()))
    with path.open("w") as file:
        csv.writer(file).writerows(row[:2] for row in rows)


def renamed(path):
    path.write_text(path.read_text().replace("\n0.jpg", "\nother.jpg"))


DAMAGE = {
    "missing": (
        lambda path: path.unlink(),
        "is missing (an older layout, or a copy without it): evaluate the run again",
    ),
    "cut": (cut, "is not a whole table of 40 images: copy it again, or evaluate the run again"),
    "empty": (lambda path: path.write_text(""), "is no table: copy it again"),
    "older": (older, "has no column cider (an older layout, or scored without it): evaluate the run"),
    "column": (lambda path: path.write_text(path.read_text().replace("cider", "score")), "has no column cider"),
    "binary": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is no table"),
    "number": (lambda path: path.write_text(path.read_text().replace("\n7.jpg,", "\n7.jpg,x,", 1)), "whole table"),
    "nonsense": (lambda path: path.write_text(path.read_text().replace(",0.", ",x.")), "lacks some of the numbers"),
    "images": (renamed, "has 40 images that differ from the 40 of most runs here"),
    "twice": (lambda path: path.write_text(path.read_text().replace("\n0.jpg", "\n1.jpg")), "has an image twice"),
    "another": (
        lambda path: shutil.copy(path.parents[3] / "seed0" / path.relative_to(path.parents[2]), path),
        "gives cider",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_broken_is_said_and_the_rest_goes_on(tmp_path, damage):
    two_variants(tmp_path)
    do, said = DAMAGE[damage]
    do(images_of(tmp_path / "made/hard/seed1"))
    table = comparison(read_runs([tmp_path]), columns=("cider",))
    hard, soft = row_of(table, "hard").cells[0], row_of(table, "soft").cells[0]
    assert hard.interval is None and len(hard.values) == 3 and soft.interval is not None
    (note,) = [note for note in table.notes if "No interval" in note]
    assert note.startswith("No interval of hard/seed1 (expected): ") and said in note and note.count("\n") == 0
    assert f"({hard.low:.3f} to {hard.high:.3f})" in render(table)


def test_older_runs_keep_the_range_of_their_seeds(tmp_path):
    two_variants(tmp_path)
    for path in tmp_path.rglob("images.csv"):
        path.unlink()
    table = comparison(read_runs([tmp_path]), columns=("cider",))
    assert "[lowest, highest] in brackets" in table.caption and table.notes == ()


def test_a_run_without_the_folder_of_its_headline(tmp_path):
    two_variants(tmp_path)
    make_run(tmp_path, "made/bare/seed0", headline=scores())
    make_run(tmp_path, "made/begun/seed0")
    table = comparison(read_runs([tmp_path]), columns=("cider",))
    assert row_of(table, "bare").cells[0].interval is None and row_of(table, "soft").cells[0].interval
    assert any("bare/seed0 has no folder of this evaluation" in note for note in table.notes)
    assert "Left out because unfinished: 1 run." in table.notes
    assert any("(too few seeds, or no common seeds and images): bare." in note for note in table.notes)


def test_several_draws_have_an_interval_around_their_mean(tmp_path):
    drawn = {"draws": {"n": 5, "mean": {"cider": 0.9}, "std": {"cider": 0.1}}}
    make_scored(tmp_path, "made/soft/seed0", **drawn)
    cell = row_of(comparison(read_runs([tmp_path]), columns=("cider",)), "soft").cells[0]
    assert cell.mean == 0.9 and cell.interval.low < 0.9 < cell.interval.high
    assert cell.interval.high - cell.interval.low < 0.3


def test_the_verb(tmp_path, capsys):
    two_variants(tmp_path)
    for format in FORMATS:
        main(["table", str(tmp_path), "--format", format, "--base", "soft", "--columns", "cider"])
        assert "CIDEr" in capsys.readouterr().out
    (tmp_path / "made/soft/seed1/scores.json").write_text("{")
    main(["table", str(tmp_path)])
    assert f"Left out because broken: {tmp_path / 'made/soft/seed1/scores.json'} " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["table", str(tmp_path), "--base", "firm"])
    assert "known are hard, soft" in capsys.readouterr().err
