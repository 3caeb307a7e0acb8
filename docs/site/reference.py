"""The pages of the reference: the face of the library, its packages, the settings and the verbs."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import attend
from docs.site.settings import settings_page, verbs_page

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "attend.attention": "score, simplex, select",
    "attend.estimators": "the gradient of hard attention",
    "attend.captioner": "attention and decoder over a caption",
    "attend.decoder": "the network over the words",
    "attend.encoder": "images to features",
    "attend.model": "a captioner with its encoder and vocabulary",
    "attend.training": "objective and loop",
    "attend.evaluation": "captions, controls and bounds",
    "attend.metrics": "scores of captions and of attention",
    "attend.data": "datasets, prepared",
    "attend.runs": "the files of a run folder",
    "attend.config": "configurations",
    "attend.geometry": "grid cells and pixels",
    "attend.chance": "random streams",
    "attend.analysis.records": "runs as records",
    "attend.analysis.scoring": "captions of any program, scored and compared",
    "attend.analysis.statistics": "intervals and tests",
    "attend.analysis.tables": "tables of scores",
    "attend.analysis.figures": "figures of scores",
    "attend.analysis.gaze": "where the gaze goes",
    "attend.analysis.grounding": "attention in the boxes of words",
}
"""What has a page of its own, and what it is about."""
RETURNED = (
    "attend.evaluation.caption.ImageCaption",
    "attend.runs.finished.FinishedRun",
    "attend.analysis.scoring.results.ScoreResult",
    "attend.analysis.scoring.results.Comparison",
)
"""What the names of `import attend` return."""


def reference() -> dict[str, tuple[str, str]]:
    """The pages by their place in the site, each with its short title and its Markdown."""
    pages = {
        "reference/attend.md": ("attend", face()),
        "reference/settings.md": ("Settings", settings_page()),
        "reference/verbs.md": ("Verbs", verbs_page()),
    }
    for name, about in PACKAGES.items():
        pages[f"reference/{name}.md"] = (name, package(name, about))
    return pages


def public() -> dict[str, str]:
    """The names of ``import attend`` and what each is, as attend.evaluation.caption.ImageCaptioner."""
    return {name: ".".join(path) for name, path in attend._LATER.items()}


def face() -> str:
    """The page of `import attend`."""
    text = [
        "# attend",
        "`import attend` loads nothing heavy. Each of these names is imported when it is first used.",
        _without_heading("attend", "members: false"),
    ]
    for name, path in public().items():
        text.append(f"::: {path}\n    options:\n      heading: attend.{name}\n      toc_label: {name}")
    text += ["## What they return", *(f"::: {path}\n    options:\n      heading_level: 3" for path in RETURNED)]
    return "\n\n".join(text) + "\n"


def _without_heading(name: str, *more: str) -> str:
    return "\n      ".join(
        [f"::: {name}\n    options:", "show_root_heading: false", "show_root_toc_entry: false", *more]
    )


def package(name: str, about: str) -> str:
    """The page of a package: its docstring, the names to import from it, its own names, then its modules."""
    own, shared = names(file_of(name))
    text = [f"# {name}", f"*{about[0].upper()}{about[1:]}.*"]
    if shared:
        links = (f"[`{one}`][{path}.{one}]" if one in documented(path) else f"`{one}`" for one, path in shared.items())
        text.append(f"Import these from `{name}`: {', '.join(links)}.")
    text.append(_without_heading(name, f"members: {own}" if own else "members: false"))
    for module in modules(name):
        text.append(f"::: {module}\n    options:\n      show_root_full_path: true")
    return "\n\n".join(text) + "\n"


def names(file: Path) -> tuple[list[str], dict[str, str]]:
    """The public names that a file defines, and those that its ``__all__`` shares from other modules, with these."""
    own, imported, listed = [], {}, None
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            imported |= {alias.name: str(node.module) for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.append(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            own.append(node.targets[0].id)
            listed = ast.literal_eval(node.value) if own[-1] == "__all__" else listed
    public = listed if listed is not None else [name for name in own if not name.startswith("_")]
    return [name for name in own if name in public], {name: imported[name] for name in public if name in imported}


def documented(module: str) -> set[str]:
    """The names of a module that have a docstring, and so an entry on its page."""
    body = ast.parse(file_of(module).read_text(encoding="utf-8")).body
    found = {one.name for one in body if isinstance(one, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(one)}
    pairs = ((one, text) for one, text in pairwise(body) if isinstance(one, ast.Assign) and isinstance(text, ast.Expr))
    return found | {target.id for one, _ in pairs for target in one.targets if isinstance(target, ast.Name)}


def modules(name: str) -> list[str]:
    """The public modules of a package, by name; none for a module."""
    file = file_of(name)
    files = sorted(file.parent.glob("*.py")) if file.name == "__init__.py" else []
    return [f"{name}.{one.stem}" for one in files if one.stem[0] != "_"]


def file_of(name: str) -> Path:
    """The file of a package or module, found without importing anything, since most of them need torch."""
    first, *rest = name.split(".")
    path = ROOT.joinpath(*rest) if rest and rest[0] in ("analysis", "experiments") else ROOT.joinpath(first, *rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
