"""Looks that are planted in made files are found: by kind of phrase, by size of box, beside the controls."""

from __future__ import annotations

import csv
import json

import h5py
import numpy as np
import pytest
from attend.analysis.grounding import measure as grounding
from attend.analysis.grounding import tables as grounding_table
from attend.analysis.grounding.bars import grounding_bars
from attend.analysis.grounding.correlation import correlation, spearman
from attend.analysis.grounding.words import generated, given, heads, singular
from attend.analysis.records import read_runs
from attend.experiments.cli.main import main
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.optimize import brentq
from scipy.stats import rankdata, spearmanr

from attend.data.examples import Caption, Example, Phrase, Source
from attend.data.prepared import write_prepared
from attend.geometry import Geometry
from attend.metrics.grounding import CONTROLS, LOOKS, MEASURES, BoxedWord, Cells, ground
from attend.metrics.other_images import words_of_others
from attend.metrics.sharpness import centre_of
from attend.runs.evaluations import WordGrounding, write_given
from tests.made_runs import make_run, scores

GRID, SIZE, IMAGES = (4, 4), (40, 40), 60
CELL, QUARTER, HALF = (0.0, 0.0, 0.25, 0.25), (0.5, 0.5, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0)
WORDS = ("a", "man", "walks", "two", "dogs", "by", "the", "sea", "'s", "edge")
PHRASES = (
    Phrase("1", ("people", "scene"), 0, 2, (CELL,)),
    Phrase("2", ("animals",), 3, 5, (QUARTER,)),
    Phrase("3", ("scene",), 6, 9, (HALF,)),
    Phrase("4", ("other",), 9, 10),
)
BOXES = {t: one.boxes for one in PHRASES for t in range(one.start, one.stop) if one.boxes}
SAID = ("Man", "with", "dog", "at", "seas")
GEOMETRY = Geometry.of("squash", SIZE, GRID)
CELLS = Cells(4, 10)


def example(number):
    boxes = tuple(BOXES.get(t) for t in range(len(WORDS)))
    caption = Caption(raw=" ".join(WORDS), tokens=WORDS, boxes=boxes, phrases=PHRASES)
    return Example(image=f"{number:02}.png", split="test" if number else "train", captions=(caption,))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    examples = [example(n) for n in range(IMAGES + 1)]
    for one in examples:
        (folder / one.image).touch()
    return write_prepared(Source(name="made", root=folder, examples=examples), folder, minimum_count=1)


def one_hot(cell):
    return np.eye(16)[cell]


def in_the_box(boxes):
    return one_hot(int(np.flatnonzero(GEOMETRY.holds(boxes))[0]))


def evaluation(folder, dataset, look, quality=None, captions=True, words=True):
    """given.h5, attention.h5 and images.csv of a model that looks so at the boxes of a word."""
    rows = range(1, IMAGES + 1)
    places = np.array(sorted(BOXES))
    if words:
        looked = [
            WordGrounding(
                row=row, caption=0, words=places,
                weights=np.stack([look(BOXES[t], row) for t in places]).astype(np.float16),
            )
            for row in rows
        ]  # fmt: skip
        names = {row: dataset.examples[row].image for row in rows}
        tokens = {(row, 0): dataset.examples[row].captions[0].tokens for row in rows}
        write_given(folder / "given.h5", names, dict.fromkeys(rows, GEOMETRY), tokens, looked)
    if captions:
        with h5py.File(folder / "attention.h5", "w") as file:
            for number, row in enumerate(rows):
                group = file.create_group(str(number))
                group.attrs.update(image=f"{row:02}.png", caption=" ".join(SAID), grid=GRID, size=SIZE)
                group.attrs["affine"] = GEOMETRY.affine
                group.create_dataset("words", data=SAID, dtype=h5py.string_dtype())
                spoken = {0: (CELL,), 2: (QUARTER,), 4: (HALF,)}
                alpha = [look(spoken[t], row) if t in spoken else one_hot(0) for t in range(len(SAID))]
                group.create_dataset("alpha", data=np.stack(alpha).astype(np.float32))
    with open(folder / "images.csv", "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["image", "caption", "bleu4", "cider", "grounding_mass", "grounding_pointing",
                        "grounding_uniform_mass", "grounding_uniform_pointing"])  # fmt: skip
        for row in rows:
            mass = np.mean([look(BOXES[t], row) @ GEOMETRY.shares(BOXES[t]) for t in places])
            cider = quality(row, mass) if quality else 0.5
            lines.writerow([f"{row:02}.png", "x", (row * 7) % 13 / 13, cider, mass, mass, 0.3, 0.3])


