"""No place for temporary files: it is said before anything is trained, and costs no training its scores."""

from __future__ import annotations

import errno
import subprocess
import sys
import tempfile

import pytest
from attend.experiments.cli.errors import sentence

from attend.config.text import from_dict
from attend.metrics.captions import score_captions
from attend.runs.files import temporary
from attend.training.loop import train
from attend.training.run import train as train_preset
from tests import halves

TRIED = ["/missing", "/tmp", "/var/tmp"]
NO_PLACE = "attend: no temporary file can be written in /missing, /tmp, /var/tmp: free some space there, or set TMPDIR"


def none(*_: object) -> str:
    raise FileNotFoundError(errno.ENOENT, f"No usable temporary directory found in {TRIED}")


@pytest.fixture
def no_place(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", none)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return halves.write(tmp_path_factory.mktemp("temporary") / "data")


def test_it_is_said_before_anything_is_trained(no_place, data, tmp_path, fails):
    config = from_dict({"data": str(data), **halves.SMALL})
    for begin in (lambda: train(config, tmp_path / "a"), lambda: train_preset("soft", data=data, out=tmp_path / "a")):
        with pytest.raises(ValueError, match="no temporary file can be written in /missing, /tmp, /var/tmp"):
            begin()
    for line in (["train", "soft"], ["run", "quickstart"]):
        assert fails(*line, "--data", data, "--out", tmp_path / "a").startswith(NO_PLACE)
    assert not (tmp_path / "a/config.json").exists()


def test_whatever_needs_one_says_the_same(no_place, fails, tmp_path):
    with pytest.raises(FileNotFoundError) as refused:
        tempfile.mkdtemp()
    assert f"attend: {sentence(refused.value)}".startswith(NO_PLACE)
    with pytest.raises(ValueError) as again:
        temporary()
    assert str(again.value) == sentence(refused.value)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOENT, errno.EDQUOT])
def test_a_folder_that_is_full_or_gone_later_costs_meteor_alone(error, monkeypatch):
    """At the end of a training, hours after it was looked at."""

    def full(*_: object, **__: object) -> None:
        raise OSError(error, "no room", "/tmp/attend")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    monkeypatch.setattr("attend.metrics.java._kept", None)
    scores = score_captions({"a": "a dog"}, {"a": ["a dog", "the dog"]}, metrics=["bleu", "meteor"])
    assert (
        scores.corpus["bleu1"] == pytest.approx(1)
        and "temporary files, which cannot be made: no room" in scores.missing["meteor"]
    )


def test_a_missing_folder_is_no_error_where_another_will_do(tmp_path):
    code = "from attend.runs.files import temporary; print(temporary())"
    environment = {"TMPDIR": "/missing/a", "TEMP": "/missing/b", "TMP": "/missing/c", "HOME": "/missing/d"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert ran.returncode == 0 and not ran.stdout.startswith("/missing")
