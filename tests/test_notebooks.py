"""The notebooks of the documentation run from an empty folder, and show what their text says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_imports import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.py"))


def executed(name: str) -> tuple[str, int]:
    """What a notebook prints and displays as text, and its number of pictures. The site executes it the same way."""
    from docs.site.notebooks import read

    notebook = read(ROOT / "docs/notebooks" / f"{name}.py")
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.get("data", {}) for output in outputs]
    texts = [output.get("text", "") for output in outputs if output.get("name") == "stdout"]
    texts += [data.get("text/markdown", "") for data in shown]
    return "\n".join(texts), sum("image/png" in data for data in shown)


@pytest.mark.slow
def test_attention_in_your_own_model():
    text, pictures = executed("attention_in_your_own_model")
    assert pictures == 3
    correct = {name: int(percent) for name, percent in re.findall(r"(.*): (\d+) percent correct", text)}
    assert correct["soft"] > 80 and correct["hard"] > 80 and correct["even weights"] < 25
    differences = [float(one) for one in re.findall(r"relative difference (\S+)", text)]
    assert len(differences) > 10 and max(differences) < 1e-10


@pytest.mark.slow
def test_which_estimator():
    text, pictures = executed("which_estimator")
    assert pictures == 1
    biased = re.findall(r"^(.*): bias", text, re.M)
    assert {"gumbel-softmax", "reinforce, group"} <= set(biased)
    assert set(biased) <= {"gumbel-softmax", "straight-through", "reinforce, group", "reinforce, soft, own cost"}
    worth = [float(one) for one in re.findall(r"^\| \d \| (\S+) \| \S+ \|$", text, re.M)]
    assert len(worth) == 4 and worth[0] < worth[-1]


@pytest.mark.slow
def test_from_runs_to_a_figure():
    text, pictures = executed("from_runs_to_a_figure")
    assert pictures == 2 and r"\begin{tabular}" in text and "| soft" in text
    assert all(f"pictures/small.{suffix}" in text for suffix in ("png", "pdf", "svg", "csv"))


def test_every_notebook_is_executed_by_a_test():
    text = Path(__file__).read_text()
    assert len(NOTEBOOKS) == 3 and all(f'executed("{file.stem}")' in text for file in NOTEBOOKS)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_begins_with_a_title_and_its_links_lead_to_files(file):
    text = file.read_text()
    assert text.startswith("# %% [markdown]\n# # ")
    cells = re.split(r"^# %%.*\n", text, flags=re.M)
    words = " ".join(line.lstrip("# ") for cell in cells for line in cell.splitlines() if line.startswith("#"))
    links = re.findall(r"\]\((\S+?)\)", words)
    assert links and all((file.parent / link).is_file() for link in links)