def make(root, dataset, variant, seed, look, *, fingerprint=None, **same):
    """A finished run whose one evaluation looks so."""
    found = scores(grounding={"cell_mass": 0.1, "mass_cell": CELLS.mass, "pointing_cell": CELLS.pointing})
    found |= {"images": IMAGES, "data_fingerprint": fingerprint or dataset.about["fingerprint"]}
    run = make_run(root, f"made/{variant}/seed{seed}", headline=found, evaluations=[found])
    (run / "config.json").write_text(json.dumps({"data": str(dataset.folder)}))
    evaluation(run / "evaluations/test-expected-beam3", dataset, look, **same)
    return run


def perfect(boxes, row):
    return in_the_box(boxes)


def blind(boxes, row):
    return one_hot(15)


def mixed(boxes, row):
    """Half in the box for even images, the corner for odd ones."""
    return (in_the_box(boxes) + one_hot(15)) / 2 if row % 2 == 0 else one_hot(15)


@pytest.fixture(autouse=True, scope="module")
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grounding, "RESAMPLES", 500)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory, dataset):
    root = tmp_path_factory.mktemp("runs")
    for variant, look in (("soft", mixed), ("hard", perfect)):
        for seed in (0, 1):
            make(root, dataset, variant, seed, look, quality=lambda row, mass: row / 100 + mass)
    return root


@pytest.fixture(scope="module")
def found(runs):
    return grounding.measure(read_runs([runs]))


def row(found, variant, group, measure="mass", captions="given"):
    (one,) = [
        r for r in found.rows if (r.variant, r.group, r.measure, r.captions) == (variant, group, measure, captions)
    ]
    return one


def test_a_model_that_looks_at_its_boxes_has_all_of_them(found):
    for one in (r for r in found.rows if r.variant == "hard"):
        assert one.looks["learned"].value == pytest.approx(1) and one.looks["learned"].seeds == 2
    assert found.notes == () and found.split == "test"


def test_words_are_parted_by_size_and_by_type(found):
    sizes = {"small": CELL, "medium": QUARTER, "large": HALF}
    for name, box in sizes.items():
        one = row(found, "soft", name)
        assert one.looks["uniform"].value == pytest.approx(GEOMETRY.shares([box]).mean())
    counted = {r.group: r.words / IMAGES for r in found.rows if (r.variant, r.captions) == ("soft", "given")}
    assert counted == {"all": 7, "small": 2, "medium": 2, "large": 3, "people": 2, "animals": 2, "scene": 5}
    counted = {r.group: r.words / IMAGES for r in found.rows if (r.variant, r.captions) == ("soft", "generated")}
    assert counted == {"all": 3, "small": 1, "medium": 1, "large": 1, "people": 1, "animals": 1, "scene": 2}


def test_all_words_score_what_the_metric_says_of_the_captions(found):
    """The same numbers as ``attend.metrics.grounding``, which knows nothing of phrases."""
    words = [BoxedWord(n, mixed(BOXES[t], n), BOXES[t], GEOMETRY) for n in range(1, IMAGES + 1) for t in sorted(BOXES)]
    truth = ground(words, CELLS).mean(axis=0)
    for m, measure in enumerate(MEASURES):
        one = row(found, "soft", "all", measure)
        assert {look: one.looks[look].value for look in LOOKS} == pytest.approx(
            dict(zip(LOOKS, truth[:, m], strict=True))
        )
        assert one.best == CONTROLS[int(np.argmax(truth[1:, m]))]


def leaning(share):
    """So much of the weight in the box, and the rest in the corner."""
    return lambda boxes, row: share * in_the_box(boxes) + (1 - share) * one_hot(15)


