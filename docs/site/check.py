"""The built site: every link leads somewhere, and no page loads anything from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
RELATIONS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "prefetch", "modulepreload"}

OUTSIDE = re.compile(r"(?:url\(|@import )\s*['\"]?((?:https?:)?//[^'\")\s]+)")


class _Page(HTMLParser):
    """The anchors of a page, its links, and the addresses that it loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag in LOADS and LOADS[tag] in values:
            self.loads.append(values[LOADS[tag]])
        elif tag == "link" and RELATIONS & set(values.get("rel", "").split()):
            self.loads.append(values["href"])
        elif tag == "a" and "href" in values:
            self.links.append(values["href"])


def problems(folder: Path) -> list[str]:
    """A sentence for each link or picture of the site that leads nowhere, or that a page loads from elsewhere.

    ``folder`` holds the built HTML.
    """
    pages = {file.resolve(): _Page(file) for file in sorted(folder.rglob("*.html"))}
    found = []
    for file, page in pages.items():
        if file.name == "404.html":  # its addresses begin at the root of a server
            continue
        name = file.relative_to(folder.resolve())
        found += [f"{name} loads {one} from elsewhere" for one in page.loads if _elsewhere(one)]
        for link in dict.fromkeys([*page.links, *page.loads]):
            if not _elsewhere(link) and not _leads(link, file, pages):
                found.append(f"{name} has a link to {link}, which does not exist")
    for style in sorted(folder.rglob("*.css")):
        outside = OUTSIDE.findall(style.read_text(encoding="utf-8"))
        found += [f"{style.relative_to(folder)} loads {one} from elsewhere" for one in outside]
    return found


def _elsewhere(link: str) -> bool:
    parts = urlsplit(link)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def _leads(link: str, file: Path, pages: dict[Path, _Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme == "data":
        return True
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    target = target / "index.html" if target.is_dir() else target
    anchor = unquote(parts.fragment)
    if target in pages and anchor and anchor != "__top":
        return anchor in pages[target].anchors
    return target.is_file()
