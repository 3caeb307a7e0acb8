"""`make test-browser`: the report in a real headless Chromium, driven over its DevTools protocol.

The browser is that of Debian's packages `chromium` and `chromium-driver`.
"""

from __future__ import annotations

import base64
import json
import shutil

import numpy as np
import pytest
from attend.analysis.gaze.saccades import spread
from attend.analysis.report.page import report

from attend.geometry import Geometry
from attend.metrics.gaze import fixations, merge
from tests.made_gallery import CAPTIONS, GRID, HOSTILE, SIZE, make, names, weights_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
KEYS = {"right": "\ue014", "left": "\ue012", "home": "\ue011", "end": "\ue010", "tab": "\ue004", "escape": "\ue00c"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("browser"), captions=[HOSTILE, *CAPTIONS[1:]])


@pytest.fixture(scope="module")
def page(made):
    """The report of soft and hard; its first caption is hostile."""
    html, notes = report([made[1] / "made/soft", made[1] / "made/hard"])
    assert not notes
    path = made[1] / "report.html"
    path.write_text(html)
    return path


@pytest.fixture(scope="module")
def chromium():
    from selenium import webdriver

    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert browser and driver, "there is no Chromium: apt-get install --no-install-recommends chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture()
def browser(chromium, page):
    """The page, freshly opened; at the end the console must have stayed silent and nothing may have been fetched."""
    opened = Browser(chromium)
    opened.open(page)
    yield opened
    assert chromium.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"]
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)
    assert opened("return window.hacked ?? null") is None


