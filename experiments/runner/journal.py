"""Optuna's journal: a file of JSON lines, one per operation, that processes append to and that a kill may cut."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attend.experiments.runner.locks import JournalLock
from optuna.storages.journal import JournalFileBackend

from attend.paths import regular

BEGINS = b'{"op_code":'
"""How every line begins."""


class Journal(JournalFileBackend):
    """The journal at a path, which is created if it does not exist. ValueError if the file is something else.

    A last line without its line break is what a kill leaves. If it is whole JSON, it counts, and whoever writes next
    ends it; otherwise it is no operation yet, and whoever writes next removes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = regular(path)
        super().__init__(str(path), JournalLock(path, self._heal))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        number = log_number_from
        try:
            for log in super().read_logs(log_number_from):
                if not (isinstance(log, dict) and isinstance(log.get("op_code"), int) and "worker_id" in log):
                    raise ValueError("it is no operation of Optuna")
                yield log
                number += 1
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"line {number + 1} of {self.path} is damaged ({error}): remove the line, or name another journal"
            ) from None

    def _heal(self) -> None:
        """End or remove a last line that a kill has cut. The lock is ours."""
        with open(self.path, "rb+") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return
            file.seek(-1, os.SEEK_END)
            if file.read() == b"\n":
                return
            file.seek(0)
            content = file.read()
            start = content.rfind(b"\n") + 1
            torn = content[start:]
            if not torn.startswith(BEGINS[: len(torn)]):
                raise ValueError(f"the last line of {self.path} is none of Optuna's: name another journal")
            if _whole(torn):
                file.write(b"\n")
            else:
                file.truncate(start)
            file.flush()
            os.fsync(file.fileno())


def _whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
