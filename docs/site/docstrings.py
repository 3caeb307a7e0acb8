"""Docstrings are plain text. Here they become the Markdown that reads the same."""

from __future__ import annotations

import re
from typing import Any

import griffe

CODE = re.compile(r"(``.+?``|`[^`]+`|^ {4}[^\n]*$)", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^(\w+): ")


def markdown(text: str) -> str:
    """A docstring as Markdown: a < opens no tag, and lines that describe fields one by one are a list."""
    parts = CODE.split(text)
    text = "".join(part.replace("<", "&lt;") if number % 2 == 0 else part for number, part in enumerate(parts))
    return "\n\n".join(map(_listed, text.split("\n\n")))


def _listed(paragraph: str) -> str:
    """A paragraph of two or more lines `name: what it is`, each of which may go on indented, is a list."""
    first = [line for line in paragraph.split("\n") if not line.startswith(" ")]
    if len(first) < 2 or not all(FIELD.match(line) for line in first):
        return paragraph
    return "\n".join(FIELD.sub(r"- `\1`: ", line) for line in paragraph.split("\n"))


class Markdown(griffe.Extension):
    """Changes the docstrings that mkdocstrings reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
