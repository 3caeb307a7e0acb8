"""Collect the pages of the site, render them with Zensical, and check the result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from docs.site import notebooks
from docs.site.check import problems
from docs.site.links import rewritten, source_page
from docs.site.pages import Menu, menu, site_path, sources
from docs.site.reference import reference

HERE = Path(__file__).parent
SHOWN = (".png", ".csv")
CONFIGURATION = "mkdocs.yml"


def build(root: Path, out: Path, execute: bool = True) -> Path:
    """Build the site of the repository at ``root`` in the folder ``out``, and return the folder of its HTML.

    Without ``execute`` the notebooks are not run, and their pages have no outputs.

    Raises ValueError, with a sentence for each problem, if a link, an anchor, a picture or a name of the library is
    missing, or a page loads anything from elsewhere; and if ``out`` holds anything but a site, which is made anew.
    """
    if out.exists() and not (out / CONFIGURATION).is_file():
        raise ValueError(f"{out} exists, and is no site that was built before: choose another folder")
    shutil.rmtree(out, ignore_errors=True)
    generated = reference()
    configure(root, out, menu(root, {title: page for page, (title, _) in generated.items()}))
    for page, (_, text) in generated.items():
        _write(out / "pages" / page, text)
    collect(root, out / "pages", execute)
    render(out)
    wrong = problems(out / "html")
    if wrong:
        raise ValueError("\n".join(wrong))
    return out / "html"


def collect(root: Path, pages: Path, execute: bool) -> None:
    """Write the pages that people wrote, what they show, and a page for each file of the source that they link to."""
    linked: set[str] = set()
    for file in sources(root):
        text, found = rewritten(_text(root / file, pages, execute), file, root)
        linked |= found
        _write(pages / site_path(file), text)
    for file in sorted(linked - {*sources(root), "README.md"}):
        if Path(file).suffix in SHOWN:
            _write(pages / site_path(file), (root / file).read_bytes())
        else:
            _write(pages / site_path(file), source_page(file, (root / file).read_text(encoding="utf-8")))
    _write(pages / "site.css", (HERE / "site.css").read_bytes())


def _text(file: Path, pages: Path, execute: bool) -> str:
    """The Markdown of a page. The pictures of a notebook are written."""
    if file.suffix != ".py":
        return file.read_text(encoding="utf-8")
    if execute:
        print(f"running {file.name}", file=sys.stderr, flush=True)
    text, pictures = notebooks.page(notebooks.read(file, execute), file.stem)
    for name, picture in pictures.items():
        _write(pages / "notebooks" / name, picture)
    return text


def _write(file: Path, content: str | bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def configure(root: Path, out: Path, sections: Menu) -> None:
    """Write the settings of Zensical, and the packages where mkdocstrings reads them.

    analysis/ and experiments/ are installed below attend, so they are linked there.
    """
    python = out / "python" / "attend"
    python.mkdir(parents=True)
    for one in (root / "attend").iterdir():
        (python / one.name).symlink_to(one.resolve())
    for name in ("analysis", "experiments"):
        (python / name).symlink_to((root / name).resolve())
    settings = {"docs_dir": "pages", "site_dir": "html", "nav": sections}
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()]
    _write(out / CONFIGURATION, (HERE / "zensical.yml").read_text(encoding="utf-8") + "\n".join(lines) + "\n")


def render(out: Path) -> None:
    """Run Zensical strictly, beside the packages, since it names source files from there.

    Raises ValueError with what it says.
    """
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", out / CONFIGURATION]
    environment = os.environ | {"NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(command, cwd=out / "python", env=environment, capture_output=True, encoding="utf-8")
    if ran.returncode:
        raise ValueError(f"{ran.stdout}{ran.stderr}".strip())
