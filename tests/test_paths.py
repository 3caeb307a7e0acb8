"""The gate to the disk: names that lead out of a folder, and files that are no files; and that all reads pass it."""

from __future__ import annotations

import ast
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attend.paths import inside, plain_name, quoted, regular

ROOT = Path(__file__).parents[1]
NAMES = st.lists(
    st.sampled_from(["..", ".", "/", "\\", "a", "b.png", "C:", "~", " ", "\0", "\n", "\ud800", "é"]), max_size=6
).map("".join) | st.text(max_size=9)


@given(name=NAMES)
def test_a_name_stays_in_its_folder_or_is_refused(tmp_path, name):
    try:
        path = inside(tmp_path, name, "an image")
    except ValueError as error:
        assert str(error).startswith("an image is named ") and "\n" not in str(error)
        str(error).encode()
    else:
        resolved = Path(os.path.normpath(path))
        assert resolved.is_relative_to(tmp_path) and path == tmp_path / name


@pytest.mark.parametrize(
    "name", ["..", "../a", "a/../../b", "a\\..\\..\\b", "/etc/a", "\\\\host\\a", "C:\\a", "", "a\0"]
)
def test_names_that_lead_out(tmp_path, name):
    with pytest.raises(ValueError, match=r"which leads out of .*: name a file inside it"):
        inside(tmp_path, name, "an image")


@pytest.mark.parametrize("name", ["a.png", "val/1.jpg", "..a/b..png", "./a.png", "a b", "é"])
def test_names_that_stay(tmp_path, name):
    assert inside(tmp_path, name, "an image") == tmp_path / name


def test_links_on_the_disk_are_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.txt").write_text("a")
    (tmp_path / "here").symlink_to(tmp_path / "elsewhere")
    assert regular(inside(tmp_path, "here/a.txt", "a file")).read_text() == "a"


@given(name=NAMES | st.integers() | st.none() | st.text(min_size=190, max_size=210))
def test_a_plain_name_is_one_folder(tmp_path, name):
    try:
        plain_name(name, "an experiment")
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 250
        str(error).encode()
    else:
        (tmp_path / name).mkdir(exist_ok=True)
        assert (tmp_path / name).parent == tmp_path and (tmp_path / name).name == name


@given(name=NAMES | st.text(max_size=200) | st.binary() | st.lists(st.text(max_size=40), max_size=40))
def test_a_quoted_name_is_short_and_plain(name):
    assert len(quoted(name)) <= 60 and quoted(name).isprintable()
    quoted(name).encode()


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "socket", tmp_path / "link", Path("/dev/zero"), Path("/dev/tty")):
        with pytest.raises(
            ValueError, match=f"{path} is a pipe or a device, not a file: write its content into a file"
        ):
            regular(path)
    with pytest.raises(ValueError, match=f"{tmp_path} is a folder, not a file: name a file"):
        regular(tmp_path)
    (tmp_path / "file").write_text("")
    for path in ("file", "nothing", "file/below"):
        assert regular(tmp_path / path) == tmp_path / path


OPENERS = {
    *("open", "io.open", "gzip.open", "h5py.File", "Image.open", "safe_open", "load_file", "torch.load", "np.load"),
    *("np.loadtxt", "np.genfromtxt", "np.fromfile", "ElementTree.parse", "runpy.run_path", "read_csv"),
}
EXEMPT = {
    "attend/streams.py": ["open(os.devnull, mode, encoding='utf-8')"],
    "attend/data/examples.py": ["open(self.path, 'rb')"],  # a line of a file that was read when it was opened
    "analysis/gaze/film.py": ["Image.open(content)"],  # memory
    "analysis/report/page.py": [  # our own templates
        "(TEMPLATES / name).read_text(encoding='utf-8')", "(TEMPLATES / 'style.css').read_text(encoding='utf-8')",
    ],
    "experiments/runner/experiment.py": ["open(importlib.util.find_spec(module).origin, encoding='utf-8')"],  # ours
    "experiments/runner/locks.py": ["lock.read_text('utf-8', 'replace')"],  # a file of ours, or Optuna's link
    "experiments/runner/runner.py": ["path.read_text('utf-8')"],  # queue.id, which the queue wrote
    "experiments/bench/data.py": ["h5py.File(path, 'r', rdcc_nbytes=0)"],  # what the bench has just written
    "experiments/bench/memory.py": [
        "Path(f'{folder}/trace.json').read_text('utf-8')", "Path('/proc/self/status').read_text('utf-8')",
    ],
}  # fmt: skip
"""Reads of files that are no user's."""


def reads(tree: ast.AST) -> list[str]:
    """The calls that open something for reading which has not passed ``regular``."""
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        mode = [*(one.value for one in call.keywords if one.arg == "mode"), *call.args[1:2], None][0]
        if name in OPENERS:
            path = [*call.args, *(one.value for one in call.keywords), None][0]
        elif method in ("read_text", "read_bytes"):
            path, mode = call.func.value, None
        elif method == "open" and all(isinstance(one, ast.Constant) for one in call.args) and name != "os.open":
            path, mode = call.func.value, [*call.args, None][0]
        else:
            continue
        writes = isinstance(mode, ast.Constant) and isinstance(mode.value, str) and {*mode.value} & {*"wax+"}
        passed = isinstance(path, ast.Call) and ast.unparse(path.func) == "regular"
        if not writes and not passed:
            found.append(ast.unparse(call))
    return found


def test_every_read_passes_the_gate():
    files = [file for part in ("attend", "analysis", "experiments") for file in sorted((ROOT / part).rglob("*.py"))]
    found = {str(file.relative_to(ROOT)): reads(ast.parse(file.read_text())) for file in files}
    assert {name: some for name, some in found.items() if some} == EXEMPT


@pytest.mark.parametrize(
    "line",
    [
        *("open(path)", "open(path, 'rb')", "open(path, mode='r')", "h5py.File(path, 'r')", "h5py.File(path)"),
        *("path.read_text()", "Path('x').read_bytes()", "safe_open(path, framework='pt')", "path.open()"),
        *("path.open('rb')", "Image.open(path)", "np.load(path)", "torch.load(file, weights_only=True)"),
    ],
)
def test_a_read_past_the_gate_is_found(line):
    assert reads(ast.parse(f"def f():\n    return {line}")) == [line]


@pytest.mark.parametrize(
    "line",
    [
        *("open(regular(path))", "regular(path).read_text()", "h5py.File(memory, 'w')", "open(path, 'a')"),
        *("safe_open(regular(path), framework='pt')", "os.open(os.devnull, os.O_WRONLY)", "open(path, 'rb+')"),
    ],
)
def test_a_read_through_the_gate_is_none(line):
    assert reads(ast.parse(line)) == []