class Browser:
    """A page in Chromium: called with JavaScript, it returns what that returns."""

    def __init__(self, chromium) -> None:
        self.chromium = chromium

    def __call__(self, script, *arguments):
        return self.chromium.execute_script(script, *arguments)

    def open(self, page, width=1280, height=900, mobile=False, **media) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.chromium.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": mobile})
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.chromium.get(f"file://{page}")

    def all(self, selector):
        return self.chromium.find_elements("css selector", selector)

    def one(self, selector):
        return self.chromium.find_element("css selector", selector)

    def keys(self, *keys) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.chromium).send_keys(*(KEYS.get(key, key) for key in keys)).perform()

    def hover(self, element) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.chromium).move_to_element(element).perform()

    def click(self, element) -> None:
        """Cards above that are drawn only now would push an element at the edge away."""
        self("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def choose(self, control, value) -> None:
        script = "const at = document.getElementById(arguments[0]); at.value = arguments[1];"
        self(script + "at.dispatchEvent(new Event('input', {bubbles: true}))", control, value)

    def words(self, card, panel):
        return self.all(f".card:nth-child({card}) .panel:nth-child({panel}) .text button")

    def now(self, card=2) -> list[str | None]:
        """The word that each panel of a card shows, and None where it shows the whole path."""
        script = """return [...document.querySelectorAll(`.card:nth-child(${arguments[0]}) .panel`)].map((panel) =>
          panel.querySelector('.view.looking') ? panel.querySelector('.now').textContent : null)"""
        return self(script, card)

    def shown(self) -> list[str]:
        return self("return [...document.querySelectorAll('.card h3')].map((title) => title.textContent)")

    def dots(self, card, panel) -> list[tuple[float, float, str]]:
        script = """return [...document.querySelectorAll(arguments[0] + ' text')].map((text) =>
          [+text.getAttribute('x'), +text.getAttribute('y'), text.textContent])"""
        found = self(script, f".card:nth-child({card}) .panel:nth-child({panel})")
        return sorted(map(tuple, found), key=lambda dot: int(dot[2]))


def lit(browser, card, panel) -> float:
    """The sum of the opacities of a panel's map."""
    script = """const canvas = document.querySelector(arguments[0]);
      if (canvas.hidden || !canvas.width) return 0;
      const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
      return pixels.filter((_, i) => i % 4 === 3).reduce((sum, value) => sum + value, 0)"""
    return browser(script, f".card:nth-child({card}) .panel:nth-child({panel}) canvas")


def test_pointing_at_a_word_shows_both_maps(browser):
    assert browser.now() == [None, None] and lit(browser, 2, 1) == lit(browser, 2, 2) == 0
    browser.hover(browser.words(2, 1)[1])
    assert browser.now() == ["dog", "dog"] and lit(browser, 2, 1) > 0 and lit(browser, 2, 2) > 0
    assert browser.one(".card:nth-child(2) .said").text.startswith("2 dog: ")
    assert "gate 0.25" in browser.one(".card:nth-child(2) .said").text
    browser.hover(browser.one("h1"))
    assert browser.now() == [None, None]


def frames(browser, panel=1) -> list[list[float]]:
    """The dashed boxes of a panel of the third card, whose caption is `a green half and more`: x, y, width, height."""
    script = """return [...document.querySelectorAll(arguments[0])].map((frame) =>
      ['x', 'y', 'width', 'height'].map((name) => +frame.getAttribute(name)))"""
    return browser(script, f".card:nth-child(3) .panel:nth-child({panel}) .boxes rect[stroke-dasharray]")


def test_peoples_boxes_are_those_of_the_word_or_all_or_none(browser):
    """The image 04.png is red on the left and green on the right."""
    assert frames(browser) == []
    browser.click(browser.words(3, 1)[1])
    assert browser.now(3) == ["green", "green"]
    assert frames(browser, 1) == frames(browser, 2) == [[SIZE[0] / 2, 0, SIZE[0] / 2, SIZE[1]]]
    browser.choose("boxes", "all")
    assert frames(browser) == [[0, 0, SIZE[0] / 2, SIZE[1]], [SIZE[0] / 2, 0, SIZE[0] / 2, SIZE[1]]]
    browser.choose("boxes", "off")
    browser.click(browser.words(3, 1)[1])
    assert frames(browser) == []


def test_the_table_fits_a_laptop(browser):
    """No part of the page is wider than its place at 1280 pixels."""
    wide = "(one) => one.scrollWidth > one.clientWidth + 1"
    assert browser(f"return [...document.querySelectorAll('html, .wide')].filter({wide})") == []


def test_a_word_is_answered_by_the_same_word_or_else_by_its_place(browser):
    answer = "return answer({words: arguments[0]}, arguments[1], {words: arguments[2]})"
    assert browser(answer, ["a", "dog", "runs"], 1, ["the", "big", "dog"]) == 2
    assert browser(answer, ["a", "dog", "runs"], 2, ["dogs", "run", "fast"]) == 2
    assert browser(answer, ["a", "b", "c", "a"], 3, ["a", "b", "a", "d", "a", "a"]) == 2


def test_a_click_holds_the_word_and_escape_lets_go(browser):
    browser.words(2, 2)[2].click()
    browser.hover(browser.one("h1"))
    assert browser.now() == ["runs", "runs"]
    browser.keys("escape")
    assert browser.now() == [None, None]
    browser.words(2, 2)[2].click()
    browser.words(2, 2)[2].click()
    browser.hover(browser.one("h1"))
    assert browser.now() == [None, None]


def test_the_slider_goes_through_time(browser):
    slider = browser.one(".card:nth-child(2) input[type=range]")
    browser("arguments[0].focus({focusVisible: true})", slider)
    for word in ("a", "dog", "runs"):
        browser.keys("right")
        assert browser.now() == [word, word]
        assert word in slider.get_attribute("aria-valuetext")
    assert browser.one(".card:nth-child(2) output").text == "word 3 of 3"
    browser.keys("home")
    assert browser.now() == [None, None]


def test_a_map_is_the_one_that_the_figures_draw(browser):
    """The page's interpolation against Pillow's, on the stored weights and on geometries of both transforms."""
    rng = np.random.default_rng(0)
    for transform, size in (("squash", (64, 48)), ("crop", (64, 48)), ("crop", (30, 50))):
        geometry = Geometry.of(transform, size, (3, 4))
        weights = rng.dirichlet(np.full(12, 0.4))
        levels = np.rint(255 * weights / weights.max())
        look = {"grid": [3, 4], "affine": geometry.affine, "size": size}
        ours = browser("return [...spread(arguments[0], arguments[1], 32, 25)]", levels.tolist(), look)
        theirs = spread(levels, geometry, (32, 25))
        np.testing.assert_allclose(np.reshape(ours, (25, 32)), theirs, atol=1e-3)
        cells = browser("return [...spread(arguments[0], arguments[1], 32, 25, false)]", levels.tolist(), look)
        assert set(np.round(cells, 4)) <= {*np.round(levels / 255, 4), 0}


@pytest.mark.parametrize(("panel", "variant"), [(1, "soft"), (2, "hard")])
def test_the_path_is_the_one_that_was_measured(browser, panel, variant):
    for card, caption in enumerate(CAPTIONS[1:], 2):
        weights = weights_of(variant, card - 1, len(caption.split()))
        geometry = Geometry.of("squash", SIZE, GRID)
        path = merge(caption.split(), fixations(weights, None, geometry))
        expected = [(*fixation.point, str(fixation.first + 1)) for fixation in path]
        dots = browser.dots(card, panel)
        assert [dot[2] for dot in dots] == [dot[2] for dot in expected]
        np.testing.assert_allclose([dot[:2] for dot in dots], [dot[:2] for dot in expected], atol=1e-4)


def test_the_centre_of_mass(browser):
    browser.choose("gaze", "mean")
    weights = weights_of("soft", 5, 1)
    ((x, y, _),) = browser.dots(6, 1)
    np.testing.assert_allclose((x, y), weights[0] @ Geometry.of("squash", SIZE, GRID).centres(), atol=0.15)
    sampled = browser.dots(6, 2)[0][:2]
    truth = fixations(weights_of("hard", 5, 1), None, Geometry.of("squash", SIZE, GRID))[0]
    np.testing.assert_allclose(sampled, truth, atol=1e-4)
    browser.choose("gaze", "off")
    assert not browser.dots(6, 1)


def test_the_styles_of_maps_differ(browser):
    browser.words(2, 1)[1].click()
    sums = set()
    for style in ("heat", "light", "cells"):
        browser.choose("maps", style)
        browser.words(2, 1)[1].click()
        sums.add(lit(browser, 2, 1))
    assert len(sums) == 3


def test_search_filter_and_sort(browser, made):
    images = names(made[0])
    assert browser.shown() == images and "6 of 6 images" in browser.one("#count").text
    browser.one("#words").send_keys("DOG")
    assert browser.shown() == [images[1], images[3]]
    assert [node.text for node in browser.all(".found")] == ["dog", "dog", "dogs", "dogs"]
    browser.one("#words").send_keys(" runs")
    assert browser.shown() == [images[1]] and "1 of 6 images" in browser.one("#count").text
    browser.choose("words", "zebra")
    assert browser.shown() == [] and browser.one(".nothing").text == "No image fits."
    browser.choose("words", "")
    browser.one("#name").send_keys(images[4][:-4])
    assert browser.shown() == [images[4]]
    browser.choose("name", "")
    browser.choose("sort", "0")  # CIDEr of soft, i / 10, minus that of hard, 0.3
    assert browser.shown() == images[::-1]
    assert browser.one(".card header span").text == "CIDEr: soft − hard = +0.20"
    browser.choose("order", "1")
    assert browser.shown() == images
    browser.choose("minus", "")
    browser.choose("order", "-1")
    assert browser.shown() == images[::-1]
    browser.choose("sort", "2")  # BLEU-4, which image 1 lacks
    assert browser.shown() == [images[0], *images[2:], images[1]]


def test_models_can_be_left_out(browser):
    browser.all("#models input")[0].click()
    assert [node.text for node in browser.all(".card:first-child .panel > header")] == ["hard"]
    browser.all("#models input")[1].click()
    assert browser.one(".nothing").text == "No model is chosen."


def test_keys_alone_are_enough(browser):
    browser("document.getElementById('words').focus()")
    browser.keys("dog", "tab")
    for _ in range(30):
        if browser("return document.activeElement.matches('.text button')"):
            break
        browser.keys("tab")
    assert browser.now(1) == ["a", "a"]
    browser.keys("right")
    assert browser.now(1) == ["dog", "dog"]
    outline = browser("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    browser.keys("end")
    assert browser.now(1) == ["runs", "runs"]
    browser.keys("right", "left", "left", "home", "escape")
    assert browser.now(1) == [None, None]
    browser.keys("tab")  # one stop a caption: the next is the other model's
    assert browser("return document.activeElement.closest('.panel').getAttribute('aria-label')") == "hard"


def test_every_control_has_a_name(browser):
    script = """return [...document.querySelectorAll('button, input, select, [tabindex]')].filter((one) =>
      !(one.textContent.trim() && one.matches('button, div')) && !one.labels?.length
      && !one.getAttribute('aria-label')).length"""
    assert browser(script) == 0
    ids = browser("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert sorted(set(ids)) == sorted(ids)


def test_a_hostile_caption_stays_text(browser):
    text = browser("return document.querySelector('.card .text').textContent").split()
    assert text == HOSTILE.split()
    assert browser("return document.querySelectorAll('#gallery .text script, .text img').length") == 0
    browser.hover(browser.words(1, 1)[1])
    assert browser.one(".card:first-child .said").text.startswith("2 <script>window.hacked=1</script>")


def test_a_script_that_gets_in_does_not_run(chromium, made, page):
    evil = made[1] / "evil.html"
    evil.write_text(
        page.read_text().replace("</main>", "<script>hacked = 1</script><img src=x onerror='hacked=1'></main>")
    )
    browser = Browser(chromium)
    browser.open(evil)
    assert browser("return window.hacked ?? null") is None and browser.shown()
    assert "Content Security Policy" in str(chromium.get_log("browser"))
    chromium.get_log("performance")


@pytest.mark.parametrize("width", [360, 768, 1280, 2000])
def test_nothing_scrolls_sideways(browser, page, width):
    browser.open(page, width=width, height=800, mobile=width < 500)
    browser("document.querySelector('details').open = true")
    assert browser("return document.documentElement.scrollWidth") <= width
    assert len(browser.all(".card")) == len(CAPTIONS)
    lefts = browser(
        "return [...document.querySelectorAll('.card:first-child .view')].map((v) => v.getBoundingClientRect().top)"
    )
    assert len(set(lefts)) == 1  # side by side


def test_a_tap_holds_the_word(browser, page):
    browser.open(page, width=360, height=800, mobile=True)
    word = browser.words(2, 2)[1]
    browser("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", word)
    box = browser(
        "const b = arguments[0].getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2, b.height]", word
    )
    point = {"x": box[0], "y": box[1]}
    browser.chromium.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    browser.chromium.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert box[2] >= 24 and browser.now() == ["dog", "dog"]


def luminance(colour: str) -> float:
    values = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light_can_be_read(browser, page, scheme):
    browser.open(page, prefers_color_scheme=scheme)
    ground = browser("return getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) < 0.05) == (scheme == "dark")
    for selector in ("body", ".quiet", "a", ".card h3", ".text button", "figure svg", ".said", "thead th"):
        ink = browser(
            "const s = getComputedStyle(document.querySelector(arguments[0]));"
            "return arguments[0] === 'figure svg' ? s.fill : s.color",
            selector,
        )
        high, low = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector


def test_who_wants_less_motion_gets_none(browser, page):
    browser.open(page, prefers_reduced_motion="reduce")
    assert browser("return getComputedStyle(document.querySelector('.view img')).transitionDuration") == "0s"
    assert browser("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_play_walks_through_the_words(browser):
    from selenium.webdriver.support.wait import WebDriverWait

    browser.click(browser.one(".card:nth-child(2) .time button"))
    assert browser.now() == ["a", "a"]
    WebDriverWait(browser.chromium, 10).until(lambda _: browser.now() == ["dog", "dog"])
    browser.click(browser.one(".card:nth-child(2) .time button"))
    assert browser.one(".card:nth-child(2) .time button").text == "Play"


def test_pages_of_many_images(chromium, tmp_path, page):
    """Sixty images come in pages of 24, without photographs and with uniform weights."""
    html = page.read_text()
    start, end = '<script type="application/json" id="data">', "</script>"
    before, rest = html.split(start)
    data, after = rest.split(end, 1)
    held = json.loads(data)
    (first, *_) = held["images"]
    flat = base64.b64encode(bytes([255] * 6)).decode()
    look = first["looks"][0] | {"words": ["flat"], "cells": [-1], "weights": flat, "peaks": [1 / 6], "gates": None}
    held["images"] = [
        {"name": f"{i}", "picture": None, "size": [4, 3], "references": [], "boxes": [], "looks": [look, None]}
        for i in range(60)
    ]
    (tmp_path / "many.html").write_text(before + start + json.dumps(held) + end + after)
    browser = Browser(chromium)
    browser.open(tmp_path / "many.html")
    assert browser.shown() == [str(i) for i in range(24)]
    browser.words(1, 1)[0].click()
    assert browser.one(".said").text == "1 flat: looks at all places alike" and not browser.dots(1, 1)
    browser.all(".next")[0].click()
    browser.all(".next")[1].click()
    assert browser.shown() == [str(i) for i in range(48, 60)] and not browser.all(".next")[0].is_enabled()
    browser.choose("name", "1")
    assert len(browser.shown()) == 15 and "page 1 of 1" in browser.one("#count").text
    assert chromium.get_log("browser") == []
    chromium.get_log("performance")
