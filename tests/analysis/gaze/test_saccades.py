from itertools import combinations

import h5py
import numpy as np
import pytest
from attend.analysis.figures.figures import PALETTE, colours, drawn, save
from attend.analysis.gaze.labels import place
from attend.analysis.gaze.pictures import LONGEST, Glance, content, gaze_paths, side_by_side
from attend.analysis.gaze.saccades import heated, spread, tabulate, times_even
from attend.analysis.grounding.word_kinds import word_kinds
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from attend.geometry import Geometry
from attend.metrics.gaze import fixations, merge
from attend.runs.evaluations import read_all, read_attention
from tests.made_gaze import attention_of, drawn_path, maps_of
from tests.made_runs import make_attention

CAPTION = "a man in a red shirt is riding a skateboard down the side of a ramp"
WORDS = CAPTION.split()


def photo(size=(240, 160)):
    """Light on the left and dark on the right."""
    width, height = size
    ramp = np.linspace(255, 0, width).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(ramp[None, :, None], (height, width, 3)).copy())


def wandering(words, grid, seed=0):
    """Peaked weights (T, L) whose peaks move over the whole grid, and the peaks (T,)."""
    cells = np.random.default_rng(seed).integers(0, grid[0] * grid[1], len(words))
    weights = np.full((len(words), grid[0] * grid[1]), 0.1 / (grid[0] * grid[1] - 1))
    weights[np.arange(len(words)), cells] = 0.9
    return weights, cells


def compare_gaze(image, models):
    return side_by_side(image, [[Glance(name=name, variant=name, attention=one) for name, one in models.items()]])


def boxes(figure, texts):
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [text.get_window_extent(renderer) for text in texts]


def overlapping(extents):
    return [(a, b) for a, b in combinations(extents, 2) if a.overlaps(b)]


def pixels(figure, tmp_path):
    return np.asarray(Image.open(save(figure, tmp_path / "picture", formats=("png",))[0]).convert("RGB"), int)


@pytest.mark.parametrize("transform", ["squash", "crop"])
@pytest.mark.parametrize("size", [(300, 120), (120, 300)])
@pytest.mark.parametrize("cell", [0, 24, 31, 48])
def test_light_falls_where_the_geometry_says(transform, size, cell):
    geometry = Geometry.of(transform, size, (7, 7))
    drawn_size = (2 * size[0], 2 * size[1])
    light = spread(np.eye(49)[cell], geometry, drawn_size)
    assert light.shape == drawn_size[::-1]
    y, x = np.unravel_index(light.argmax(), light.shape)
    half = 0.5 / np.array(geometry.affine[:2])
    assert (np.abs(np.array([x, y]) / 2 - geometry.centres()[cell]) <= half).all()
    if cell == 24:  # the middle cell: its light is symmetric about the picture's middle
        centroid = np.array([light.sum(0) @ np.arange(light.shape[1]), light.sum(1) @ np.arange(light.shape[0])])
        np.testing.assert_allclose(centroid / light.sum() + 0.5, size, atol=0.5)


def test_raw_light_is_the_cells_as_they_are():
    geometry = Geometry.of("crop", (120, 60), (3, 3))  # the square from x = 30 to 90, in cells of 20 pixels
    weights = np.arange(1, 10) / 45
    light = spread(weights, geometry, (120, 60), smooth=False)
    np.testing.assert_allclose(light[10::20, 40:90:20], weights.reshape(3, 3) / weights.max(), rtol=1e-6)
    assert (light[:, :30] == 0).all() and (light[:, 90:] == 0).all()
    assert len(np.unique(light)) == 10 < len(np.unique(spread(weights, geometry, (120, 60))))
    figures = [maps_of(photo((120, 60)), ["a"], weights[None], geometry, smooth=s) for s in (True, False)]
    smooth, raw = (len(np.unique(figure.axes[1].images[0].get_array())) for figure in figures)
    assert raw < smooth


def test_no_light_where_the_grid_does_not_reach():
    light = spread(np.ones(49), Geometry.of("crop", (300, 100), (7, 7)), (300, 100))
    assert (light[:, 102:198] > 0.99).all()
    assert (light[:, :98] == 0).all() and (light[:, 202:] == 0).all()