def test_models_that_differ_in_sharpness_alone_are_equal_at_equal_sharpness(tmp_path, dataset):
    """Of two cells there is one share that has the common entropy, whatever the share was."""
    for variant, share in (("soft", 0.6), ("hard", 0.9)):
        make(tmp_path, dataset, variant, 0, leaning(share))
    found = grounding.measure(read_runs([tmp_path]))
    own = [row(found, variant, "all").looks["learned"].value for variant in ("hard", "soft")]
    nats = np.mean([-p * np.log(p) - (1 - p) * np.log(1 - p) for p in (0.6, 0.9)])
    share = brentq(lambda p: -p * np.log(p) - (1 - p) * np.log(1 - p) - nats, 0.5, 1 - 1e-9)
    boxed = np.mean([leaning(share)(BOXES[t], 1) @ GEOMETRY.shares(BOXES[t]) for t in BOXES])
    assert own[0] > own[1] + 0.1
    for one in found.equal:
        assert one.nats == pytest.approx(nats, abs=1e-3)  # given.h5 has half precision
        assert one.looks["learned"].value == pytest.approx(boxed, abs=2e-3)
        centre = np.mean([centre_of(GRID, nats) @ GEOMETRY.shares(BOXES[t]) for t in BOXES])
        assert one.looks["matched"].value == pytest.approx(centre, abs=2e-3)
    first, other = found.equal
    assert first.less_first is None and other.less_first.value == pytest.approx(0, abs=1e-3)
    assert "## At equal sharpness" in grounding_table.markdown(found)
    header, *lines = grounding_table.equal_numbers(found)
    assert [line[header.index("less_first")] for line in lines] == ["", f"{other.less_first.value:.6g}"]


def test_the_difference_to_a_control_is_that_of_the_same_words(found):
    one = row(found, "soft", "large")
    for look in LOOKS[1:]:
        difference = one.beyond[look]
        assert difference.value == pytest.approx(one.looks["learned"].value - one.looks[look].value)
        assert difference.low <= difference.value <= difference.high
    assert row(found, "hard", "large").beyond["matched"].low > 0
    assert row(found, "hard", "large").beyond["matched"].p < 0.01


def test_generated_words_meet_the_heads_of_phrases():
    captions = (tuple(one._replace(head=WORDS[one.stop - 1]) for one in PHRASES[:2]), None)
    assert {name: [one.chain for one in some] for name, some in heads(captions).items()} == {"man": ["1"], "dog": ["2"]}


def test_a_word_that_names_two_things_speaks_of_both(tmp_path, dataset):
    two = (PHRASES[1]._replace(head="dogs"), Phrase("9", ("toys",), 0, 1, (CELL,), "dog"))
    evaluation(tmp_path, dataset, blind)
    looked = generated(tmp_path / "attention.h5", 3, {f"{n:02}.png": (two,) for n in range(1, 4)}, CELLS)
    assert looked.types[0] == ("animals", "toys") and looked.size[0] == pytest.approx(1 / 4 + 1 / 16)
    assert len(looked.image) == 3


@pytest.mark.parametrize(
    ("word", "alone"),
    [("dogs", "dog"), ("Dog", "dog"), ("women", "woman"), ("people", "person"), ("puppies", "puppy"),
     ("grass", "grass"), ("glasses", "glass"), ("benches", "bench"), ("boxes", "box"), ("bus", "bus"),
     ("tennis", "tennis"), ("is", "is"), ("ties", "tie"), ("horses", "horse")],
)  # fmt: skip
def test_plurals_are_undone(word, alone):
    assert singular(word) == alone


def test_words_of_others_are_words_of_other_images_and_drawn_by_the_seed():
    image = np.repeat(np.arange(5), [1, 40, 3, 1, 5])
    chosen = words_of_others(image, 0)
    assert (image[chosen] != image).all()
    assert np.array_equal(chosen, words_of_others(image, 0)) and not np.array_equal(chosen, words_of_others(image, 1))
    drawn = np.concatenate([words_of_others(image, seed)[:1] for seed in range(4000)])
    shares = np.bincount(image[drawn], minlength=5)[1:] / 4000
    assert shares == pytest.approx(np.array([40, 3, 1, 5]) / 49, abs=0.03)
    assert words_of_others(np.zeros(3, int), 0).tolist() == [0, 1, 2]


def test_weights_that_never_change_are_as_good_at_another_images_word(tmp_path, dataset):
    evaluation(tmp_path, dataset, blind)
    phrases = {f"{n:02}.png": (PHRASES,) for n in range(1, IMAGES + 1)}
    looked = given(tmp_path / "given.h5", phrases, CELLS)
    learned, shuffled = (looked.scores[:, LOOKS.index(name)] for name in ("learned", "shuffled"))
    assert np.array_equal(learned, shuffled)


