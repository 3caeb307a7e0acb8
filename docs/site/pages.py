"""The menu of the site, and where a file of the repository stands in it."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

HOME = "docs/README.md"
GUIDES, RESULTS = "How-to guides", "Results"
SECTIONS: dict[str, dict[str, str]] = {
    GUIDES: {
        "Your own photographs": "docs/your-own-photographs.md",
        "Your own data": "docs/your-own-data.md",
        "Score captions": "docs/score.md",
        "Attention in your own model": "docs/attention-in-your-own-model.md",
        "Your own attention or estimator": "docs/your-own-attention-or-estimator.md",
        "Commands": "docs/command-line.md",
        "Runs": "docs/runs.md",
        "Experiments and studies": "docs/experiments.md",
        "Recipes": "docs/recipes.md",
        "Several processes": "docs/processes.md",
        "Figures": "docs/figures.md",
        "Other tools": "docs/other-tools.md",
    },
    "Explanation": {
        "Soft and hard attention": "docs/attention.md",
        "Estimators": "docs/estimators.md",
        "Statistics": "docs/statistics.md",
        "Columns of a table": "docs/columns.md",
        "Why my CIDEr differs": "docs/why-my-cider-differs.md",
        "Grounding": "docs/grounding.md",
        "Gaze": "docs/saccades.md",
        "Cause": "docs/cause.md",
        "Speed and memory": "docs/performance.md",
        "Reliability": "docs/reliability.md",
        "Race to the paper": "docs/speedrun.md",
        "Claims": "docs/claims.md",
    },
    RESULTS: {
        "The built-in world": "docs/built-in-world.md",
        "Photographs": "docs/photographs.md",
        "Ablations": "experiments/results/ablations.md",
        "Bound or variance": "experiments/results/bound_or_variance.md",
        "Soft or hard, tuned": "experiments/results/soft_or_hard.md",
        "Estimators": "experiments/results/estimators-tiny.md",
        "Flickr8k": "experiments/results/flickr8k.md",
        "Flickr8k, three seeds": "experiments/results/flickr8k-seeds.md",
        "Flickr8k, arrangements": "experiments/results/arrangements.md",
        "Photographs, a screen": "experiments/results/screen.md",
        "Metrics": "experiments/results/metric_validity.md",
    },
}
"""The pages of each section, with their short titles. Any other page ends the how-to guides or the results."""
NOTEBOOKS = ("attention_in_your_own_model.py", "which_estimator.py", "from_runs_to_a_figure.py")
"""The order of the notebooks. Others follow them."""

Menu = list[dict[str, "str | Menu"]]


def menu(root: Path, reference: dict[str, str]) -> Menu:
    """The sections of the site, each with its pages as {title: page of the site}.

    ``reference`` are the generated pages of the last section, by title.

    Raises ValueError if SECTIONS names a page that does not exist.
    """
    sections = {name: dict(pages) for name, pages in SECTIONS.items()}
    named = {HOME, *(page for pages in sections.values() for page in pages.values())}
    for page in sorted(named):
        if not (root / page).is_file():
            raise ValueError(f"the menu has {page}, but there is no such file: see docs/site/pages.py")
    for name, pattern in ((GUIDES, "docs/*.md"), (RESULTS, "experiments/results/*.md")):
        sections[name] |= {title(root / page): page for page in listed(root, pattern) if page not in named}
    tutorials = sorted(listed(root, "docs/notebooks/*.py"), key=_order)
    whole = {"Tutorials": {title(root / page): page for page in tutorials}, **sections}
    project = {title(root / page): page for page in listed(root, "*.md") if page != "README.md"}
    result: Menu = [{"Start": site_path(HOME)}]
    for name, pages in whole.items():
        if pages:
            result.append({name: [{one: site_path(page)} for one, page in pages.items()]})
    return [*result, {"Reference": [{one: page} for one, page in reference.items()]}, *_about(project)]


def _about(project: dict[str, str]) -> Menu:
    return [{"About": [{one: site_path(page)} for one, page in project.items()]}] if project else []


def _order(page: str) -> tuple[int, str]:
    name = PurePosixPath(page).name
    return (NOTEBOOKS.index(name) if name in NOTEBOOKS else len(NOTEBOOKS), name)


def listed(root: Path, pattern: str) -> list[str]:
    """The files of a pattern, relative to the root, by name."""
    return sorted(file.relative_to(root).as_posix() for file in root.glob(pattern) if file.is_file())


def sources(root: Path) -> list[str]:
    """All pages that people wrote, as files of the repository."""
    patterns = ("docs/*.md", "docs/notebooks/*.py", "experiments/results/*.md", "*.md")
    return [file for pattern in patterns for file in listed(root, pattern) if file != "README.md"]


def title(file: Path) -> str:
    """The first heading of a page, or of a notebook's text. Raises ValueError if it has none."""
    mark = "# # " if file.suffix == ".py" else "# "
    heading = re.search(rf"^{mark}(?P<title>\S.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    if heading is None:
        raise ValueError(f"{file} has no title: begin it with a line '{mark}Title'")
    return heading["title"].strip()


def site_path(file: str) -> str:
    """Where a file of the repository stands in the site: docs/grounding.md -> grounding.md.

    Pages and what they show keep their names. Any other file is source, and has a page that shows it.
    """
    path = PurePosixPath(file)
    if file in ("README.md", HOME):
        return "index.md"
    if path.parent == PurePosixPath("docs/notebooks") and path.suffix == ".py":
        return f"notebooks/{path.stem}.md"
    for folder, place in (("docs", ""), ("experiments/results", "results")):
        if path.is_relative_to(folder) and path.suffix in (".md", ".png", ".csv"):
            return (place / path.relative_to(folder)).as_posix()
    if path.parent == PurePosixPath(".") and path.suffix == ".md":
        return f"about/{path.name.lower()}"
    return f"source/{file}.md"