@pytest.mark.parametrize(("count", "size"), [(1, (240, 160)), (5, (300, 100)), (9, (240, 160)), (16, (100, 300))])
def test_maps_have_a_panel_a_word(count, size):
    words, geometry = WORDS[:count], Geometry.of("squash", size, (7, 7))
    weights, cells = wandering(words, (7, 7))
    figure = maps_of(
        photo(size), words, weights, geometry, glimpses=cells, gates=np.full(count, 0.5), caption=" ".join(words)
    )
    kinds = word_kinds(words)
    content = [t for t, kind in enumerate(kinds) if kind != "function"] or [*range(count)]
    order = [*content, *(t for t in range(count) if t not in content)]
    *drawn, bar = figure.axes
    assert [axes.get_title() for axes in drawn] == ["", *(f"{t + 1} {words[t]}" for t in order)]
    for axes in drawn:
        assert tuple(axes.images[0].get_extent()) == (0, *size, 0)
    assert bar.get_title(loc="left") == "weight, in multiples of an even look (1/49)"
    assert not overlapping(boxes(figure, [axes.title for axes in drawn[1:]]))
    large, small = drawn[1 : 1 + len(content)], drawn[1 + len(content) :]
    assert all(a.get_position().width > b.get_position().width for a in large for b in small) or size[0] < size[1]
    assert all(a.get_position().y0 > b.get_position().y1 for a in large for b in small)
    assert all(axes.get_position().y0 > 0 and axes.get_position().x1 <= 1 for axes in figure.axes)


def test_a_dot_marks_the_fixation_and_says_whether_it_is_in_the_box():
    """On a crop: filled in the box, hollow outside of it, and small without a box. Two colours tell soft from hard."""
    geometry = Geometry.of("crop", (240, 160), (7, 7))
    words, cells = ["dog", "dog", "dog"], np.array([24, 0, 24])  # the middle of the picture, and a corner of the crop
    around = [((0.4, 0.4, 0.6, 0.6),), ((0.4, 0.4, 0.6, 0.6),), ()]
    figure = maps_of(photo(), words, np.eye(49)[[3, 3, 3]], geometry, glimpses=cells, boxes=around)
    dots = [axes.lines[0] for axes in figure.axes[1:4]]
    np.testing.assert_allclose([dot.get_xydata()[0] for dot in dots], geometry.centres()[cells])
    assert [dot.get_markerfacecolor() for dot in dots] == [PALETTE[1], "white", PALETTE[1]]
    assert dots[2].get_markersize() < dots[0].get_markersize() == dots[1].get_markersize()
    border, frame = figure.axes[1].patches
    left, right, bottom, top = geometry.extent()
    np.testing.assert_allclose(border.get_bbox().extents, (left, top, right, bottom))
    np.testing.assert_allclose(frame.get_bbox().extents, (96, 64, 144, 96))
    said = " ".join(text.get_text() for text in figure.texts)
    assert len(figure.axes[3].patches) == 1 and "hollow: outside" in said
    assert "dot: the cell that the model reads; dashed: the word's box" in said  # argmax samples nothing
    soft = maps_of(photo(), words, np.eye(49)[[3, 3, 3]], geometry)
    (dot,) = soft.axes[1].lines
    np.testing.assert_allclose(dot.get_xydata()[0], geometry.centres()[3])
    assert dot.get_markerfacecolor() == PALETTE[0] and "hollow" not in soft.texts[-1].get_text()
    assert (
        not maps_of(photo(), ["dog"], np.full((1, 49), 1 / 49), geometry).axes[1].lines
    )  # nowhere more than elsewhere


def test_one_scale_for_all_words_and_pictures():
    """Twice an even look has one colour, whatever else the caption looks at; even weights have none."""
    geometry, grey = Geometry.of("squash", (70, 70), (7, 7)), np.full((70, 70, 3), 128, np.uint8)
    even, twice, sharp = np.full(49, 1 / 49), np.full(49, 47 / 48 / 49), np.eye(49)[24]
    twice[24] = 2 / 49
    np.testing.assert_allclose(times_even(twice, geometry, (70, 70), smooth=False)[35, 35], 2, rtol=1e-6)
    alone = maps_of(grey, ["dog"], twice[None], geometry, smooth=False).axes[1].images[0].get_array()
    beside = maps_of(grey, ["dog", "cat"], np.stack([twice, sharp]), geometry, smooth=False)
    np.testing.assert_array_equal(beside.axes[1].images[0].get_array(), alone)
    flat = maps_of(grey, ["dog"], even[None], geometry).axes[1].images[0].get_array()
    assert np.ptp(flat) < 1e-6 and np.ptp(alone[35, 35]) > 0.1
    np.testing.assert_allclose(alone[35, 35], heated(grey[:1, :1] / 255, np.array([[2.0]]))[0, 0])


