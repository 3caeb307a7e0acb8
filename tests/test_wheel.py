"""A wheel, installed where nothing else of this project is, runs every verb in a folder of somebody else's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from attend.experiments.cli.main import VERBS
from PIL import Image

import attend
from attend import shipped
from tests.made_runs import make_scored

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
ROOT = Path(__file__).parents[1]
SOURCES = ("attend", "analysis", "experiments", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def call(*command: object, **options) -> str:
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing is left behind here."""
    root = tmp_path_factory.mktemp("wheel")
    source = root / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    call(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", root, source)
    (built,) = root.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory) -> Path:
    """The programs of an environment that has the wheel, and sees the dependencies of this one but not its attend."""
    place = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(place, with_pip=False)
    python = place / "bin/python"
    packages = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet", wheel)
    # A .pth of a path is followed, those inside that path are not: an attend that is installed to be edited stays away.
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "dependencies.pth").write_text("\n".join(others))
    return place / "bin"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """A research folder with packages whose names this project's folders have too; to import them is an error."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("analysis", "experiments"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('this is not the package that was meant')")
    return folder


def test_the_wheel_holds_what_is_needed_and_one_name(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert {name.split("/")[0] for name in names} == {"attend", f"attend_captioning-{attend.__version__}.dist-info"}
    inside = {
        "attend/py.typed",
        "attend/analysis/report/templates/report.html",
        "attend/analysis/tables/templates/table.tex",
    }
    for name in shipped.names():
        inside |= {
            f"attend/shipped/{name}/{file}" for file in shipped.hub.FILES if (shipped.FOLDER / name / file).exists()
        }
    assert inside <= names and not any("test" in name.split("/") or "__pycache__" in name for name in names)


def test_every_verb_runs_from_it_elsewhere(bare, elsewhere):
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    places = {"cwd": elsewhere, "env": plain}

    def said(*arguments: object) -> str:
        return call(bare / "attend", *arguments, **places)

    own = call(bare / "python", "-c", "import attend; print(attend.__file__)", **places)
    assert Path(own.strip()).is_relative_to(bare.parent)
    assert said("--version") == f"attend {attend.__version__}\n"
    assert all(f"\n  {verb} " in said("--help") for verb in VERBS)
    assert all(said(verb, "--help") for verb in VERBS)
    Image.new("RGB", (90, 60), (220, 30, 30)).save(elsewhere / "photo.png")
    assert said("caption", shipped.names()[0], "photo.png").startswith("photo.png: ")
    for seed in (0, 1):
        make_scored(elsewhere / "runs", f"made/soft/seed{seed}", chance=seed)
    assert "<table" in said("table", "runs", "--format", "html") and "tabular" in said(
        "table", "runs", "--format", "latex"
    )
    said("report", "runs", "--out", "report.html")
    assert "</html>" in (elsewhere / "report.html").read_text()
    assert "2 evaluations" not in said("export", "runs", "--to", "csv") and (elsewhere / "exports/csv/made").is_dir()
    assert "quickstart" in said("run", "list") and "soft_or_hard" in said("study", "list")


def test_the_tiny_quickstart_runs_from_it_elsewhere(bare, elsewhere):
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    call(bare / "attend", "run", "quickstart", "--tiny", "--yes", cwd=elsewhere, env=plain)
    run = elsewhere / "runs/quickstart-tiny/hard/seed0"
    assert (run / "scores.json").exists()
    call(bare / "attend", "share", run, "--out", "shared", cwd=elsewhere, env=plain)
    assert (elsewhere / "shared/README.md").exists()