def test_spearman_of_a_resample_is_that_of_the_repeated_points():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 30).astype(float), rng.normal(size=30)
    counts = rng.multinomial(30, np.full(30, 1 / 30), size=10)
    for rho, times in zip(spearman(counts.astype(float), x, y), counts, strict=True):
        a, b = np.repeat(x, times), np.repeat(y, times)
        assert rho == pytest.approx(spearmanr(a, b).statistic)
        assert rho == pytest.approx(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def test_correlations_over_images_are_means_over_seeds(found):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 50)), rng.normal(size=(2, 50))
    y[0], y[1, 7] = x[0] ** 3, np.nan
    rho = correlation(x, y)
    there = np.isfinite(y[1])
    assert rho.value == pytest.approx((1 + spearmanr(x[1][there], y[1][there]).statistic) / 2)
    assert rho.seeds == 2 and rho.images == 50 and rho.low < rho.value < rho.high
    assert correlation(np.ones((1, 9)), rng.normal(size=(1, 9))) is None
    known = {(r.variant, r.captions, r.looks, r.score): r.rho for r in found.ranks}
    assert known["soft", "given", "mass", "cider"].low > 0.3, "planted"
    assert known["soft", "given", "mass", "bleu4"].low < 0 < known["soft", "given", "mass", "bleu4"].high
    assert ("hard", "given", "mass", "cider") not in known, "its mass does not vary"
    assert not any(score == "meteor" for *_, score in known), "there is none in images.csv"


def test_the_interval_of_a_correlation_covers():
    """Of 100 made sets of one seed with a true rho of about 0.5, near 95 % of the intervals hold it."""
    truth, held = 6 / np.pi * np.arcsin(0.5 / 2), 0
    for seed in range(100):
        x, e = np.random.default_rng(seed).normal(size=(2, 1, 80))
        rho = correlation(x, 0.5 * x + np.sqrt(0.75) * e, resamples=400)
        held += rho.low <= truth <= rho.high
    assert 86 <= held <= 100


def test_bars_are_the_means_and_lines_the_controls(found):
    axes = grounding_bars(found.rows, captions="given", measure="pointing")
    labels = [label.get_text() for label in axes.get_xticklabels()]
    drawn = sorted(round(bar.get_height(), 6) for bar in axes.patches)
    rows = [r for r in found.rows if (r.captions, r.measure) == ("given", "pointing")]
    assert drawn == sorted(round(100 * r.looks["learned"].value, 6) for r in rows)
    assert labels == ["all words", "small boxes", "medium boxes", "large boxes", "animals", "people", "scene"]
    with pytest.raises(ValueError, match="no mass of other captions"):
        grounding_bars(found.rows, captions="other")


def test_controls_are_seen_on_the_darkest_bars(found):
    """Black is one of the palette's colours: dark lines without a white edge could not be seen there."""
    rows = [r for r in found.rows if r.variant == "soft" and r.by == "all"]
    axes = grounding_bars(rows, captions="given", measure="mass")
    (bar,) = axes.patches
    bar.set_color("black")
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3]  # upwards, as the axes are
    uniform = 100 * next(r for r in rows if r.measure == "mass").looks["uniform"].value
    assert uniform < 0.8 * bar.get_height()
    x, y = axes.transData.transform((bar.get_x() + bar.get_width() / 4, uniform)).round().astype(int)
    assert pixels[y - 4 : y + 5, x - 4 : x + 5].max() > 200 and pixels[y - 20, x].max() == 0


def test_the_table_and_the_numbers_say_the_same(found):
    text = grounding_table.markdown(found)
    one = row(found, "hard", "small")
    assert f"| hard (expected) | small boxes | 120 | 100.0 [100.0, 100.0] | {100 / 16:.1f} |" in text
    header, *lines = grounding_table.numbers(found)
    (line,) = [dict(zip(header, line, strict=True)) for line in lines if line[:6] == (
        "given", "hard", "expected", "size", "small", "mass")]  # fmt: skip
    assert float(line["learned"]) == 1 and float(line["less_uniform"]) == pytest.approx(one.beyond["uniform"].value)