def test_the_numbers_behind_the_maps(tmp_path):
    geometry = Geometry.of("squash", (70, 70), (7, 7))
    weights, cells = wandering(WORDS[:2], (7, 7))
    rows = tabulate(attention_of(WORDS[:2], weights, geometry, glimpses=cells))
    assert rows[0] == ("position", "word", "x", "y", "weight", "glimpse") and len(rows) == 1 + 2 * 49
    assert rows[1 + 49 + cells[1]] == (2, "man", *geometry.centres()[cells[1]], 0.9, 1)
    figure = maps_of(photo((70, 70)), WORDS[:2], weights, geometry)
    *_, numbers = save(figure, tmp_path / "maps", formats=("png",), numbers=rows)
    assert numbers.name == "maps.csv" and len(numbers.read_text().splitlines()) == 99


def test_maps_have_colour_where_the_word_looks():
    geometry = Geometry.of("squash", (140, 140), (7, 7))
    grey = np.full((140, 140, 3), 128, np.uint8)
    lit = maps_of(grey, ["left"], np.eye(49)[[21]], geometry).axes[1].images[0].get_array()
    assert np.ptp(lit[70, 10]) > 0.3 > 1e-6 > np.ptp(lit[70, 100])  # colour there, and grey elsewhere


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("grid", [(7, 7), (14, 14)])
@pytest.mark.parametrize("size", [(240, 160), (300, 100), (100, 300)])
def test_labels_of_the_gaze_do_not_collide(size, grid, sampled):
    geometry = Geometry.of("squash", size, grid)
    weights, cells = wandering(WORDS, grid)
    axes = drawn_path(photo(size), WORDS, weights, geometry, glimpses=cells if sampled else None)
    labels = boxes(axes.figure, axes.texts)
    places = {tuple(at) for at in fixations(weights, None, geometry)}
    shown = [WORDS[t] for t, kind in enumerate(word_kinds(WORDS)) if kind != "function"]
    assert 0 < len(labels) <= min(len(places), LONGEST) and len(shown) < len(WORDS)
    assert not overlapping(labels)
    picture = axes.get_window_extent()
    assert all(picture.x0 <= b.x0 and b.x1 <= picture.x1 for b in labels)
    assert all(picture.y0 <= b.y0 and b.y1 <= picture.y1 for b in labels)
    named, _ = content(attention_of(WORDS, weights, geometry))
    assert len(axes.patches) == min(LONGEST, len(merge(named.words, fixations(named.weights, None, geometry)))) - 1


def test_pictures_are_not_empty(tmp_path):
    geometry = Geometry.of("crop", (240, 160), (7, 7))
    weights, cells = wandering(WORDS[:4], (7, 7))
    grey = np.full((160, 240, 3), 128, np.uint8)
    maps = maps_of(grey, WORDS[:4], weights, geometry, glimpses=cells)
    gaze = drawn_path(grey, WORDS[:4], weights, geometry, glimpses=cells).figure
    for figure in (maps, gaze):
        assert pixels(figure, tmp_path).std() > 10


def test_labels_do_not_collide_where_the_gaze_hardly_moves():
    geometry = Geometry.of("squash", (240, 160), (14, 14))
    cells = np.array([90, 91, 104, 105] * 4)
    axes = drawn_path(photo(), WORDS, np.eye(196)[cells], geometry, glimpses=cells)
    assert 1 < len(axes.texts) <= 4 and not overlapping(boxes(axes.figure, axes.texts))


