import numpy as np
import pytest
from attend.analysis.gaze.path_figures import (
    _methods,
    draw_gaze_statistics,
    gaze_table,
    tabulate_differences,
    tabulate_gaze,
)
from attend.analysis.gaze.paths import (
    DRAWS,
    LARGEST,
    MASS,
    MEASURES,
    SECTORS,
    by_kind,
    describe,
    drawn_cells,
    measure,
    paths,
    read_gaze,
)
from attend.analysis.gaze.similarity import compare_paths, in_diagonals, tabulate_similarity
from attend.analysis.grounding.word_kinds import FUNCTION, KINDS, word_kinds
from attend.analysis.records import read_runs
from attend.analysis.statistics.intervals import interval, within

from attend.geometry import Geometry
from attend.metrics.gaze import merge
from attend.metrics.multimatch import DIMENSIONS
from attend.runs.evaluations import Attention
from tests.made_gaze import GEOMETRY, IMAGES, make_experiment, peaked

SQUARE = Geometry.of("squash", (300, 400), (4, 3))  # cells of 100 x 100, a diagonal of 500


def look(caption, cells, *, share=1.0, gates=None, image="a.jpg"):
    words = tuple(caption.split())
    weights = peaked(cells, share, 12)
    return Attention(
        image=image, caption=caption, words=words, weights=weights, glimpses=None, gates=gates, geometry=SQUARE
    )


def test_a_path_by_hand():
    """Right 100, down 100, back to the first place (up left, 141), stay, and right to the second."""
    one = look("a red dog runs and jumps", [0, 1, 4, 0, 0, 1])
    (path,) = paths(one, LARGEST)
    found = describe(path, SQUARE)
    assert found["amplitude"] == pytest.approx((100 + 100 + 100 * np.sqrt(2) + 100) / 4 / 500)
    assert found["moves"] == 4 / 5 and found["returns"] == 2 / 4 and found["distinct"] == 3 / 6
    rose = {name: found[name] for name in SECTORS if found[name]}
    assert rose == {"right": 0.5, "down": 0.25, "up left": 0.25}


@pytest.mark.parametrize("sector", range(8))
def test_directions_are_those_that_a_reader_sees(sector):
    """Up in the picture is up, though y counts downwards."""
    angle = sector * np.pi / 4
    points = np.array([[150, 200], [150 + 100 * np.cos(angle), 200 - 100 * np.sin(angle)]])
    assert describe(merge(["a", "b"], points), SQUARE)[SECTORS[sector]] == 1


def test_where_nothing_moves_nothing_is_said():
    found = describe(paths(look("a dog", [3, 3]), LARGEST)[0], SQUARE)
    assert found["moves"] == 0 and found["distinct"] == 0.5
    assert all(np.isnan(found[name]) for name in ("amplitude", "returns", *SECTORS))
    assert all(np.isnan(value) for value in describe([], SQUARE).values())


def test_kinds_of_words_by_hand():
    one = look("a red dog runs", [0, 1, 1, 7], gates=np.array([0.1, 0.2, 0.3, 0.4]))
    found = by_kind(one, paths(one, LARGEST))
    assert found["moves", "adjective"] == 1 and found["moves", "noun"] == 0 and found["moves", "verb"] == 1
    assert np.isnan(found["moves", "function"])  # the first word: nothing led to it
    assert found["amplitude", "verb"] == pytest.approx(200 / 500) and np.isnan(found["amplitude", "noun"])
    assert found["gate", "noun"] == 0.3 and found["gate", "function"] == 0.1
    assert found["entropy", "noun"] == 0 and np.isnan(found["entropy", "other"])
    assert np.isnan(by_kind(look("a red dog runs", [0, 1, 1, 7]), [[]])["gate", "noun"])


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("a black and white dog jumps over a log", "f a f a n v f f n"),
        ("two men in snowy woods", "o n f a n"),
        ("a woman 's blue shirt is n't clean", "f n f a n f f a"),
        ("a large yellow heart above the black cross", "f a a n f f a n"),
        ("a crowded airplane", "f a n"),
        ("a man riding a bike down the street", "f n v f n f f n"),
        ("", ""),
    ],
)
def test_words_have_their_kind(caption, said):
    assert [kind[0] for kind in word_kinds(caption.split())] == said.split()


def test_every_kind_is_a_kind_and_function_words_are_lower_case():
    odd = ["", "a.b", "12", "dog.", "n't", "ünïcode", "x y", "$5"]
    assert set(word_kinds(odd)) <= set(KINDS) and len(word_kinds(odd)) == len(odd)
    assert all(word == word.lower() and " " not in word for word in FUNCTION)


def test_draws_follow_the_stored_weights_and_their_seed():
    one = look("a red dog", [0, 5, 11], share=0.5)
    cells = drawn_cells(one, 4000, 0)
    assert np.abs((cells == [0, 5, 11]).mean(axis=0) - 0.5).max() < 0.04
    some = paths(one, DRAWS, draws=3, seed=0)
    assert some == paths(one, DRAWS, draws=9, seed=0)[:3] != paths(one, DRAWS, draws=3, seed=1)
    other = look("a red dog", [0, 5, 11], share=0.5, image="b.jpg")
    assert (drawn_cells(other, 50, 0) != cells[:50]).any()


def test_a_mean_gaze_rests_where_a_soft_one_jumps():
    one = look("a red dog runs", [0, 11, 0, 11], share=1.1 / 12)
    assert len(paths(one, LARGEST)[0]) == 4 and len(paths(one, MASS)[0]) == 1