def test_the_verb_writes_picture_table_and_numbers(runs, tmp_path, capsys):
    main(["plot", "grounding", str(runs), "--out", str(tmp_path / "out"), "--formats", "png,pdf"])
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"grounding{end}" for end in (".png", ".pdf", ".csv", ".md", "-equal.csv", "-quality.csv")}
    assert sorted(capsys.readouterr().out.split()) == sorted(str(tmp_path / "out" / name) for name in written)


def test_what_is_missing_is_named_and_the_rest_goes_on(tmp_path, dataset):
    make(tmp_path, dataset, "soft", 0, mixed)
    lacking = make(tmp_path, dataset, "hard", 0, perfect, captions=False, words=False)
    other = make(tmp_path, dataset, "other", 0, perfect, fingerprint="0" * 16)
    (make(tmp_path, dataset, "torn", 0, perfect) / "evaluations/test-expected-beam3/given.h5").write_bytes(b"torn")
    found = grounding.measure(read_runs([tmp_path]))
    assert {r.variant for r in found.rows if r.captions == "given"} == {"soft"}
    assert {r.variant for r in found.rows if r.captions == "generated"} == {"soft", "torn"}
    said = "\n".join(found.notes)
    where = f"{lacking}/evaluations/test-expected-beam3"
    assert f"{where} has no given.h5: evaluate the run again" in said and f"{where} has no attention.h5" in said
    assert f"{other}/evaluations/test-expected-beam3 has another dataset than {dataset.folder}" in said
    assert "given.h5 cannot be read as weights of given captions" in said
    assert all(note in grounding_table.markdown(found) for note in found.notes)


def test_a_dataset_that_moved_is_found_again(tmp_path, dataset, capsys):
    run = make(tmp_path, dataset, "soft", 0, mixed)
    (run / "config.json").write_text(json.dumps({"data": "moved"}))
    with pytest.raises(SystemExit):
        main(["plot", "grounding", str(run), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert "there is no prepared dataset at moved: say where it is with --data" in error and error.count("\n") == 1
    main(["plot", "grounding", str(run), "--out", str(tmp_path / "out"), "--data", str(dataset.folder)])


def test_of_several_beams_the_headlines_is_taken_and_experiments_are_named(tmp_path, dataset):
    run = make(tmp_path, dataset, "soft", 0, mixed)
    wide = run / "evaluations/test-expected-beam9"
    wide.mkdir()
    evaluation(wide, dataset, perfect)
    (wide / "scores.json").write_text(json.dumps(json.loads((run / "scores.json").read_text()) | {"beam": 9}))
    found = grounding.measure(read_runs([tmp_path]))
    assert (
        row(found, "soft", "all").looks["learned"].seeds == 1 and row(found, "soft", "all").looks["learned"].value < 1
    )
    make_run(tmp_path, "other/soft/seed0", headline=scores(), evaluations=[scores()])
    found = grounding.measure(read_runs([tmp_path]))
    assert {r.variant for r in found.rows} == {"made/soft"}


def test_one_seed_is_never_bold_and_has_no_p(tmp_path, dataset, found):
    """Its interval is over images alone, and another seed may differ by more."""
    make(tmp_path, dataset, "soft", 0, mixed)
    make(tmp_path, dataset, "hard", 0, perfect)
    alone = grounding.measure(read_runs([tmp_path]))
    assert row(alone, "hard", "all").beyond["uniform"].low > 0 and "**" in grounding_table.markdown(found)
    assert "**" not in grounding_table.markdown(alone)
    for some, tested in ((found, True), (alone, False)):
        header, *lines = grounding_table.numbers(some)
        assert all(bool(line[header.index("less_uniform_p")]) == tested for line in lines)


def test_too_few_words_are_said(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(grounding, "FEWEST", 1000)
    make(tmp_path, dataset, "soft", 0, mixed)
    with pytest.raises(ValueError, match="soft, expected: fewer than 1000 words of given captions have boxes"):
        grounding.measure(read_runs([tmp_path]))


def test_seeds_of_other_images_are_left_out(tmp_path, dataset):
    make(tmp_path, dataset, "soft", 0, mixed)
    shorter = make(tmp_path, dataset, "soft", 1, mixed) / "evaluations/test-expected-beam3"
    path = shorter / "scores.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"images": 30}))
    found = grounding.measure(read_runs([tmp_path]))
    assert row(found, "soft", "all", captions="generated").looks["learned"].seeds == 1
    assert any("generated captions of 1 seed are left out: their images differ" in note for note in found.notes)
