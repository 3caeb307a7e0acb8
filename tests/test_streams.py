"""What is printed never ends work: a disk that is full, a reader that is gone, streams that are closed."""

from __future__ import annotations

import ast
import errno
import io
import subprocess
import sys
from pathlib import Path

import pytest
from attend.experiments.cli.main import main
from hypothesis import given
from hypothesis import strategies as st

from attend import bars
from attend.streams import Lasting, lasting, steady
from attend.training.loop import train
from tests import halves
from tests.test_imports import files

ROOT = Path(__file__).parents[1]
ERRORS = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EBADF, "Bad file descriptor"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    BlockingIOError(errno.EAGAIN, "write could not complete without blocking"),
    ValueError("I/O operation on closed file."),
]


class Broken(io.StringIO):
    """A stream that fails, at once or only when it is flushed, as a buffered one does; or a terminal that does."""

    def __init__(self, error: Exception, late: bool = False, terminal: bool = False) -> None:
        super().__init__()
        self.error, self.late, self.terminal = error, late, terminal

    def write(self, text: str) -> int:
        if not self.late:
            raise self.error
        return len(text)

    def flush(self) -> None:
        raise self.error

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_nothing_that_is_printed_raises(monkeypatch, error, late):
    for terminal in (False, True):
        monkeypatch.setattr(sys, "stderr", Broken(error, late, terminal))
        monkeypatch.setattr(bars, "EVERY", 0.0)
        assert [*bars.through(range(3), 3, "letters", "letter")] == [0, 1, 2]
        bars.say("a sentence", "another")
        with lasting() as out:
            print("a sentence", file=sys.stderr, flush=True)
        assert out.fault is None
    monkeypatch.setattr(sys, "stdout", Broken(error, late))
    with lasting() as out:
        print("a result", flush=True)
        sys.stdout.writelines(["a", "b"])
    assert out.fault is error


def test_the_first_error_of_stdout_is_told_at_the_end():
    for error in ERRORS:
        out = Lasting(Broken(error))
        print("a", file=out)
        with pytest.raises((ValueError, SystemExit)) as told:
            out.check()
        if isinstance(error, BrokenPipeError):
            assert told.value.code == 141
        else:
            assert "stdout could not be written" in str(told.value) and error.args[-1] in str(told.value)
    fine = Lasting(io.StringIO())
    print("a", file=fine)
    fine.check()
    assert fine.getvalue() == "a\n"


@given(st.text(st.characters()), st.sampled_from(["ascii", "latin-1", "utf-8", "cp1252", "utf-16", "shift_jis"]))
def test_a_terminal_shows_what_it_can(text, encoding):
    """Halves of characters are names of files that are no UTF-8."""
    raw = io.BytesIO()
    stream = Lasting(io.TextIOWrapper(raw, encoding=encoding, newline=""))
    assert stream.write(text) == len(text)
    stream.check()
    assert raw.getvalue().decode(encoding) == text.encode(encoding, "replace").decode(encoding)


def test_bars_are_drawn_where_they_may_be():
    terminal = Broken(ERRORS[0], terminal=True)
    assert Lasting(terminal).isatty() and not Lasting(terminal, drawn=False).isatty()
    closed = io.StringIO()
    closed.close()
    assert not Lasting(closed).isatty()
    assert steady(terminal) is steady(terminal) and steady(steady(terminal)).stream is terminal


def test_without_stderr_the_library_is_silent(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    bars.say("a sentence")
    assert [*bars.through("ab", 2, "letters", "letter")] == ["a", "b"]
    assert capsys.readouterr().out == ""


def test_only_few_modules_print_to_stderr():
    """The others print with ``say``, which cannot end work. A question waits for its answer, and is no work."""
    for file in files():
        if file.name in ("streams.py", "bars.py", "common.py"):
            continue
        calls = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)]
        where = [ast.unparse(one.value) for call in calls for one in call.keywords if one.arg == "file"]
        assert "sys.stderr" not in where and "tqdm.write" not in [ast.unparse(call.func) for call in calls], file


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return halves.write(tmp_path_factory.mktemp("streams") / "data")


