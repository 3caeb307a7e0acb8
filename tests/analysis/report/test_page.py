"""The report without a browser: what the page holds, that nothing in it loads or runs, and that bad runs are noted."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from attend.analysis.report.gallery import quantise
from attend.analysis.report.page import SCRIPTS, TEMPLATES, report, script_json
from attend.experiments.cli.main import main
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.made_gallery import CAPTIONS, HOSTILE, make, names, weights_of


@pytest.fixture()
def plain(monkeypatch):
    """Reports without curves, which take long to draw."""
    monkeypatch.setattr("attend.analysis.report.page._curves", lambda *_: [])


class Page(HTMLParser):
    """The elements of a page: tags with their attributes, the text of each tag, and the scripts as they stand."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self._open = [], {}, []
        self.feed(html)
        self.data = json.loads("".join(self.text["script#data"])) if "script#data" in self.text else None

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        name = f"{tag}#{attributes['id']}" if "id" in attributes else tag
        self._open.append((tag, name))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if self._open:
            self.text.setdefault(self._open[-1][1], []).append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(made):
    page, notes = report([made[1]])
    assert not notes
    return page


def test_the_page_says_what_was_run_and_what_came_of_it(html):
    page = Page(html)
    text = " ".join(part for name, parts in page.text.items() if "script" not in name for part in parts)
    for said in ("made: hard against soft", "4 runs", "2 variants", "6 test images", "attend run made", "c0ffeec0ffee",
                 "changed since", "fingerprint f00d", "torch 2.6", "Python 3.12", "2026-01-02 03:04", "BLEU-4", "0, 1",
                 "CIDEr", "Mean over n = 2 seeds"):  # fmt: skip
        assert said in text, said
    assert [tag for tag, _ in page.tags].count("figure") == 2
    assert all("viewbox" in attributes for tag, attributes in page.tags if tag == "svg")


def test_the_gallery_holds_the_first_seed_of_every_variant(html, made):
    data = Page(html).data
    assert [model["name"] for model in data["models"]] == ["hard", "soft"]
    assert [model["decoding"] for model in data["models"]] == ["argmax, beam 3, seed 0", "expected, beam 3, seed 0"]
    assert [image["name"] for image in data["images"]] == names(made[0])
    assert [" ".join(image["looks"][1]["words"]) for image in data["images"]] == CAPTIONS
    assert [score["title"] for score in data["scores"]] == ["CIDEr", "METEOR", "BLEU-4"]
    assert [image["looks"][1]["scores"][0] for image in data["images"]] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert data["images"][1]["looks"][0]["scores"] == [0.3, 0.2, None]
    assert all(len(image["references"]) == 2 for image in data["images"])


def test_the_gallery_holds_peoples_boxes(html):
    """Of the first test image the left half is blue and the right one red; each caption names its own colours."""
    first, second, *_ = Page(html).data["images"]
    assert first["boxes"] == [["blue", 0.0, 0.0, 0.5, 1.0], ["red", 0.5, 0.0, 1.0, 1.0]]
    assert first["looks"][1]["words"] == ["a", "red", "half"] and first["looks"][1]["boxes"] == [[], [1], []]
    assert second["looks"][1]["words"] == ["a", "dog", "runs"] and second["looks"][1]["boxes"] == [[], [], []]


@pytest.mark.parametrize(("place", "variant"), [(0, "hard"), (1, "soft")])
def test_weights_come_back_as_they_were(html, place, variant):
    for number, image in enumerate(Page(html).data["images"]):
        look = image["looks"][place]
        truth = weights_of(variant, number, len(look["words"]))
        levels = np.frombuffer(base64.b64decode(look["weights"]), np.uint8).reshape(truth.shape)
        peaks = np.array(look["peaks"])[:, None]
        np.testing.assert_allclose(peaks[:, 0], truth.max(axis=1), rtol=1e-3)
        assert (abs(levels / 255 * peaks - truth) <= peaks / 510 + 1e-3 * peaks).all()
        assert look["cells"] == truth.argmax(axis=1).tolist() and look["sampled"] == (variant == "hard")
        assert look["grid"] == [2, 3] and look["gates"] == [0.25] * len(look["words"])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda row: max(row) > 1e-6))
def test_a_byte_is_off_by_half_a_step_at_most(row):
    weights = np.array([row])
    levels = np.frombuffer(quantise(weights), np.uint8)
    assert levels.max() == 255 and (abs(levels / 255 * weights.max() - weights) <= weights.max() / 510 + 1e-12).all()


