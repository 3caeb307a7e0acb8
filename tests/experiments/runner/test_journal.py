"""A journal that kills have cut, at every byte and by real kills: no whole line is lost, and no torn one is read."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import optuna
import pytest
from attend.experiments.runner import queue as queues
from attend.experiments.runner.journal import Journal
from attend.experiments.runner.queue import Queue
from optuna.storages.journal import JournalFileBackend

OPERATION = {"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"ä": "\n"}}


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    """A journal with a study, a finished trial and a waiting one."""
    path = tmp_path_factory.mktemp("journal") / "queue.journal"
    queue = Queue(f"journal:///{path}", "jobs")
    queue.fill(["a"])
    queue.work(lambda trial: trial.suggest_float("x", 0, 1))
    queue.fill(["b"])
    return path.read_bytes().replace(f'"{os.getpid()}@'.encode(), b'"4194309@')  # its worker is dead


def read(path: Path) -> list[dict]:
    """All operations, by Optuna's own reader."""
    return list(JournalFileBackend(str(path)).read_logs(0))


def test_a_journal_cut_at_any_byte_goes_on(content, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # a thousand of them take long
    path, lines = tmp_path / "queue.journal", content.splitlines(keepends=True)
    ends = [sum(map(len, lines[:n])) for n in range(len(lines) + 1)]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        Journal(path).append_logs([OPERATION])
        whole = sum(end - 1 <= cut for end in ends[1:])  # a line that lacks its line break alone is whole
        assert read(path) == [*map(json.loads, lines[:whole]), OPERATION], cut
        assert list(Journal(path).read_logs(0)) == read(path)
        assert path.read_bytes().startswith(b"".join(lines[:whole]))


def test_a_queue_goes_on_wherever_its_journal_was_cut(content, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(queues, "UNCLAIMED", 0)  # a trial that was begun, and whose worker was not noted yet
    for cut in range(0, len(content) + 1, 7):
        path = tmp_path / f"{cut}.journal"
        path.write_bytes(content[:cut])
        queue = Queue(f"journal:///{path}", "jobs")
        queue.fill(["a", "b"])
        queue.work(lambda trial: trial.suggest_float("x", 0, 1))
        assert {name: job.state for name, job in queue.jobs().items()} == {"a": "done", "b": "done"}, cut


def write(path: Path, name: str, size: int) -> None:
    """Append numbered operations for ever, and note each in a file of our own once it is in the journal."""
    journal, noted = Journal(path), os.open(f"{path}.{name}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for number in range(10**9):
        journal.append_logs([OPERATION | {"user_attr": {name: number, "filling": "x" * size}}])
        os.write(noted, f"{number}\n".encode())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.slow
def test_writers_that_are_killed_lose_no_operation(seed, forks, tmp_path):
    path, chance = tmp_path / "queue.journal", random.Random(seed)
    for victim in ("one", "two", "three"):
        writers = [
            forks.start(write, path, f"{victim}{n}", 10 ** (3 + 2 * n), folder=tmp_path, log=tmp_path / "log")
            for n in range(2)
        ]
        end = time.monotonic() + 60
        while len(list(tmp_path.glob(f"queue.journal.{victim}*"))) < 2:
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            time.sleep(0.01)
        for writer in writers:
            time.sleep(chance.random() / 3)
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
    Journal(path).append_logs([OPERATION])
    found = [operation["user_attr"] for operation in read(path)]
    for noted in tmp_path.glob("queue.journal.[ot]*"):
        name, last = noted.name.removeprefix("queue.journal."), len(noted.read_text().splitlines())
        numbers = [one[name] for one in found if name in one]
        assert numbers == [*range(len(numbers))] and len(numbers) in (last, last + 1)


@pytest.mark.parametrize("line", [0, 1, 3])
@pytest.mark.parametrize("broken", [b"{", b"3", b"", b"[]", b"{}", b"\xff", b"[" * 10**5, b"nonsense"])
def test_a_broken_line_in_the_middle_is_a_sentence_with_its_number(line, broken, content, tmp_path):
    lines = content.splitlines()
    path = tmp_path / "queue.journal"
    path.write_bytes(b"\n".join([*lines[:line], broken, *lines[line:], b""]))
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=rf"line {line + 1} of .*queue.journal is damaged \(.*remove the line"
    ) as caught:
        Queue(f"journal:///{path}", "jobs").jobs()
    assert "\n" not in str(caught.value) and path.read_bytes() == before


@pytest.mark.parametrize("missing", ["study_id", "trial_id", "study_name", "directions", "user_attr", "state"])
def test_an_operation_that_cannot_be_is_a_sentence(missing, content, tmp_path):
    lines = [json.loads(line) for line in content.splitlines()]
    for line in lines:
        line.pop(missing, None)
    path = tmp_path / "queue.journal"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    try:
        Queue(f"journal:///{path}", "jobs").jobs()
    except ValueError as error:
        assert "queue.journal has an operation that cannot be" in str(error)


@pytest.mark.parametrize("content", [b"a letter", b'{"mine": 1}', b"line\nline", b"\x89PNG\r\n\x1a\n", b"{"])
def test_a_file_that_is_no_journal_is_left_as_it_is(content, tmp_path):
    path = tmp_path / "mine.journal"
    path.write_bytes(content)
    if content == b"{":  # what a kill may leave of the first line
        Queue(f"journal:///{path}", "jobs").fill(["a"])
        return
    with pytest.raises(ValueError, match=r"mine.journal"):
        Queue(f"journal:///{path}", "jobs").fill(["a"])
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_pipe_or_a_folder_is_no_storage(kind, make, tmp_path):
    make(tmp_path / "queue")
    with pytest.raises(ValueError, match="not a file: "):
        Queue(f"{kind}:///{tmp_path}/queue", "jobs").jobs()


def test_optuna_itself_reads_and_writes_our_journal(content, tmp_path):
    path = tmp_path / "queue.journal"
    path.write_bytes(content)
    study = optuna.load_study(study_name="jobs", storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))))
    study.enqueue_trial({}, user_attrs={"job": "c"})
    assert list(Queue(f"journal:///{path}", "jobs").jobs()) == ["a", "b", "c"]