def test_a_training_whose_stderr_is_full_ends_with_its_scores(data, tmp_path, monkeypatch):
    settings = {"data": str(data), **halves.SMALL}
    settings["train"] = halves.SMALL["train"] | {"epochs": 1, "monitor": "nll"}
    from attend.config.text import from_dict

    monkeypatch.setattr("attend.metrics.captions.find_java", no_java)
    scores = []
    for error in (None, ERRORS[0], ERRORS[1]):
        if error:
            monkeypatch.setattr(sys, "stderr", Broken(error, terminal=True))
        scores.append(train(from_dict(settings), tmp_path / str(len(scores))))
        del scores[-1]["train_seconds"], scores[-1]["seconds"]
    assert scores[0] == scores[1] == scores[2] and scores[0]["captions"]


def no_java() -> None:
    from attend.metrics.java import JavaError

    raise JavaError("no Java in this test")


def shell(line: str) -> subprocess.CompletedProcess:
    """`attend LINE` in a shell, with its redirections."""
    command = ["bash", "-o", "pipefail", "-c", f'"$0" -m attend {line}', sys.executable]
    return subprocess.run(command, cwd=ROOT, capture_output=True)


EVERY = """
import os, sys
from attend.experiments.cli.main import VERBS, main

for verb in [[], ["--version"], ["train"], ["train", "soft"], *([verb] for verb in VERBS if verb != "train")]:
    for closed in [(0,), (1,), (2,), (1, 2), (0, 1, 2)]:
        if os.fork() == 0:
            for number in closed:
                os.close(number)
                setattr(sys, ("stdin", "stdout", "stderr")[number], None)
            try:
                main([*verb, "--help"])
            except SystemExit as end:
                assert not end.code
            for number in range(3):
                os.write(number, b"") if number else os.read(number, 0)
                assert os.get_inheritable(number)
            os._exit(7)
        status = os.waitstatus_to_exitcode(os.wait()[1])
        assert status == 7, (verb, closed, status)
"""
"""Every verb with every way of closed streams, each in a process as Python begins it then."""


def test_every_verb_runs_with_closed_streams():
    ran = subprocess.run([sys.executable, "-c", EVERY], cwd=ROOT, capture_output=True, stdin=subprocess.DEVNULL)
    assert ran.returncode == 0 and ran.stderr == b"", ran.stderr.decode()


def test_a_file_that_is_written_has_not_the_number_of_a_closed_stream(tmp_path):
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,a dog\n")
    written = tmp_path / "scores.csv"
    line = f"score {tmp_path}/captions.csv --references {tmp_path}/captions.csv --format csv --out {written}"
    ran = shell(f"{line} --tokeniser simple --metrics bleu <&- >&- 2>&-")
    assert ran.returncode == 0 and ran.stdout == ran.stderr == b""
    assert "scores.csv" not in written.read_text() and written.read_text().count("\n") > 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_result_that_is_not_printed_is_an_error_at_the_end(tmp_path):
    for where, status, words in (
        (">/dev/full", 2, b"attend: stdout could not be written (No space left on device)"),
        ("2>/dev/full", 0, b""),
        (">/dev/full 2>/dev/full", 2, b""),
        ("| true", 141, b""),
    ):
        ran = shell(f"--version {where}")
        assert ran.returncode == status and words in ran.stderr, where
        assert ran.stderr.count(b"\n") == bool(words) and b"Traceback" not in ran.stderr
    ran = shell("table nothing-here >/dev/full")  # what was wrong first is said
    assert ran.returncode == 2 and b"nothing-here is not a folder" in ran.stderr


def test_the_end_of_the_program_gives_the_streams_back(capsys):
    before = sys.stdout, sys.stderr
    main(["--version"])
    assert (sys.stdout, sys.stderr) == before and capsys.readouterr().out.startswith("attend ")