def test_a_long_path_is_drawn_in_parts():
    """Twenty nouns at twenty places: three pictures, no more than LONGEST fixations in each, and none is lost."""
    geometry, words = Geometry.of("squash", (240, 160), (7, 7)), ["dog"] * 20
    figure = gaze_paths(photo(), attention_of(words, np.eye(49)[:20], geometry, caption=" ".join(words)))
    assert [axes.get_title() for axes in figure.axes] == [f"part {n} of 3" for n in (1, 2, 3)]
    drawn_points = [[(x, y) for _, name, x, y in drawn(figure)]]
    np.testing.assert_allclose(drawn_points[0], geometry.centres()[:20])
    assert all(len(axes.patches) < LONGEST for axes in figure.axes)
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["1 dog", "8 dog", "15 dog"]


def test_fixations_lie_where_the_glimpses_were():
    geometry = Geometry.of("crop", (240, 160), (7, 7))
    weights, cells = wandering(WORDS[:6], (7, 7))
    axes = drawn_path(photo(), WORDS[:6], weights, geometry, glimpses=cells)
    points = [(x, y) for _, series, x, y in drawn(axes.figure) if series == "fixations"]
    np.testing.assert_allclose(points, geometry.centres()[cells[[1, 4, 5]]])  # man, red, shirt
    assert tuple(axes.images[0].get_extent()) == (0, 240, 160, 0)


def test_words_at_one_place_are_one_fixation_and_its_visits_one_label():
    geometry = Geometry.of("squash", (70, 70), (7, 7))
    weights = np.eye(49)[[0, 24, 24, 24, 6, 0]]
    axes = drawn_path(photo((70, 70)), ["dogs", "a", "red", "circle", "people", "cats"], weights, geometry)
    assert [text.get_text() for text in axes.texts] == ["1 dogs\n4 cats", "2 red circle", "3 people"]
    assert len(axes.patches) == 3


def test_place_prefers_near_and_keeps_apart():
    anchors, sizes = np.array([[50.0, 50], [50, 50], [2, 2]]), np.array([[20.0, 8]] * 3)
    centres = place(anchors, sizes, np.array([0, 0, 100, 100]), anchors)
    apart = np.abs(centres[0] - centres[1])
    assert apart[0] >= 20 or apart[1] >= 8
    assert (centres - sizes / 2 >= 0).all()
    assert np.linalg.norm(centres[0] - anchors[0]) < 20


def test_a_caption_without_a_word_is_the_picture_alone(tmp_path):
    geometry = Geometry.of("squash", (240, 160), (7, 7))
    axes = drawn_path(photo(), [], np.zeros((0, 49)), geometry)
    assert not axes.lines and len(axes.images) == 1 and not axes.texts
    maps = maps_of(photo(), [], np.zeros((0, 49)), geometry)
    assert len(maps.axes) == 1 and len(gaze_paths(photo(), attention_of([], np.zeros((0, 49)), geometry)).axes) == 1
    assert all(save(figure, tmp_path / "x", formats=("png",)) for figure in (axes.figure, maps))


def test_one_word_is_a_point():
    geometry = Geometry.of("squash", (240, 160), (7, 7))
    axes = drawn_path(photo(), ["dog"], np.eye(49)[[24]], geometry)
    assert [text.get_text() for text in axes.texts] == ["1 dog"] and not axes.patches


@pytest.mark.parametrize("sampled", [False, True])
def test_attention_is_read_back(tmp_path, sampled):
    path = make_attention(tmp_path / "attention.h5", WORDS[:7], sampled=sampled, image="flickr/a.jpg")
    attention = read_attention(path, 0)
    assert attention.words == tuple(WORDS[:7]) and attention.caption == " ".join(WORDS[:7])
    assert attention.weights.shape == (7, 49) and attention.gates.shape == (7,)
    assert attention.geometry == Geometry.of("squash", (64, 48), (7, 7))
    assert (attention.glimpses is not None) == sampled
    (alone,) = read_all(path)
    assert alone.caption == attention.caption and (alone.weights == attention.weights).all()
    assert read_attention(path, "flickr/a.jpg").image == read_attention(path, "a.jpg").image == "flickr/a.jpg"


def test_what_cannot_be_read_is_said(tmp_path):
    path = make_attention(tmp_path / "attention.h5", WORDS[:3])
    for image in (1, "b.jpg"):
        with pytest.raises(ValueError, match="holds no image"):
            read_attention(path, image)
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match=r"text.h5 cannot be read as attention \(.*: evaluate the run again"):
        read_attention(tmp_path / "text.h5", 0)


