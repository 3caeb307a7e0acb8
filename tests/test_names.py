"""Everything but attention's third step is shared, and must not know whether attention is soft or hard."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.test_imports import ROOT, imports

NAMES = {"feed", "hard", "select"}
"""Fields of ``config.Attention`` that tell soft from hard attention."""


def asked(tree: ast.AST) -> set[str]:
    """The functions that read one of NAMES from an object, compare it, or pass it on by keyword."""
    found = set()

    def walk(node: ast.AST, place: str) -> None:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            place = f"{place}.{node.name}".lstrip(".")
        attribute = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in NAMES
        keyword = isinstance(node, ast.keyword) and node.arg in NAMES
        compared = isinstance(node, ast.Compare) and any(
            isinstance(side, ast.Name) and side.id in NAMES for side in (node.left, *node.comparators)
        )
        if attribute or keyword or compared:
            found.add(place)
        for child in ast.iter_child_nodes(node):
            walk(child, place)

    walk(tree, "")
    return found


def test_five_places_ask_for_the_kind_of_attention():
    """They are

    - ``build_captioner``, where modules meet the configuration
    - ``Captioner.apart``: whether the decoder reads the expected context
    - ``Learner.__init__``: whether there is a rule for glimpses
    - ``softly``: the policy of soft attention
    - ``bounds.one_path``: whether a caption has a single path
    """
    places = {
        f"{file.relative_to(ROOT / 'attend')}:{place}"
        for file in (ROOT / "attend").rglob("*.py")
        if "config" not in file.relative_to(ROOT).parts
        for place in asked(ast.parse(file.read_text()))
    }
    assert places == {
        "model.py:build_captioner",
        "captioner/captioner.py:Captioner.apart",
        "estimators/__init__.py:Learner.__init__",
        "estimators/take.py:softly",
        "evaluation/bounds.py:one_path",
    }
    assert len(places) <= 5


@pytest.mark.parametrize(
    ("code", "places"),
    [
        ("def f(x):\n    return x.feed == 'glimpse'", {"f"}),
        ("class A:\n    def f(self, hard):\n        return 1 if hard == 2 else 0", {"A.f"}),
        ("f(select='sample')", {""}),
        ("class A:\n    def f(self, feed):\n        self.feed = feed\nfrom a.select import hard", set()),
    ],
)
def test_a_place_is_found(code, places):
    assert asked(ast.parse(code)) == places


@pytest.mark.parametrize("folder", ["attention", "decoder", "captioner"])
def test_modules_take_plain_arguments(folder):
    """``attend.model`` alone reads configuration objects. Their parts import names of the catalogue at most."""
    found = set()
    for file in (ROOT / "attend" / folder).glob("*.py"):
        found |= {module for module in imported_names(file) if module.startswith("attend.config")}
    assert found <= {"attend.config.catalogue"}


def imported_names(file: Path) -> set[str]:
    """What a file imports of ours; ``from attend.config import x`` is attend.config.x."""
    found = imports(file) - {"attend.config"}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in ("attend", "attend.config"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found
