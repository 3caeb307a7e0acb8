"""Files are in UTF-8, whatever the language of the system; names may be no text, or long."""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from attend.experiments.cli.caption import picture_names
from attend.experiments.cli.errors import sentence
from hypothesis import given
from hypothesis import strategies as st

from attend.config import Config
from attend.data.examples import Example, Source, write_examples
from attend.data.prepared import write_prepared
from attend.runs.checkpoint import read_checkpoint, write_checkpoint
from attend.runs.files import LONGEST, read_json, shortened, sweep, whole, write_json, write_text
from attend.runs.folder import RunFolder
from attend.training.run import check_start
from tests.test_imports import files

ROOT = Path(__file__).parents[1]


def without(source: str) -> list[str]:
    """Calls that read or write text and do not name its encoding."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, named = ast.unparse(node.func), {one.arg: one.value for one in node.keywords}
        last = name.rpartition(".")[2]
        texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        modes = [*texts, *(ast.unparse(one) for arg, one in named.items() if arg == "mode")]
        if last in ("read_text", "write_text") and name != "write_text":
            text = len(node.args) < (1 if last == "read_text" else 2)
        elif name in ("open", "os.fdopen", "io.open"):
            text = not any("b" in mode for mode in modes[-1:])
        else:
            runs = last in ("run", "Popen", "check_output") and {"text", "universal_newlines"} & named.keys()
            text = last == "TextIOWrapper" or bool(runs)
        if text and "encoding" not in named:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("folder", ["attend", "analysis", "experiments", "docs"])
def test_every_text_names_its_encoding(folder):
    for file in [*files(), *(ROOT / "docs").rglob("*.py")]:
        text = file.read_text("utf-8")
        if file.is_relative_to(ROOT / folder) and re.search("open|_text|text=|TextIO", text):
            assert not without(text), file


def test_what_names_none_is_found():
    bad = "open(p)", "open(p, 'w')", "p.read_text()", "p.write_text(x)", "io.TextIOWrapper(b)", "run(c, text=True)"
    good = (
        "open(p, 'rb')",
        "open(p, encoding=e)",
        "p.read_text('utf-8')",
        "p.write_text(x, 'utf-8')",
        "write_text(p, x)",
    )
    assert all(without(line) for line in bad) and not any(without(line) for line in good)


texts = st.text(st.characters() | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))


@given(texts)
def test_a_file_is_utf_8_whatever_is_written(tmp_path, text):
    write_text(tmp_path / "a.md", text)
    assert (tmp_path / "a.md").read_bytes().decode("utf-8") == text.encode("utf-8", "backslashreplace").decode()
    write_json(tmp_path / "a.json", {text: [text]})
    assert read_json(tmp_path / "a.json") == {text: [text]}


def test_an_image_whose_name_is_no_text_is_read_as_it_was(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    write_examples(tmp_path / "examples.jsonl", [Example(image=name, split="test", captions=())])
    assert json.loads((tmp_path / "examples.jsonl").read_bytes())["image"] == name


LONG = ["a" * 246 + ".jpg", "a" * 251 + ".jpg", "ä" * 125 + ".png", "日" * 84 + ".x", "b" * 255, "." + "c" * 254]
LONG += ["a" * n for n in (LONGEST - 1, LONGEST, LONGEST + 1)] + [os.fsdecode(b"\xff" * 255)]


@pytest.mark.parametrize("name", LONG, ids=lambda name: f"{name[:1]!a}{len(os.fsencode(name))}")
def test_a_name_may_be_as_long_as_the_disk_allows(name, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 64)
    write_text(tmp_path / name, "a")
    assert os.listdir(tmp_path) == [name]
    with pytest.raises(KeyboardInterrupt), whole(tmp_path / name) as partial:
        partial.write_text("b")
        kept = tmp_path / partial.name.replace(f".{os.getpid()}@", ".4194305@")
        os.rename(partial, kept)
        partial.write_text("")
        raise KeyboardInterrupt
    assert kept.exists()
    write_text(tmp_path / name, "c")  # removes what a killed process has left
    assert os.listdir(tmp_path) == [name]
    kept.write_text("")
    sweep(tmp_path)
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "c"


@given(st.lists(texts.filter(lambda name: name and "/" not in name and "\0" not in name).map(lambda name: name * 40)))
def test_shortened_names_are_short_and_stay_different(names):
    try:
        made = [shortened(name) for name in names]
    except UnicodeEncodeError:  # a half that no system makes
        return
    assert all(len(os.fsencode(name)) <= LONGEST for name in made)
    assert len(set(made)) == len(set(names))
    assert all(one == other for one, other in zip(names, made, strict=True) if len(os.fsencode(one)) <= LONGEST)
    pictures = picture_names([Path(f"{name}.jpg") for name in names])
    assert len(set(pictures)) == len(names) and all(len(os.fsencode(name)) < LONGEST + 20 for name in pictures)


def test_what_cannot_be_named_is_one_sentence(tmp_path):
    with pytest.raises(OSError) as refused:
        write_text(tmp_path / ("a" * 256), "a")
    assert sentence(refused.value).startswith("a name is too long at ") and not os.listdir(tmp_path)
    for text, encoding in (("é" * 9000, "ascii"), ("日", "latin-1"), ("x\udcff", "utf-8")):
        with pytest.raises(UnicodeEncodeError) as refused:
            text.encode(encoding)
        told = sentence(refused.value)
        assert f"cannot be written as {encoding}" in told and told.isascii() and len(told) < 700


def test_a_run_whose_folder_no_checkpoint_can_be_in_does_not_begin(tmp_path):
    for name in (b"r\xff", b"r\xff/seed0"):
        run = RunFolder(tmp_path / os.fsdecode(name))
        with pytest.raises(ValueError, match=r"the run folder .* is no UTF-8"):
            check_start(Config(), run)
    check_start(Config(), RunFolder(tmp_path / "rä日"))


def test_a_checkpoint_below_a_folder_that_is_no_utf_8_is_refused_by_the_folder(tmp_path):
    path = tmp_path / os.fsdecode(b"r\xff") / "last.safetensors"
    path.parent.mkdir()
    write_checkpoint(path, {}, {})
    with pytest.raises(ValueError, match=r"the folder .* is no UTF-8, so no checkpoint is read there: rename"):
        read_checkpoint(path)
    path.parent.rename(tmp_path / "ä")
    with pytest.raises(ValueError, match="vocabulary is missing"):  # so it is opened there
        read_checkpoint(tmp_path / "ä/last.safetensors")


def test_an_image_whose_name_is_no_utf_8_is_refused_before_anything_is_prepared(tmp_path):
    examples = [Example(image=name, split="test", captions=()) for name in ("a.jpg", os.fsdecode(b"caf\xe9.jpg"))]
    source = Source(name="photographs", root=tmp_path, examples=examples)
    with pytest.raises(ValueError, match=r"the image 'caf.udce9.jpg' of .* has a name that is no UTF-8: rename it"):
        write_prepared(source, tmp_path / "data", minimum_count=1)
    assert not (tmp_path / "data").exists()


SHOW = r"""
import sys
from attend.experiments.cli.main import VERBS, main
VERBS["table"] = (VERBS["table"][0], lambda command: print("| 0.1 \xb1 0.2 | \u2191 \u65e5 \udcff |", command.runs[0]))
main(["table", sys.argv[1]])
"""


@pytest.mark.parametrize("variables", [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
], ids=str)  # fmt: skip
def test_a_terminal_shows_what_it_can(variables, tmp_path):
    command = [sys.executable, "-c", SHOW, os.fsdecode(b"caf\xc3\xa9")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "PYTHON", "LANG"))}
    ran = subprocess.run(command, capture_output=True, cwd=ROOT, env=environment | variables)
    assert ran.returncode == 0 and ran.stderr == b"" and ran.stdout.startswith(b"| 0.1 ") and b"?" in ran.stdout
