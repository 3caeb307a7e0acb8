"""Progress: lines where there is no terminal, a bar where there is one."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from attend import bars


class Clock:
    """A clock that the test moves."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(bars, "time", made)
    return made


def test_a_line_a_minute_has_place_loss_and_time_left(clock, capsys):
    """20 of 100 steps in 80 s, from step 10 on: 4 s a step, so 70 steps take 280 s and 170 steps 680 s."""
    with bars.bar(100, "epoch 2/3", "step", done=10, where="runs/a", beyond=100, note=lambda: "nll 2.500") as progress:
        for seconds in (30, 29.9):
            clock.now += seconds
            progress.update(5)
        assert capsys.readouterr().err == ""
        clock.now += 20.1
        progress.update(10)
    assert capsys.readouterr().err == "runs/a: epoch 2/3: step 30/100, nll 2.500, 04:40 left (11:20 in all)\n"
    clock.now += 59
    progress.update()
    assert capsys.readouterr().err == ""
    clock.now += 1
    progress.update()
    assert capsys.readouterr().err.startswith("runs/a: epoch 2/3: step 32/100, nll 2.500, ")


def test_short_work_says_nothing_and_a_note_costs_nothing(clock, capsys):
    def note() -> str:
        raise AssertionError("this would wait for the device")

    with bars.bar(3, "what", "unit", note=note) as progress:
        progress.update(3)
    assert [*bars.through("abc", 3, "letters", "letter")] == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_what_is_over_items_counts_them(clock, capsys):
    for _ in bars.through(range(4), 4, "METEOR", "caption"):
        clock.now += 61
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "METEOR: caption 1/4, 03:03 left" and lines[-1] == "METEOR: caption 4/4, 00:00 left"


def test_a_terminal_has_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with bars.bar(2, "features", "image", done=1, where="nowhere") as progress:
        progress.set_postfix(nll="1.0")
        progress.update()
    assert "features" in terminal.getvalue() and "\r" in terminal.getvalue() and "nowhere" not in terminal.getvalue()


SHOWN = """
from attend import bars
from attend.streams import lasting
with lasting():
    for _ in bars.through(range(3), 3, "METEOR", "caption"):
        pass
"""


@pytest.mark.parametrize(("columns", "widest"), [(0, 80), (40, 40), (200, 200)])
def test_a_bar_is_drawn_on_a_terminal_of_any_width(columns, widest):
    """Also on one that does not tell its size, as `docker exec -t` gives."""
    ours, theirs = pty.openpty()
    rows = 24 if columns else 0
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    subprocess.run([sys.executable, "-c", SHOWN], stdin=theirs, stdout=theirs, stderr=theirs, check=True, timeout=120)
    os.close(theirs)
    drawn = os.read(ours, 10_000).decode()
    os.close(ours)
    lines = [line for line in drawn.split("\r") if "METEOR" in line]
    assert any("0/3" in line for line in lines)
    assert all(len(line) <= widest for line in lines) and max(map(len, lines)) >= widest - 1
