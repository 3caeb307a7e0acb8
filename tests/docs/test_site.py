"""The documentation site: its menu, its links, its checks, and that a build breaks where something is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import attend
from docs.site.check import problems
from docs.site.links import rewritten, source_page
from docs.site.pages import GUIDES, HOME, RESULTS, SECTIONS, menu, site_path, sources, title
from docs.site.reference import PACKAGES, names, public

ROOT = Path(__file__).parents[2]


def pages_of(sections: list) -> list[str]:
    """All pages of a menu."""
    found = []
    for one in sections:
        for value in one.values():
            found += [value] if isinstance(value, str) else pages_of(value)
    return found


def test_every_page_is_in_the_menu_once():
    found = pages_of(menu(ROOT, {}))
    assert sorted(found) == sorted({site_path(file) for file in sources(ROOT)})
    assert len(found) == len(set(found)) and found[0] == "index.md"


@pytest.fixture()
def small(tmp_path) -> Path:
    """A repository with the pages that the menu names."""
    for file in [HOME, *(page for pages in SECTIONS.values() for page in pages.values())]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(f"# About {Path(file).stem}\n")
    return tmp_path


def test_new_pages_and_notebooks_join_the_menu(small):
    (small / "docs/new.md").write_text("# A new guide\n")
    (small / "experiments/results/new.md").write_text("# A new result\n")
    (small / "docs/notebooks").mkdir()
    for name in ("another", "which_estimator"):
        (small / f"docs/notebooks/{name}.py").write_text(f"# %% [markdown]\n# # On {name}\n\n# %%\n# not # this\n")
    sections = {name: pages for one in menu(small, {}) for name, pages in one.items()}
    assert list(sections) == ["Start", "Tutorials", *SECTIONS, "Reference"]
    assert sections["Tutorials"] == [
        {"On which_estimator": "notebooks/which_estimator.md"},
        {"On another": "notebooks/another.md"},
    ]
    assert sections[GUIDES][-1] == {"A new guide": "new.md"}
    assert sections[RESULTS][-1] == {"A new result": "results/new.md"}


def test_a_page_of_the_menu_that_does_not_exist_is_named(small):
    (small / "docs/figures.md").unlink()
    with pytest.raises(ValueError, match=r"the menu has docs/figures.md, but there is no such file"):
        menu(small, {})


def test_a_page_without_a_title_is_named(tmp_path):
    (tmp_path / "a.md").write_text("text\n")
    with pytest.raises(ValueError, match=r"a\.md has no title"):
        title(tmp_path / "a.md")


@pytest.mark.parametrize(
    ("page", "link", "site"),
    [
        ("docs/figures.md", "grounding.md", "grounding.md"),
        ("docs/figures.md", "grounding.md#scores", "grounding.md#scores"),
        ("docs/figures.md", "gaze.png", "gaze.png"),
        ("docs/cause.md", "../experiments/results/cause.csv", "results/cause.csv"),
        ("docs/cause.md", "../experiments/results/ablations.md", "results/ablations.md"),
        ("docs/cause.md", "../attend/evaluation/cause.py", "source/attend/evaluation/cause.py.md"),
        ("docs/cause.md", "../attend/kernels", "source/attend/kernels/__init__.py.md"),
        ("docs/cause.md", "../README.md", "index.md"),
        ("docs/notebooks/a.py", "../cause.md", "../cause.md"),
        ("experiments/results/screen.md", "../screen.py", "../source/experiments/screen.py.md"),
        ("experiments/results/screen.md", "../../docs/cause.md", "../cause.md"),
        ("docs/cause.md", "nothing.md", "nothing.md"),
        ("docs/cause.md", "../../outside.md", "../../outside.md"),
        ("docs/cause.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("docs/cause.md", "#words", "#words"),
    ],
)
def test_a_link_leads_to_its_place_in_the_site(page, link, site):
    text, _ = rewritten(f"see [a\n`b`]({link}) and f[0](x)", page, ROOT)
    assert text == f"see [a\n`b`]({site}) and f[0](x)"


def test_all_links_of_our_pages_lead_to_files():
    """As on a code forge, without the site."""
    for page in sources(ROOT):
        text = (ROOT / page).read_text()
        links = re.findall(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        for link in links:
            assert ((ROOT / page).parent / link).exists(), f"{page}: {link}"


def test_a_source_page_holds_the_file_whatever_it_quotes():
    text = 'a = """\n```python\n`````\n"""\n'
    page = source_page("attend/a.py", text)
    assert text in page and page.count("``````") == 2 and "python linenums" in page


@pytest.mark.parametrize(
    ("html", "wrong"),
    [
        ('<a href="b.html#here">b</a><a href="https://example.org">out</a><img src="data:image/png;base64,x">', None),
        ('<a href="b.html#there">b</a>', "a.html has a link to b.html#there, which does not exist"),
        ('<a href="c.html">c</a>', "a.html has a link to c.html, which does not exist"),
        ('<a href="#there">a</a>', "a.html has a link to #there, which does not exist"),
        ('<img src="c.png">', "a.html has a link to c.png, which does not exist"),
        ('<script src="https://example.org/x.js"></script>', "a.html loads https://example.org/x.js from elsewhere"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "a.html loads //example.org/x.css from elsewhere"),
    ],
)
def test_the_check_names_what_leads_nowhere_or_comes_from_elsewhere(tmp_path, html, wrong):
    (tmp_path / "a.html").write_text(html)
    (tmp_path / "b.html").write_text('<h2 id="here">b</h2>')
    assert problems(tmp_path) == ([wrong] if wrong else [])


def test_a_style_that_comes_from_elsewhere_is_named(tmp_path):
    (tmp_path / "a.css").write_text("@import 'https://example.org/x.css'; a { background: url(data:image/png,x) }")
    assert problems(tmp_path) == ["a.css loads https://example.org/x.css from elsewhere"]


def test_a_docstring_becomes_markdown_that_reads_the_same():
    markdown = pytest.importorskip("docs.site.docstrings").markdown
    text = "p(s_<t, x) of ``<unk>``:\n\n    a <b>\n\none: two\nthree: four\n    and <five>"
    assert markdown(text) == "p(s_&lt;t, x) of ``<unk>``:\n\n    a <b>\n\n- `one`: two\n- `three`: four\n    and <five>"
    assert markdown("one: two, a sentence\nthat goes on") == "one: two, a sentence\nthat goes on"


def test_equations_become_mathml():
    fence = pytest.importorskip("docs.site.equations").fence
    html = fence("a_t =\n\\frac{1}{2}", "math", "", {}, None)
    assert html.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') == 1
    assert (
        "<msub><mi>a</mi><mi>t</mi></msub>" in html
        and "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>" in html
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a][attend.geometry.Geometry] and [b](#page)\n\n::: attend.geometry", None),
        ("[a](nothing.md)", "page does not exist"),
        ("[a](#nothing)", "anchor does not exist"),
        ("[a][attend.nothing]", "unresolved autoref"),
        ("::: attend.nothing", "attend.nothing could not be found"),
    ],
)
def test_a_build_breaks_where_something_is_missing(tmp_path, text, says):
    from docs.site.build import configure, render

    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/index.md").write_text(f"# Page\n\n{text}\n")
    configure(ROOT, tmp_path, [{"Start": "index.md"}])
    if says is None:
        render(tmp_path)
        return
    with pytest.raises(ValueError, match=says):
        render(tmp_path)


def test_the_names_of_a_package_are_its_own_and_those_that_it_shares(tmp_path):
    file = tmp_path / "__init__.py"
    text = "from a.b import c, d\nimport os\n_hidden = 1\nE = 2\n\nclass F: ...\n\ndef g(): ...\n"
    file.write_text(text)
    assert names(file) == (["E", "F", "g"], {})
    file.write_text(text + "__all__ = ['c', 'F']\n")
    assert names(file) == (["F"], {"c": "a.b"})


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    build = pytest.importorskip("docs.site.build").build
    (tmp_path / "mine").touch()
    with pytest.raises(ValueError, match="is no site that was built before"):
        build(ROOT, tmp_path)
    assert (tmp_path / "mine").exists()


NOTEBOOK = """# %% [markdown]
# # A notebook
# See [statistics](../statistics.md).

