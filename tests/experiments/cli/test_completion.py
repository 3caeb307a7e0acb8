"""`attend --completion`, in a real bash and fish; and `attend --version`."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from attend.experiments.cli.main import VERBS, main

from attend import __version__
from attend.config.presets import PRESETS

COMPLETE = """
source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tyro_attend; printf "%s\\n" "${COMPREPLY[@]}"
"""
"""What bash does when the key for completion is pressed behind the last word."""


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    """The script that `attend --completion bash` writes."""
    path, written = tmp_path_factory.mktemp("completion") / "attend", io.StringIO()
    with contextlib.redirect_stdout(written):
        main(["--completion", "bash"])
    path.write_text(written.getvalue())
    return path


def completed(script: Path, *words: str) -> set[str]:
    command = ["bash", "-c", COMPLETE, "bash", str(script), "attend", *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return {*ran.stdout.splitlines()} - {"", "-h", "--help"}


@pytest.mark.slow  # the oldest tyro completes a verb, but not what follows a preset
def test_verbs_presets_options_and_choices_are_completed_in_bash(script):
    assert completed(script, "") == {*VERBS}
    assert completed(script, "train", "") == {*PRESETS}
    assert completed(script, "train", "hard", "--train.lear") == {"--train.learning-rate"}
    assert completed(script, "train", "soft", "--estimator.coin", "") == {"image", "minibatch"}
    assert completed(script, "table", "runs", "--format", "") == {"text", "markdown", "latex", "csv", "html"}
    assert completed(script, "plot", "ga") == {"gaze"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_verbs_presets_options_and_choices_are_completed_in_fish(tmp_path, capsys):
    main(["--completion", "fish"])
    (tmp_path / "attend.fish").write_text(capsys.readouterr().out)

    def words(line: str) -> set[str]:
        command = [
            "fish",
            "--no-config",
            "-c",
            'source $argv[1]; complete -C "$argv[2]"',
            tmp_path / "attend.fish",
            line,
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        return {one.partition("\t")[0] for one in ran.stdout.splitlines()}

    assert words("attend ex") == {"export"} and words("attend train ha") == {"hard"}
    assert words("attend train hard --train.lear") == {"--train.learning-rate"}
    assert words("attend table runs --format ma") == {"markdown"}


def test_no_description_is_taken_for_words_and_file_names_are_left_to_bash(script):
    assert all(word.startswith("--") and " " not in word for word in completed(script, "train", "hard", "--"))
    assert completed(script, "caption", "some-run", "photo") == set()
    assert "complete -o default -F _tyro_attend attend" in script.read_text()


def test_a_shell_without_completion_is_refused_in_one_sentence(fails):
    for shell in (["ksh"], []):
        assert "give bash, zsh, fish" in fails("--completion", *shell)


def test_the_version_is_printed(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"attend {__version__}\n"
