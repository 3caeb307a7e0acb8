import csv
import io
import math
import subprocess
import sys

import numpy as np
import pytest
from attend.analysis.records import read_runs
from attend.analysis.tables.comparison import COLUMNS, FORMATS, comparison, render
from attend.analysis.tables.published import PUBLISHED
from attend.experiments.cli.main import main

from attend.runs.files import write_rows
from tests.made_runs import CONTROLS, GROUNDING, images_of, make_run, make_scored, make_study, scores


def lines(table):
    """The table's rows as printed, by variant and decoding."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in render(table).splitlines() if "|" in line]
    return {(row[0], row[1]): row[2:] for row in rows[2:]}


def three_seeds(tmp_path):
    """BLEU-4 of 20.9, 21.3 and 22.0, whose mean is 21.4 by hand."""
    for seed, bleu4 in enumerate((0.209, 0.213, 0.220), 1):
        make_run(tmp_path, f"made/soft/seed{seed}", headline=scores(bleu4=bleu4, cider=0.5 + 0.021 * seed))
    return read_runs([tmp_path])


def test_mean_and_range_over_seeds(tmp_path):
    table = comparison(three_seeds(tmp_path), columns=("bleu4", "cider"))
    assert lines(table) == {("soft", "expected, beam 3"): ["3", "21.4 [20.9, 22.0]", "0.542 [0.521, 0.563]"]}
    assert "on test" in table.caption
    assert "Mean over n = 3 seeds, [lowest, highest] in brackets" in table.caption
    assert "In percent, except CIDEr" in table.caption
    assert "CIDEr is CIDEr-D with the document frequencies of the references it is scored on" in table.caption
    assert table.notes == ()


def test_perplexity_is_e_to_the_nats_of_each_run(tmp_path):
    for seed, nll in enumerate((math.log(2), math.log(4), 1e5), 1):  # e^100000 is no number
        headline = scores()
        headline["given"]["nll"] = nll
        make_run(tmp_path, f"made/soft/seed{seed}", headline=headline)
    assert lines(comparison(read_runs([tmp_path]), columns=("perplexity",))) == {
        ("soft", "expected, beam 3"): ["3", "3.000 [2.000, 4.000] (n = 2)"]
    }


def test_a_single_run_is_a_bare_value(tmp_path):
    make_run(tmp_path, headline=scores(bleu4=0.2133))
    table = comparison(read_runs([tmp_path]), columns=("bleu4",))
    assert lines(table) == {("soft", "expected, beam 3"): ["1", "21.3"]}
    assert "single run" in table.caption and "Mean" not in table.caption and "CIDEr" not in table.caption


def test_unequal_numbers_of_seeds_are_said(tmp_path):
    make_run(tmp_path, "made/hard/seed1", headline=scores())
    table = comparison(three_seeds(tmp_path))
    assert "n = 1 to 3 seeds" in table.caption and "single run" in table.caption


def test_of_several_draws_the_mean_is_shown_and_said(tmp_path):
    drawn = scores(decode="sample", bleu4=0.1) | {"draws": {"n": 5, "mean": {"bleu4": 0.12}, "std": {"bleu4": 0.01}}}
    make_run(tmp_path, headline=scores(), evaluations=[scores(), drawn])
    table = comparison(read_runs([tmp_path]), columns=("bleu4", "cider"))
    assert lines(table)[("soft", "sample, beam 3")] == ["1", "12.0", "0.500"]
    assert table.notes == ("Captions decoded by `sample` are scored as the mean over 5 draws.",)


def test_each_way_of_decoding_is_a_row(tmp_path):
    others = [
        scores(decode="argmax", beam=1, bleu4=0.1),
        scores(split="val", bleu4=0.9),
        scores(beam=1, bleu4=0.15),
    ]
    make_run(tmp_path, "made/hard/seed1", headline=scores(), evaluations=[scores(), *others])
    make_run(tmp_path, "made/soft/seed1", headline=scores(), evaluations=[scores()])
    rows = lines(comparison(read_runs([tmp_path]), columns=("bleu4",)))
    assert rows == {
        ("hard", "argmax, beam 1"): ["1", "10.0"],
        ("hard", "expected, beam 1"): ["1", "15.0"],
        ("hard", "expected, beam 3"): ["1", "20.0"],
        ("soft", "expected, beam 3"): ["1", "20.0"],
    }
    val = comparison(read_runs([tmp_path]), columns=("bleu4",), split="val")
    assert lines(val) == {("hard", "expected, beam 3"): ["1", "90.0"]}


def test_a_headline_that_was_evaluated_again_shows_the_new_scores(tmp_path):
    """As with boxes that came later; it is one row."""
    make_run(tmp_path, headline=scores(bleu4=0.2, grounding=None), evaluations=[scores(bleu4=0.1)])
    rows = lines(comparison(read_runs([tmp_path]), columns=("bleu4", "mass")))
    assert rows["soft", "expected, beam 3"] == ["1", "10.0", "50.0"]


def test_words_that_were_drawn_are_named(tmp_path):
    make_run(tmp_path, headline=scores(), evaluations=[scores(beam=0)])
    assert ("soft", "expected, words sampled") in lines(comparison(read_runs([tmp_path])))


def test_the_controls_stand_below(tmp_path):
    make_run(tmp_path, headline=scores())
    rows = lines(comparison(read_runs([tmp_path]), columns=("bleu4", "mass", "pointing")))
    assert rows["soft", "expected, beam 3"] == ["1", "20.0", "50.0", "60.0"]
    assert rows["looks nowhere: uniform", ""] == ["", "", "25.0", "30.0"]
    assert rows["looks at one cell, the best on training", ""] == ["", "", "35.0", "40.0"]


def test_controls_that_differ_show_their_range(tmp_path):
    for seed, mass in ((1, 0.2), (2, 0.3)):
        grounding = {**GROUNDING, **CONTROLS, "uniform_mass": mass}
        make_run(tmp_path, f"made/soft/seed{seed}", headline=scores(grounding=grounding))
    rows = lines(comparison(read_runs([tmp_path]), columns=("mass", "pointing")))
    assert rows["looks nowhere: uniform", ""] == ["", "25.0 [20.0, 30.0]", "30.0"]


def test_no_boxes_no_controls(tmp_path):
    make_run(tmp_path, headline=scores(grounding=None))
    table = comparison(read_runs([tmp_path]), columns=("bleu4", "mass"))
    assert lines(table) == {("soft", "expected, beam 3"): ["1", "20.0", "–"]}
    assert table.notes == ("– Grounding mass: not measured; these images have no boxes.",)


def test_a_missing_score_is_a_dash_with_its_reason(tmp_path):
    for seed in (1, 2):
        missing = {"meteor": "no Java found"} if seed == 1 else {}
        headline = scores(missing=missing)
        del headline["captions"]["rouge_l"]
        make_run(tmp_path, f"made/soft/seed{seed}", headline=headline)
    table = comparison(read_runs([tmp_path]), columns=("meteor", "rouge_l"))
    assert lines(table) == {("soft", "expected, beam 3"): ["2", "19.0 (n = 1)", "–"]}
    assert "METEOR missing in 1 of 2 evaluations: no Java found." in table.notes[0]
    assert "ROUGE-L missing in 2 of 2" in table.notes[1]
    make_run(tmp_path, "control/oracle/seed1", headline=scores(missing={"captions": "oracle attention needs captions"}))
    table = comparison(read_runs([tmp_path / "control"]), columns=("bleu4_free",))
    assert "oracle attention needs captions." in table.notes[0]


def test_collapse_and_unfinished_runs_are_said(tmp_path):
    make_run(tmp_path, "made/hard/seed1", headline={**scores(), "collapsed": True})
    make_run(tmp_path, "made/hard/seed2", headline=scores())
    make_run(tmp_path, "made/hard/seed3")
    table = comparison(read_runs([tmp_path]), columns=("bleu4",))
    assert list(lines(table)) == [("hard †", "expected, beam 3")]
    assert table.notes[0] == "† collapsed in training, but included: hard (1 of 2)."
    assert table.notes[1] == "Left out because unfinished: 1 run."


def test_the_trials_that_a_study_took_are_said(tmp_path):
    make_study(tmp_path, "found-soft", study="found", kind="soft", trials=20, sampler="tpe")
    make_study(tmp_path, "found-hard", study="found", kind="hard", trials=1, sampler="tpe")
    make_study(tmp_path, "found-confirmed", study="found", trials=21, of={"soft": 20, "hard": 1})
    trials = ("found-soft/trial000", "found-soft/trial001", "found-hard/trial000")
    for name in (*trials, "found-confirmed/soft-best1/seed1", "made/soft/seed1"):
        make_run(tmp_path, name, headline=scores())
    table = comparison(read_runs([tmp_path]), columns=("bleu4",))
    assert table.notes == (
        "found-confirmed: 21 trials were spent on the study found (soft 20, hard 1).",
        "found-hard: 1 trial was spent on the study found.",
        "found-soft: 20 trials were spent on the study found.",
    )
    assert "\nfound-soft: 20 trials were spent" in render(table)
    rows = csv.DictReader(io.StringIO(render(table, "csv")))
    assert {row["Variant"]: row["Trials"] for row in rows if row["n"] != "0"} == {
        "found-confirmed/soft-best1": "21",
        "found-hard/trial000": "1",
        "found-soft/trial000": "20",
        "found-soft/trial001": "20",
        "made/soft": "",
    }
    alone = comparison(read_runs([tmp_path / "made"]), columns=("bleu4",))
    assert alone.notes == () and "Trials" not in render(alone, "csv")


def test_several_experiments_keep_their_variants_apart(tmp_path):
    for experiment in ("first", "second"):
        make_run(tmp_path, f"{experiment}/soft/seed1", headline=scores())
    names = [name for name, _ in lines(comparison(read_runs([tmp_path]), columns=("bleu4",)))]
    assert names == ["first/soft", "second/soft"]


def test_csv_holds_the_numbers_apart(tmp_path):
    text = render(comparison(three_seeds(tmp_path), columns=("bleu4", "mass")), "csv")
    soft, uniform, _ = csv.DictReader(io.StringIO(text))
    assert (soft["Split"], soft["Decode"], soft["Beam"], soft["n"]) == ("test", "expected", "3", "3")
    assert [soft[f"BLEU-4{part}"] for part in ("", " low", " high", " n")] == ["21.4", "20.9", "22", "3"]
    assert uniform["BLEU-4"] == "" and uniform["Grounding mass"] == "25"


def test_published_scores_stand_below_under_the_columns_they_have(tmp_path):
    make_run(tmp_path, headline=scores(bleu4_free=0.21))
    columns = ("bleu4", "bleu4_free", "meteor", "cider")
    table = comparison(read_runs([tmp_path]), columns=columns, published="flickr8k")
    rows = lines(table)
    assert rows["soft", "expected, beam 3"] == ["1", "20.0", "21.0", "19.0", "0.500"]
    assert rows["Xu et al., soft", "published, one run"] == ["", "", "19.5", "18.9", ""]
    assert rows["Xu et al., hard", "published, one run"] == ["", "", "21.3", "20.3", ""]
    assert rows["soft, frozen ResNet-50", "published, one run"] == ["", "", "16.5", "17.9", ""]
    runs, bleu = table.notes[-2:]
    assert "single runs of their source" in runs and "Xu et al. (2015), table 1; a reimplementation" in runs
    assert "has no brevity penalty: it is under 'no penalty', beside ours" in bleu
    ours, theirs, *_ = csv.DictReader(io.StringIO(render(table, "csv")))
    assert (ours["Split"], ours["Decode"], ours["n"]) == ("test", "expected", "1")
    assert (theirs["Split"], theirs["Decode"], theirs["n"], theirs["BLEU-4, no penalty"]) == (
        "",
        "published",
        "0",
        "19.5",
    )
    assert theirs["BLEU-4"] == ""


def test_published_scores_without_any_of_the_columns_are_left_out(tmp_path):
    make_run(tmp_path, headline=scores())
    records = read_runs([tmp_path])
    rows = lines(comparison(records, columns=("mass",), published="flickr30k"))
    assert rows["Liu et al., supervised", "published, one run"] == ["", "43.0"]
    assert not any(name.startswith("Xu") for name, _ in rows)
    plain = comparison(records, columns=("bleu4", "meteor"), published="coco")
    assert lines(plain)["Xu et al., hard", "published, one run"] == ["", "", "23.0"]
    assert "the columns bleu1_free to bleu4_free show it" in plain.notes[-1]
    assert comparison(records, columns=("cider",), published="coco") == comparison(records, columns=("cider",))


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_published_scores_are_asked_for_by_dataset(dataset, tmp_path, capsys):
    make_run(tmp_path, headline=scores(bleu4_free=0.21))
    main(["table", str(tmp_path), "--published", dataset])
    said = capsys.readouterr().out
    assert "| Xu et al., hard | published, one run |" in said and "BLEU-4, no penalty" in said
    with pytest.raises(SystemExit):
        main(["table", str(tmp_path), "--published", dataset, "--base", "soft"])
    assert "--published has no effect with --base" in capsys.readouterr().err


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_published_scores_are_fractions_of_known_columns_with_a_source(dataset):
    models = PUBLISHED[dataset]
    assert len({model.name for model in models}) == len(models)
    for model in models:
        assert model.scores.keys() <= COLUMNS.keys() and model.source
        assert all(0 < value < 1 for value in model.scores.values())
        bleu = [model.scores[f"bleu{n}_free"] for n in (1, 2, 3, 4)] if "bleu4_free" in model.scores else []
        assert bleu == sorted(bleu, reverse=True)  # longer ones are met less often


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_in_every_format(tmp_path, column, format):
    make_run(tmp_path, headline=scores())
    assert COLUMNS[column].title in render(comparison(read_runs([tmp_path]), columns=(column,)), format)


def test_wrong_choices(tmp_path):
    make_run(tmp_path, "made/soft/seed1", headline=scores())
    make_run(tmp_path, "made/soft/seed2", headline=scores(split="val"))
    records = read_runs([tmp_path])
    with pytest.raises(ValueError, match=r"unknown columns bleu5; known are bleu1"):
        comparison(records, columns=("bleu5",))
    with pytest.raises(ValueError, match=r"different splits \(test, val\); choose one"):
        comparison(records)
    with pytest.raises(ValueError, match="no run was scored on 'train'"):
        comparison(records, split="train")
    with pytest.raises(ValueError, match="no run is finished"):
        comparison([])
    with pytest.raises(ValueError, match="no published scores of 'scenes'; known are those of flickr8k"):
        comparison(records[:1], published="scenes")
    with pytest.raises(ValueError, match="format is 'word'; known are text, markdown"):
        render(comparison(records[:1]), "word")


def test_the_analysis_needs_no_torch():
    names = ("records", "tables.comparison", "figures.figures", "gaze.saccades", "figures.studies")
    modules = ", ".join(f"attend.analysis.{name}" for name in names)
    check = f"import sys, {modules}; sys.exit(bool({{'torch', 'optuna'}} & {{*sys.modules}}))"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_text_is_aligned_and_names_its_marks(tmp_path):
    for seed in (1, 2, 3):
        make_scored(tmp_path, f"made/soft/seed{seed}", chance=seed, better=0.9)
        make_scored(tmp_path, f"made/a-long-name/seed{seed}", chance=seed)
    table = comparison(read_runs([tmp_path]), columns=("bleu4", "cider"))
    header, rule, *rest = render(table, "text").splitlines()
    rows = rest[:2]
    assert header.split("  ")[0] == "Variant" and set(rule) == {"-", " "}
    assert {len(line) for line in (header, rule, *rows)} == {len(rule)}  # numbers are aligned right
    assert [line.split()[0] for line in rows] == ["a-long-name", "soft"] and "  *" in rows[1]
    assert "*: the best of a column. ~: not resolved" in " ".join(rest) and "Bold" not in " ".join(rest)
    assert all(len(line) <= 100 for line in rest[2:])


def named(root, name, absent, named, **more):
    """A run whose images.csv says which of the objects named are absent."""
    total = {"hallucinated_objects": sum(absent) / sum(named), "objects_named": sum(named) / len(named)}
    headline = scores() | {"images": len(named), "hallucination": total | {"hallucinated_captions": None}, **more}
    run = make_run(root, name, headline=headline, evaluations=[headline])
    rows = [["image", "caption", "objects_named", "objects_absent", "novel"]]
    rows += [[f"{i}.jpg", "", whole, part, 1] for i, (whole, part) in enumerate(zip(named, absent, strict=True))]
    write_rows(images_of(run), rows)
    return run


def test_hallucination_has_intervals_over_seeds_and_images(tmp_path):
    """A quotient of counts: 10 of 40 objects are absent, and a resample keeps both counts of its images together."""
    draw = np.random.default_rng(0)
    for seed in (1, 2, 3):
        objects = draw.integers(1, 4, 50)
        named(tmp_path, f"made/soft/seed{seed}", draw.binomial(objects, 0.3), objects)
    table = comparison(read_runs([tmp_path]), columns=("hallucinated_objects", "objects_named", "mbleu"))
    first, second, third = table.rows[0].cells
    assert 20 < first.mean < 40 and first.interval.low < first.mean < first.interval.high < 50
    assert first.interval.images == 50 and 1.5 < second.mean < 2.5 and second.interval is not None and third is None
    assert table.notes == (
        "– mBLEU-4 between samples missing in 3 of 3 evaluations: they are older than this score, so evaluate the run "
        "again.",
    )


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, "they are older than this score, so evaluate the run again"),
        ({"hallucination": None, "diversity": {}}, "only for the images of the built-in world are all objects known"),
        ({"hallucination": {"hallucinated_objects": None}}, "the captions name none"),
    ],
)
def test_a_run_without_hallucination_says_why(tmp_path, more, why):
    make_run(tmp_path, headline=scores() | more)
    table = comparison(read_runs([tmp_path]), columns=("hallucinated_objects",))
    assert table.notes == (f"– Hallucinated objects missing in 1 of 1 evaluations: {why}.",)
