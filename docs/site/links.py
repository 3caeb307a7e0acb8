"""Links between files of the repository become links between pages of the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath

from docs.site.pages import site_path

TARGET = re.compile(r"\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
LANGUAGES = {".py": "python", ".cfg": "ini", ".toml": "toml", ".json": "json", ".yml": "yaml"}


def rewritten(text: str, page: str, root: Path) -> tuple[str, set[str]]:
    """The text of a page with its links as the site has them, and the files that they lead to.

    ``page`` is the page's file, relative to ``root``. A link that leads to no file stays as it is, so the strict build
    reports it.
    """
    linked: set[str] = set()

    def site_link(match: re.Match[str]) -> str:
        file = posixpath.normpath(posixpath.join(posixpath.dirname(page), match["target"]))
        if (root / file / "__init__.py").is_file():
            file = f"{file}/__init__.py"
        if file.startswith("..") or not (root / file).is_file():
            return match[0]
        linked.add(file)
        to = posixpath.relpath(site_path(file), posixpath.dirname(site_path(page)) or ".")
        return f"]({to}{match['anchor'] or ''})"

    return TARGET.sub(site_link, text), linked


def source_page(file: str, text: str) -> str:
    """A page that shows a file of the repository, with numbered lines."""
    language = LANGUAGES.get(PurePosixPath(file).suffix, "text")
    fence = "`" * (2 + max(map(len, re.findall("`+", text)), default=0)) + "`"
    head = f"---\nsearch:\n  exclude: true\nhide:\n  - navigation\n---\n\n# {PurePosixPath(file).name}\n\n`{file}`\n"
    return f'{head}\n{fence}{language} linenums="1"\n{text.rstrip()}\n{fence}\n'
