"""Notebooks in docs/notebooks (jupytext's percent format): executed, and as pages with their outputs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from nbformat import NotebookNode

TEMPLATE = """
{%- extends 'markdown/index.md.j2' -%}
{%- block stream -%}
```{ .text .output }
{{ output.text | strip_ansi | trim }}
```
{% endblock stream -%}
{%- block data_text -%}
```{ .text .output }
{{ output.data['text/plain'] | trim }}
```
{% endblock data_text -%}
"""


def executed(file: Path) -> NotebookNode:
    """The notebook with its outputs. It runs in an empty folder of its own.

    Raises nbclient's CellExecutionError if a cell fails.
    """
    notebook = jupytext.read(file)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": folder}}
        ).execute()
    return notebook


def page(notebook: NotebookNode, stem: str) -> tuple[str, dict[str, bytes]]:
    """The Markdown of a notebook, and its pictures by file name, which the page expects beside it."""
    exporter = MarkdownExporter(raw_template=TEMPLATE)
    text, resources = exporter.from_notebook_node(notebook, {"unique_key": stem, "output_files_dir": f"{stem}_files"})
    return text, resources["outputs"]
