"""Notebooks in docs/notebooks (jupytext's percent format): executed, and as pages with their outputs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import MarkdownExporter
from nbformat import NotebookNode

INLINE = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
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


def read(file: Path, execute: bool = True) -> NotebookNode:
    """A notebook, with its outputs if it is to be executed. It runs in an empty folder of its own.

    Raises ValueError with the cell and its error if one fails.
    """
    notebook = jupytext.read(file)
    notebook.metadata["language_info"] = {"name": "python"}
    if not execute:
        return notebook
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=None,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=ERROR"],
        )
        try:
            client.execute(env=os.environ | INLINE)
        except CellExecutionError as error:
            raise ValueError(f"{file.name}: {error}") from None
    return notebook


def page(notebook: NotebookNode, stem: str) -> tuple[str, dict[str, bytes]]:
    """The Markdown of a notebook, and its pictures by the file names that the page has for them."""
    exporter = MarkdownExporter(raw_template=TEMPLATE)
    text, resources = exporter.from_notebook_node(notebook, {"unique_key": stem, "output_files_dir": f"{stem}_files"})
    return text, resources["outputs"]