def test_pictures_are_small_copies(html):
    for image in Page(html).data["images"]:
        with Image.open(io.BytesIO(base64.b64decode(image["picture"]))) as picture:
            assert picture.format == "WEBP" and picture.size == (32, 32)


def test_nothing_is_loaded(html):
    page = Page(html)
    loading = {"src", "href", "xlink:href", "srcset", "data", "poster", "action", "formaction", "background"}
    urls = [value for _, attributes in page.tags for name, value in attributes.items() if name in loading]
    assert urls and all(url.startswith(("#", "data:")) for url in urls)
    assert {tag for tag, _ in page.tags}.isdisjoint({"iframe", "object", "embed", "base", "audio", "video"})
    program = "".join(page.text["script"])
    for call in ("fetch(", "XMLHttpRequest", "WebSocket", "import(", "import ", "eval(", "innerHTML", "sendBeacon"):
        assert call not in program, call
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink",
    }  # fmt: skip
    assert not re.search(r"@import|url\((?!#)", html)


def test_only_the_pages_own_script_may_run(html):
    page = Page(html)
    program = "".join(page.text["script"])
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 2
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_the_programs_can_stand_in_the_page():
    for name in SCRIPTS:
        text = (TEMPLATES / name).read_text()
        assert "</script" not in text.lower() and "<!--" not in text


@pytest.mark.parametrize("part", ["caption", "image", "variant"])
def test_hostile_names_and_captions_stay_text(tmp_path, plain, part):
    hostile = "<script>hacked=1</script><!--"
    variants = ("soft", hostile.replace("/", "")) if part == "variant" else ("soft", "hard")
    data, runs = make(tmp_path, variants, seeds=(0,), captions=[HOSTILE, *CAPTIONS[1:]])
    if part == "image":
        for path in runs.rglob("images.csv"):
            path.write_text(path.read_text().replace(names(data)[1], hostile))
    page, _ = report([runs])
    assert "<script>hacked" not in page and "<script>window" not in page and "<img/src" not in page
    parsed = Page(page)
    assert [tag for tag, _ in parsed.tags].count("script") == 2
    assert parsed.data["images"][0]["looks"][0]["words"] == HOSTILE.split()
    if part == "variant":
        assert {model["name"] for model in parsed.data["models"]} == set(variants)
    if part == "image":
        assert hostile in [image["name"] for image in parsed.data["images"]]


@given(st.text(st.sampled_from('<>&/!-sa"\\\n\u2028\u2029é')))
def test_json_in_a_script_is_the_same_json(text):
    escaped = script_json({"caption": text, text: [None, 0.5]})
    assert json.loads(escaped) == {"caption": text, text: [None, 0.5]}
    assert not re.search("[<>&\u2028\u2029]", escaped)


def test_images_pictures_seed_and_data(made, tmp_path, plain):
    data, runs = made
    few = Page(report([runs], images=2, pictures=False, seed=1)[0]).data
    assert [image["name"] for image in few["images"]] == names(data)[:2]
    assert all(image["picture"] is None for image in few["images"]) and few["images"][0]["looks"][1]["words"][-1] == "1"
    shutil.copytree(data, tmp_path / "moved")
    moved, notes = report([runs], data=tmp_path / "moved")
    assert not notes and Page(moved).data["images"][0]["picture"]
    page, notes = report([runs], seed=7)
    assert Page(page).data is None and notes == [
        "No finished run has seed 7, so there is no gallery; omit --seed, or choose another."
    ]


def test_the_table_has_the_columns_that_are_named(made, plain):
    _, runs = made
    page, notes = report([runs], columns=("cider", "nll"))
    assert "CIDEr" in page and "NLL (nats per token)" in page and "BLEU-4</th>" not in page and not notes
    with pytest.raises(ValueError, match="unknown columns nothing; known are bleu1"):
        report([runs], columns=("nothing",))


def spoil_image(data, runs):
    (data / "images" / names(data)[1]).unlink()


def spoil_shape(data, runs):
    Image.new("RGB", (64, 32)).save(data / "images" / names(data)[1])


def spoil_data(data, runs):
    (data / "dataset.json").unlink()


def spoil_attention(data, runs):
    next(runs.glob("made/soft/seed0/evaluations/*/attention.h5")).write_bytes(b"half")


def lose_attention(data, runs):
    next(runs.glob("made/soft/seed0/evaluations/*/attention.h5")).unlink()


