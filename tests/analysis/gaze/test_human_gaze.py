from dataclasses import replace

import numpy as np
import pytest
from attend.analysis.gaze.human_gaze import (
    CENTRE,
    ELSEWHERE,
    EVEN,
    MEASURES,
    OF_PATHS,
    PEOPLE,
    by_image,
    compare_people,
    read_people,
    what_people_saw,
)
from attend.analysis.gaze.paths import LARGEST, Gaze, paths
from attend.analysis.gaze.saccades import spread
from scipy.optimize import brentq

from attend.geometry import Geometry, centre_weights
from attend.metrics.saliency import density, kl
from attend.runs.evaluations import Attention

GEOMETRY = Geometry.of("squash", (200, 100), (4, 8))  # cells of 25 x 25 pixels
NAMES = [f"folder/{number}.jpg" for number in range(12)]
GEOMETRIES = dict.fromkeys(NAMES, GEOMETRY)


def looks(seed=0, variant="soft"):
    rng = np.random.default_rng(seed)
    attention = {}
    for name in NAMES:
        weights = rng.dirichlet(np.full(32, 0.05), 6)
        words = ("a", "red", "dog", "runs", "and", "jumps")
        attention[name] = Attention(
            image=name,
            caption=" ".join(words),
            words=words,
            weights=weights,
            glimpses=None,
            gates=None,
            geometry=GEOMETRY,
        )
    return Gaze(variant=variant, seed=seed, decode="expected", glimpsed=False, conditional=False, attention=attention)


def write(path, rows, header="image,subject,order,x,y"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def observers(model, count, follow, seed=1):
    """Fixations of people who look where the model looks, or anywhere."""
    rng = np.random.default_rng(seed)
    rows = []
    for name, look in model.attention.items():
        for subject in range(count):
            for t, alpha in enumerate(look.weights):
                cell = rng.choice(32, p=alpha / alpha.sum()) if follow else rng.integers(32)
                x, y = GEOMETRY.centres()[cell] + rng.uniform(-10, 10, 2)
                rows.append((name, f"s{subject}", t + 1, round(x, 1), round(y, 1)))
    return rows


def test_a_file_by_hand(tmp_path):
    rows = [("0.jpg", "ann", 2, 30, 40), ("0.jpg", "ann", 1, 10, 20), ("folder/1.jpg", "bob", 1, 0, 99.5)]
    scans, left = read_people(write(tmp_path / "p.csv", rows), GEOMETRIES)
    assert [(scan.image, scan.subject) for scan in scans] == [("folder/0.jpg", "ann"), ("folder/1.jpg", "bob")]
    assert scans[0].points.tolist() == [[10, 20], [30, 40]] and scans[0].durations.tolist() == [1, 1]
    assert left == [f"{tmp_path / 'p.csv'}: subject bob has one fixation on folder/1.jpg, so no path to compare"]
    timed = write(tmp_path / "t.csv", [(0, 1, "0.jpg", 5, 6, 0.25)], "order,subject,image,x,y,duration")
    assert read_people(timed, GEOMETRIES)[0][0].durations.tolist() == [0.25]


def test_what_is_left_out_is_said_and_the_rest_goes_on(tmp_path):
    rows = [
        ("0.jpg", "a", 1, 200, 20),
        ("0.jpg", "a", 1, -1, 20),
        ("0.jpg", "a", "first", 1, 20),
        ("0.jpg", "a", 1),
        ("none.jpg", "a", 1, 1, 1),
        ("none.jpg", "a", 2, 1, 1),
        ("0.jpg", "a", 1, "nan", 1),
        ("0.jpg", "a", 1, 5, 5),
        ("0.jpg", "a", 2, 9, 5),
    ]
    path = write(tmp_path / "p.csv", rows)
    scans, left = read_people(path, GEOMETRIES)
    assert [scan.points.tolist() for scan in scans] == [[[5, 5], [9, 5]]]
    broken = "a fixation needs numbers for order, x and y, and a duration above 0"
    assert left == [
        f"{path}, line 2: (200, 20) is outside folder/0.jpg, which has 200 x 100 pixels",
        f"{path}, line 3: (-1, 20) is outside folder/0.jpg, which has 200 x 100 pixels",
        *(f"{path}, line {number}: {broken}" for number in (4, 5, 8)),
        f"{path}: no run has the image 'none.jpg' (2 fixations)",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"image,subject,x,y\n", "lacks the column order; its first line must have image,subject,order,x,y"),
        (b"", "lacks the column image, subject, order, x, y"),
        (b"image,subject,order,x,y\n", "has no fixation on an image of these runs"),
        (b"image,subject,order,x,y\nno.jpg,a,1,2,3\n", "no run has the image 'no.jpg'"),
        (b"\xff\xfe\x00\x00\xd8", "is not readable as CSV"),
        (b'image,subject,order,x,y\n"0.jpg,a,1,2,3\n', "is not readable as CSV"),
    ],
)
def test_what_is_no_such_file(tmp_path, content, said):
    path = tmp_path / "p.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        read_people(path, GEOMETRIES)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_who_looks_where_the_model_looks_agrees_with_it(tmp_path):
    model = looks()
    found = {}
    for follow in (True, False):
        scans, left = read_people(write(tmp_path / "p.csv", observers(model, 3, follow)), GEOMETRIES)
        assert not left
        found[follow] = by_image(compare_people(scans, [model]))
    means = {follow: {name: np.nanmean(of["soft"][name]) for name in MEASURES} for follow, of in found.items()}
    for name in MEASURES:
        if name != "duration":  # of made-up people they are all 1
            better = means[True][name] - means[False][name]
            assert better < 0 if name == "kl" else better > 0, name
    assert means[True]["auc"] > 0.7 and abs(means[False]["auc"] - 0.5) < 0.08 and abs(means[False]["nss"]) < 0.25
    other = by_image(compare_people(scans, [looks(5)]))
    assert abs(np.nanmean(other["soft"]["nss"])) < 0.3
    centre = found[True][CENTRE.format("soft")]
    assert np.isnan(centre["shape"]).all() and np.isfinite(centre["auc"]).all()
    people = found[True][PEOPLE]
    assert people["shape"].shape == (1, 12) and np.nanmean(people["nss"]) > 1 > abs(
        np.nanmean(found[False][PEOPLE]["nss"])
    )
    even, elsewhere = found[True][EVEN], found[True][ELSEWHERE]
    assert np.isnan(even["nss"]).all() and (even["auc"] == 0.5).all() and (even["shuffled auc"] == 0.5).all()
    assert elsewhere["bits beyond others' images"] == pytest.approx(np.zeros((1, 12)))
    for name in ("position", "scanmatch"):  # a stranger's path is one on another picture, where the model looked
        assert np.nanmean(elsewhere[name]) < np.nanmean(people[name]) and np.isfinite(elsewhere[name]).all()


