"""How an error is told."""

from __future__ import annotations

import errno

import pytest
import torch
from attend.experiments.cli.errors import DISK, sentence

from attend.runs.files import write_text


def test_every_disk_error_names_the_file_and_a_way_out():
    for number in DISK:
        said = sentence(OSError(number, "whatever", "some/file"))
        assert "at some/file" in said and ": " in said and "whatever" not in said
    said = sentence(OSError(errno.EIO, "Input/output error", "x"))
    assert said == "x: Input/output error; try again, and --debug shows where it failed"


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "taken").write_text("")
    for inside in ("taken/file", "taken/deep/file"):
        with pytest.raises(OSError) as refused:
            write_text(tmp_path / inside, "x")
        assert f"{tmp_path / 'taken'}" in sentence(refused.value) and "where a folder is needed" in sentence(
            refused.value
        )


def test_an_error_of_a_library_says_how_to_find_its_place():
    for error in (RuntimeError("shapes\n  differ"), ImportError("no module named x")):
        assert sentence(error).endswith("; --debug shows where it failed") and "\n" not in sentence(error)
    assert sentence(ImportError("x is not installed: pip install x")) == "x is not installed: pip install x"
    assert sentence(ValueError("a is 3: give 2")) == "a is 3: give 2"


def test_too_little_memory_is_said_in_the_words_of_the_settings():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(10**15)
    for error in (refused.value, MemoryError("Unable to allocate")):
        assert "not enough memory" in sentence(error) and "attention.width" in sentence(error)