def lose_rows(data, runs):
    next(runs.glob("made/soft/seed0/evaluations/*/images.csv")).unlink()


def lose_evaluation(data, runs):
    shutil.rmtree(runs / "made/soft/seed0/evaluations")
    shutil.rmtree(runs / "made/soft/seed1")


def spoil_log(data, runs):
    (runs / "made/soft/seed0/metrics.jsonl").write_text("{}\nnonsense\n{}\n")


def spoil_run(data, runs):
    (runs / "made/soft/seed0/scores.json").write_text('{"split": "te')


def unfinish(data, runs):
    (runs / "made/soft/seed0/scores.json").unlink()


def other_data(data, runs):
    path = runs / "made/soft/seed0/scores.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_fingerprint": "other"}))
    shutil.rmtree(runs / "made/soft/seed1")


def change_data(data, runs):
    path = data / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "changed"}))
    for path in runs.rglob("scores.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data_fingerprint": "f00d"}))


@pytest.mark.parametrize(
    ("spoil", "said", "images"),
    [
        (change_data, "is not the dataset of hard: their fingerprints differ", 6),
        (spoil_image, "The gallery lacks 1 photograph, the first of", 6),
        (spoil_shape, "but the attention belongs to a picture of 32 x 32", 6),
        (spoil_data, "The gallery has no photographs", 6),
        (spoil_attention, "cannot be read as attention", 6),
        (lose_attention, "soft: there is no attention", 6),
        (lose_rows, "images.csv is missing", 6),
        (lose_evaluation, "has no evaluation of its headline scores", 6),
        (spoil_log, "The curves leave out a run", 6),
        (spoil_run, "is not readable as JSON", 6),
        (unfinish, "Left out because unfinished: 1 run", 6),
        (other_data, "leaves out soft, whose data differ from those of hard", 6),
    ],
)
def test_what_is_bad_is_said_in_a_sentence_and_the_rest_goes_on(tmp_path, request, spoil, said, images):
    if spoil is not spoil_log:
        request.getfixturevalue("plain")
    data, runs = make(tmp_path)
    spoil(data, runs)
    html, notes = report([runs])
    page = Page(html)
    shown = re.sub("</?code>", "`", " ".join(re.findall(r"<(?:li|p)[^>]*>(.*?)</(?:li|p)>", html, flags=re.DOTALL)))
    assert said in unescape(shown) and all(note in unescape(shown) for note in notes)
    assert all(note.endswith(".") and "\n" not in note for note in notes)
    assert len(page.data["images"]) == images and "BLEU-4" in html


def test_uniform_attention_and_a_single_run(tmp_path, plain):
    _, runs = make(tmp_path, ("uniform",), seeds=(0,))
    html, notes = report([runs / "made/uniform/seed0"])
    assert notes == ["uniform gives all locations equal weight, so it has no gaze."]
    (look,) = Page(html).data["images"][0]["looks"]
    assert set(look["cells"]) == {-1} and set(base64.b64decode(look["weights"])) == {255}


def test_a_thousand_images_take_few_bytes():
    """1,000 images x 2 models x 12 words x 196 cells, and photographs of 320 x 240 with as much detail as noise has."""
    from attend.analysis.report.gallery import LONGEST, QUALITY

    rng = np.random.default_rng(0)
    blurred = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).resize(
        (LONGEST, 240), Image.Resampling.BICUBIC
    )
    file = io.BytesIO()
    blurred.save(file, "WEBP", quality=QUALITY, method=2)
    words = 2 * 12 * (196 + 40) + 2 * 400
    assert 1000 * 4 / 3 * (len(file.getvalue()) + words) < 60e6


def test_the_verb(made, tmp_path, capsys, fails):
    out = tmp_path / "deep" / "report.html"
    main(["report", str(made[1]), "-o", str(out), "--images", "3", "--no-pictures"])
    said = capsys.readouterr()
    assert said.out == f"{out}\n" and not said.err and len(Page(out.read_text()).data["images"]) == 3
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    main(["report", str(made[1] / "made" / "soft"), str(tmp_path / "no"), "--out", str(out)])
    assert "is not a folder" in capsys.readouterr().err and "is not a folder" in "".join(
        Page(out.read_text()).text["li"]
    )
    assert "is not a folder; name a run" in fails("report", tmp_path / "no", "-o", out)
    assert "no run is named" in fails("report")
    assert "images is 0" in fails("report", made[1], "--images", "0")