def test_the_centre_is_as_sharp_as_the_model(tmp_path):
    """Its entropy, taken from the map it is, is the mean of that of the model's maps; and each model has its own."""
    sharp, blunt = looks(0, "hard"), looks(0, "soft")
    blunt.attention.update({name: replace(one, weights=one.weights + 0.1) for name, one in blunt.attention.items()})
    scans, _ = read_people(write(tmp_path / "p.csv", observers(sharp, 2, True)), GEOMETRIES)
    compared = compare_people(scans, [sharp, blunt])
    people = what_people_saw(scans, [sharp])[NAMES[0]]
    for model in (sharp, blunt):
        maps = [one.weights.mean(0) / one.weights.mean(0).sum() for one in model.attention.values()]
        nats = np.mean([-(one * np.log(one)).sum() for one in maps])
        wide = brentq(lambda w, nats=nats: -(g := centre_weights((4, 8), w)) @ np.log(g) - nats, 0.05, 50)
        middle = spread(centre_weights((4, 8), wide), GEOMETRY, people.shape[::-1])
        own = [row for row in compared[1:] if row[:3] == (CENTRE.format(model.variant), 0, NAMES[0])]
        assert own[0][4 + MEASURES.index("kl")] == pytest.approx(kl(middle, people.everybody), abs=1e-6)


def test_what_is_known_of_an_image_is_not_known_from_its_own_fixations(tmp_path):
    """The density of other images, and that of the other subjects, are without the image's and the subject's own."""
    model = looks()
    scans, _ = read_people(write(tmp_path / "p.csv", observers(model, 3, True)), GEOMETRIES)
    seen = what_people_saw(scans, [model])[NAMES[0]]
    rest = what_people_saw([one for one in scans if one.image != NAMES[0]] + list(seen.scans[:1]), [model])[NAMES[0]]
    assert np.array_equal(seen.elsewhere, rest.elsewhere)
    assert seen.shape == (60, 120) and seen.everybody.sum() == pytest.approx(1)
    pixels = np.concatenate(seen.points[1:])
    assert np.allclose(seen.but[0], density(pixels, seen.shape, 0.03 * 120))


def test_a_path_on_another_image_is_at_the_same_shares_of_this_one(tmp_path):
    """Drawn on a picture of another size, somebody's path is stretched to this one."""
    model, large = looks(), Geometry.of("squash", (800, 300), (4, 8))
    pair = {NAMES[0]: model.attention[NAMES[0]], NAMES[1]: replace(model.attention[NAMES[1]], geometry=large)}
    rows = [(NAMES[0], "a", 1, 20, 30), (NAMES[0], "a", 2, 50, 60)]
    rows += [(NAMES[1], "b", 1, 400, 150), (NAMES[1], "b", 2, 600, 30)]
    scans, _ = read_people(write(tmp_path / "p.csv", rows), {NAMES[0]: GEOMETRY, NAMES[1]: large})
    seen = what_people_saw(scans, [replace(model, attention=pair)])
    diagonals = np.hypot(200, 100), np.hypot(800, 300)
    np.testing.assert_allclose(seen[NAMES[0]].strangers[0].points * diagonals[0], [[100, 50], [150, 10]])
    np.testing.assert_allclose(seen[NAMES[1]].strangers[0].points * diagonals[1], [[80, 90], [200, 180]])


def test_a_models_own_path_is_like_itself(tmp_path):
    """Exported as a person's, the path of the largest weights is the run's own."""
    model = looks()
    rows = [
        (name, "me", number, *fixation.point, len(fixation.words))
        for name, look in model.attention.items()
        for number, fixation in enumerate(paths(look, LARGEST)[0], 1)
    ]
    scans, _ = read_people(write(tmp_path / "p.csv", rows, "image,subject,order,x,y,duration"), GEOMETRIES)
    values = by_image(compare_people(scans, [model]))["soft"]
    for name in OF_PATHS:
        np.testing.assert_allclose(values[name], 1)


def test_seeds_and_subjects_have_their_places(tmp_path):
    models = [looks(0), looks(1)]
    rows = [row for row in observers(models[0], 2, True) if row[0] != NAMES[3] or row[1] == "s0"]
    scans, _ = read_people(write(tmp_path / "p.csv", rows), GEOMETRIES)
    compared = compare_people(scans, models)
    values = by_image(compared)["soft"]
    assert values["nss"].shape == (2, 12)
    own = [row for row in compared[1:] if row[:3] == ("soft", 1, NAMES[0])]
    assert values["nss"][1, sorted(NAMES).index(NAMES[0])] == pytest.approx(np.mean([row[4] for row in own]))
    assert len(own) == 2