def damaged(path, name):
    """The file with the numbers of one dataset overwritten, so that they cannot be decompressed."""
    with h5py.File(path, "a") as file:
        values = file[f"0/{name}"][:]
        del file[f"0/{name}"]
        place = (
            file["0"].create_dataset(name, data=values, chunks=values.shape, compression="gzip").id.get_chunk_info(0)
        )
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = b"x" * place.size
    path.write_bytes(content)


@pytest.mark.parametrize("image", [0, "a.jpg"])
def test_damage_names_the_file(tmp_path, image):
    path = make_attention(tmp_path / "attention.h5", WORDS[:3])
    damaged(path, "alpha")
    for read in (lambda: read_attention(path, image), lambda: list(read_all(path))):
        with pytest.raises(ValueError, match=rf"{path} cannot be read as attention \(.*: evaluate the run again"):
            read()


CHANGES = {
    "words": lambda group: group.create_dataset("words", data=[1.0]),
    "alpha": lambda group: group.create_group("alpha"),
    "size": lambda group: group.attrs.update(size=3),
    "affine": lambda group: group.attrs.update(affine="none"),
    "image": lambda group: group.attrs.pop("image"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_attention_of_another_schema_names_the_file(tmp_path, name):
    path = make_attention(tmp_path / "attention.h5", WORDS[:3])
    with h5py.File(path, "a") as file:
        if name in file["0"]:
            del file["0"][name]
        CHANGES[name](file["0"])
    for image in (0, "a.jpg"):
        with pytest.raises(ValueError, match=rf"{path} cannot be read.*: evaluate the run again"):
            read_attention(path, image)


@pytest.mark.parametrize("draw", [maps_of, drawn_path])
def test_dollars_are_no_formula(tmp_path, draw):
    words = ["a", "$20_^$", "note"]
    geometry, weights = Geometry.of("squash", (240, 160), (7, 7)), np.eye(3, 49)
    drawn = draw(photo(), words, weights, geometry, caption=" ".join(words))
    assert pixels(getattr(drawn, "figure", drawn), tmp_path).std() > 10


def test_dollars_in_names_are_no_formula(tmp_path):
    attention = read_attention(make_attention(tmp_path / "a.h5", ["$x^$", "b"], size=(240, 160)), 0)
    assert pixels(compare_gaze(photo(), {"$lr^$": attention}), tmp_path).std() > 10


def test_models_side_by_side(tmp_path):
    geometry = {"grid": (7, 7), "size": (240, 160)}
    soft = make_attention(tmp_path / "soft.h5", WORDS[:6], **geometry)
    hard = make_attention(tmp_path / "hard.h5", WORDS, sampled=True, **geometry)
    models = {"soft": read_attention(soft, 0), "hard": read_attention(hard, 0)}
    figure = compare_gaze(photo(), models)
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("soft", "hard")
    assert left.title.get_color() == colours(["soft"])["soft"][0]
    assert not overlapping(boxes(figure, [*left.texts, *right.texts, left.title, right.title]))
    assert pixels(figure, tmp_path).std() > 10
    for shown in (models, {"soft": models["soft"]}):
        figure = compare_gaze(photo(), shown)
        width, height = figure.bbox.size
        written = boxes(figure, [text for axes in figure.axes for text in (axes.title, *axes.texts)])
        assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in written), list(shown)

    other = make_attention(tmp_path / "other.h5", WORDS, image="b.jpg", **geometry)
    with pytest.raises(ValueError, match=r"glances must be of one image, not of 2 \(a.jpg, b.jpg\)"):
        compare_gaze(photo(), {**models, "other": read_attention(other, 0)})


@pytest.mark.parametrize("draw", [maps_of, drawn_path])
def test_what_does_not_belong_together(draw):
    geometry, weights = Geometry.of("squash", (240, 160), (7, 7)), np.ones((3, 49)) / 49
    with pytest.raises(ValueError, match=r"shape \(3, 49\), not that of 2 words over 49 cells"):
        draw(photo(), WORDS[:2], weights, geometry)
    with pytest.raises(ValueError, match="2 glimpses for 3 words"):
        draw(photo(), WORDS[:3], weights, geometry, glimpses=np.array([1, 2]))
    with pytest.raises(ValueError, match=r"picture is 160 x 240, but .* 240 x 160"):
        draw(photo((160, 240)), WORDS[:3], weights, geometry)