# %%
import matplotlib.pyplot as plt
print("<printed>")

# %%
plt.plot([1, 2])
6 * 7
"""


@pytest.mark.slow
def test_a_notebook_is_executed_and_its_page_has_the_outputs(tmp_path):
    from docs.site.notebooks import page, read

    file = tmp_path / "mine.py"
    file.write_text(NOTEBOOK)
    text, pictures = page(read(file), "mine")
    assert "# A notebook" in text and "[statistics](../statistics.md)" in text
    assert '```python\nimport matplotlib.pyplot as plt\nprint("<printed>")\n```' in text
    assert "```{ .text .output }\n<printed>\n```" in text and "```{ .text .output }\n42\n```" in text
    (name,) = pictures
    assert f"]({name})" in text and pictures[name].startswith(b"\x89PNG")
    file.write_text(NOTEBOOK + "\n# %%\n1 / 0\n")
    with pytest.raises(ValueError, match=r"(?s)mine\.py: .*1 / 0.*ZeroDivisionError"):
        read(file)
    text, pictures = page(read(file, execute=False), "mine")
    assert "1 / 0" in text and "ZeroDivisionError" not in text and not pictures


@pytest.mark.slow
def test_the_site_is_built_and_has_every_page_and_name(tmp_path):
    from docs.site.build import build

    html = build(ROOT, tmp_path / "site", execute=False)
    for file in sources(ROOT):
        assert (html / site_path(file)).with_suffix(".html").is_file()
    face = (html / "reference/attend.html").read_text()
    assert public().keys() >= {"load"}
    for name, path in public().items():
        assert f"attend.{name}" in face and f'id="{path}"' in face
    for name in PACKAGES:
        assert (html / f"reference/{name}.html").is_file()
    assert attend.__doc__.splitlines()[0] in face
