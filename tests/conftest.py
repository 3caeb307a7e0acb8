"""Small tensors on one thread: many threads only wait for each other."""

import os
from collections import defaultdict
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick", max_examples=15, deadline=10_000, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
settings.register_profile("slow", settings.get_profile("quick"), max_examples=300, derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_configure():
    import torch

    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run on the CPU, if they are imported after this


def covering(cases: list) -> list:
    """Few of the cases of a function, in which each value of each of its parameters occurs."""
    values = {case: {(name, repr(value)) for name, value in case.callspec.params.items()} for case in cases}
    left, chosen = set().union(*values.values()), []
    cases = sorted(cases, key=lambda case: crc32(case.nodeid.encode()))
    while left:
        chosen.append(max(cases, key=lambda case: len(values[case] & left)))
        left -= values[chosen[-1]]
    return chosen


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of a function that is marked `thin`, the cases beyond ``covering`` are slow."""
    functions = defaultdict(list)
    for item in items:
        if item.get_closest_marker("thin") and not item.get_closest_marker("slow"):
            functions[item.function].append(item)
    for cases in functions.values():
        for case in {*cases} - {*covering(cases)}:
            case.add_marker("slow")


@pytest.fixture()
def fails(capsys):
    """Run the program and return the one sentence it says; it must exit with status 2 and print nothing.

    With ``alone`` nothing else goes to stderr either.
    """
    from attend.experiments.cli.main import main

    def run(*arguments: object, alone: bool = False) -> str:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert stop.value.code == 2 and not said.out
        lines = [line for line in said.err.splitlines() if line.startswith("attend: ")]
        assert len(lines) == 1 and "Traceback" not in said.err
        assert not alone or said.err.splitlines() == lines
        return lines[0]

    return run


@pytest.fixture(scope="session", autouse=True)
def coarse():
    """Pictures of few dots, which are written sooner."""
    from attend.analysis.figures import figures

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "DPI", 50)
        yield


@pytest.fixture(scope="session", autouse=True)
def meteor():
    """METEOR's program starts once, when a test first asks for it: that takes eight seconds of a processor."""
    from attend.metrics.java import meteor_kept

    with meteor_kept() as kept:
        yield kept


@pytest.fixture(scope="module")
def forks():
    """Starts processes of their own; those that are left at the end of a file are killed."""
    from tests.forks import Forks

    found = Forks()
    yield found
    found.end()