@pytest.fixture(scope="module")
def looks(tmp_path_factory):
    records = read_runs([make_experiment(tmp_path_factory.mktemp("runs"))])
    return [read_gaze(record, record.evaluations[0], record.variant) for record in reversed(records)]


def test_a_run_is_read_as_it_was_decoded(looks):
    assert [(one.variant, one.seed, one.ways) for one in looks] == [
        ("soft", 1, (LARGEST, MASS)),
        ("soft", 0, (LARGEST, MASS)),
        ("hard", 1, ("argmax", DRAWS)),
        ("hard", 0, ("argmax", DRAWS)),
    ]
    assert looks[2].conditional and not looks[0].conditional


def test_the_table_holds_intervals_of_what_was_measured(looks):
    measured = [measure(one, one.ways[0], IMAGES) for one in looks]
    rows = tabulate_gaze(measured)
    found = {(row.variant, row.measure, row.part): row.found for row in rows}
    values = np.stack([one.values["distinct", ""] for one in (measured[1], measured[0])])
    assert found["soft", "distinct", ""] == within(interval(values), 0, 1)
    hand = [describe(paths(looks[1].attention[image], LARGEST)[0], GEOMETRY)["distinct"] for image in IMAGES]
    np.testing.assert_allclose(values[0], hand)
    first = found["soft", "entropy", "word 1"]
    assert first.value == pytest.approx(-0.7 * np.log(0.7) - 0.3 * np.log(0.3 / 15), abs=1e-5)
    assert found["hard", "distinct", ""].value < found["soft", "distinct", ""].value
    differences = {row.measure: row for row in tabulate_differences(measured)}
    assert set(differences) == set(MEASURES) and differences["distinct"].variant == "soft − hard"
    expected = found["soft", "distinct", ""].value - found["hard", "distinct", ""].value
    assert differences["distinct"].found.value == pytest.approx(expected)
    said = gaze_table(rows, list(differences.values()))
    assert "| soft − hard | largest weight − argmax |" in said and "2 seeds and 6 images" in said


def test_one_figure_draws_what_the_table_holds(looks, tmp_path):
    measured = [measure(one, way, IMAGES, draws=3) for one in looks for way in one.ways]
    rows = tabulate_gaze(measured)
    figure = draw_gaze_statistics(rows, measured[0].ceiling)
    assert len(figure.axes) == 6 and measured[0].ceiling == pytest.approx(np.log(16))
    points = {round(float(line.get_xdata()[0]), 9) for line in figure.axes[0].lines if len(line.get_xdata()) == 1}
    whole = [row for row in rows if not row.part and row.measure in ("amplitude", "moves", "returns", "distinct")]
    assert {round(row.found.value, 9) for row in whole} <= points
    for row in rows:
        assert len(row.cells()) == 11
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == ["soft: largest weight", "soft: centre of mass", "hard: argmax", "hard: draws"]
    figure.savefig(tmp_path / "gaze.png")
    (said,) = [text for text in figure.texts if text.get_text().startswith("bars and bands")]
    assert said.get_window_extent().x1 < figure.bbox.x1  # the note is not cut off


def test_methods_that_differ_in_images_alone_are_said_once():
    rng = np.random.default_rng(0)
    of = [interval(rng.normal(size=(seeds, images)), resamples=50) for seeds, images in ((1, 1200), (1, 7), (3, 9))]
    assert _methods(of) == ["bootstrap over 7 to 1,200 images of one seed", "bootstrap over 3 seeds and 9 images"]


def test_similarity_stands_beside_chance(looks):
    rows = tabulate_similarity(looks, IMAGES)
    names = list(dict.fromkeys((row.variant, row.part) for row in rows))
    pairs = ("within hard", "within soft", "hard and soft")
    assert names == [(pair, part) for pair in pairs for part in ("same image", "another image", "difference")]
    found = {(row.variant, row.part, row.measure): row.found for row in rows}
    for pair in pairs:
        same, other, less = (found[pair, part, "position"] for part in ("same image", "another image", "difference"))
        assert less.value == pytest.approx(same.value - other.value) and same.seeds == 1
    twins = tabulate_similarity([looks[0], looks[0]], IMAGES)
    assert {row.found.value for row in twins if row.part == "same image"} == {1.0}
    assert all(row.found.value > 0 for row in twins if row.part == "difference" and row.measure != "duration")


def test_size_of_the_picture_does_not_matter():
    small, large = Geometry.of("squash", (30, 40), (4, 3)), SQUARE
    cells = [[0, 4, 11, 2], [1, 9, 3, 3]]
    words = ["a", "b", "c", "d"]
    compared = [
        compare_paths(*(in_diagonals(merge(words, geometry.centres()[path]), geometry) for path in cells))
        for geometry in (small, large)
    ]
    np.testing.assert_allclose(*compared)
    assert compared[0].shape == (len(DIMENSIONS),)
    still = in_diagonals(merge(words, small.centres()[[3, 3, 3, 3]]), small)
    assert np.isnan(compare_paths(still, still)).all()


def test_broken_attention_names_its_file(looks, tmp_path):
    record = read_runs([make_experiment(tmp_path, seeds=1)])[0]
    path = record.evaluations[0].attention
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="cannot be read as attention"):
        read_gaze(record, record.evaluations[0], "hard")
    path.unlink()
    with pytest.raises(ValueError, match=r"attention.h5 is missing: evaluate the run again"):
        read_gaze(record, record.evaluations[0], "hard")
