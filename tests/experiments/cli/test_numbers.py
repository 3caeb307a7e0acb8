"""Numbers of every setting and option: accepted and within their bounds, or one sentence; never a traceback."""

from __future__ import annotations

import math
import time
from dataclasses import fields
from typing import get_type_hints

import pytest
import torch
from attend.experiments.cli.help import _leaves
from attend.experiments.cli.main import VERBS
from attend.experiments.cli.parsing import parse
from hypothesis import given
from hypothesis import strategies as st

from attend.config import Config
from attend.config.section import LARGEST, LONGEST_CAPTION
from attend.config.setting import Setting
from attend.config.text import fields as names_of
from attend.config.text import replace
from attend.data.text import tokenise
from attend.documents import typed
from attend.metrics import captions
from attend.runs import processes

HOSTILE = [0, -1, 1, 2, 10**6, 10**6 + 1, 2**31, -(2**63), 10**30, 10**100, -(10**100), 10**400, 0.0, -0.0, 0.5, 1e-320,
           5e-324, 1e-45, 1e-38, 1e300, -1e300, math.inf, -math.inf, math.nan]  # fmt: skip
NUMBERS = st.sampled_from(HOSTILE) | st.integers() | st.floats()


@pytest.mark.parametrize("name", names_of())
@given(number=NUMBERS, as_text=st.booleans())
def test_a_setting_accepts_a_number_or_says_one_sentence(name, number, as_text):
    try:
        config = replace(Config(), {name: str(number) if as_text else number})
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        return
    value = config
    for part in name.split("."):
        value = getattr(value, part)
    if isinstance(value, int | float):
        assert math.isfinite(value) and abs(value) <= max(LARGEST, 2**31 if name == "seed" else 0)


def options(kind: type) -> dict[str, type]:
    """The numeric options of a verb that are in no section, and the type of each."""
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        types = [leaf for leaf, _ in _leaves(hint)]
        if any(leaf in (int, float) for leaf in types) and name in {one.name for one in fields(kind)}:
            found[name] = hint
    return found


NEEDED = {"prepare": ["scenes", "--out", "x"], "evaluate": ["x"], "caption": ["x", "y"], "export": ["x", "--to", "csv"],
          "score": ["x"], "plot": ["curves", "x"], "report": ["x"], "table": ["x"], "study": ["x"], "share": ["x"],
          "run": ["x"]}  # fmt: skip
ALL = [(verb, name) for verb, (kind, _) in VERBS.items() if verb != "train" for name in options(kind)]


@pytest.mark.thin
@pytest.mark.parametrize(("verb", "name"), ALL)
@pytest.mark.parametrize("number", HOSTILE)
def test_an_option_accepts_a_number_or_says_one_sentence(verb, name, number):
    if verb == "share":
        pytest.skip("its options have no numbers of their own")
    arguments = [*NEEDED.get(verb, []), f"--{name.replace('_', '-')}={number}"]
    try:
        value = getattr(parse(VERBS[verb][0], arguments, f"attend {verb}"), name)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return
    assert math.isfinite(value) and abs(value) <= (2**31 if "seed" in name else LARGEST)


def test_every_numeric_option_declares_its_bounds():
    for verb, name in ALL:
        hint = options(VERBS[verb][0])[name]
        assert any(marks for _, marks in _leaves(hint)), f"{verb} --{name}"
    assert len(ALL) > 15


@pytest.mark.parametrize(
    ("verb", "option"),
    [("run", "--seeds"), ("study", "--trials"), ("run", "--workers"), ("evaluate", "--draws"),
     ("estimators", "--draws"),
     ("prepare", "--captions-per-image"), ("prepare", "--split-seed"), ("prepare", "--caption-seed")],
)  # fmt: skip
def test_what_is_absurd_is_refused_before_work_starts(verb, option, fails):
    begun = time.monotonic()
    for number in ("1000000000000", "-1", "9" * 100):
        said = fails(verb, *NEEDED.get(verb, []), option, number)
        assert option in said and "but must be" in said
    assert fails("run", "quickstart", "--seeds", "1000000", "--dry-run", alone=True)
    assert time.monotonic() - begun < 20


def test_a_setting_of_an_evaluation_has_the_bounds_of_the_command_line():
    for wrong in (Setting(beam=10**6), Setting(draws=0), Setting(draws=10**30)):
        with pytest.raises(ValueError, match="must be"):
            typed(tuple(wrong), Setting)


@pytest.mark.parametrize("mark", ["\u0301", "\u0323", "\u0301\u0323", "a", "'", "n't", "\u0430\u0301"])
@pytest.mark.parametrize("read", [tokenise, lambda raw: captions.tokenise([raw], tokeniser="simple")])
def test_the_longest_caption_is_read_at_once_and_a_longer_one_refused(mark, read):
    longest = ("a" + mark * LONGEST_CAPTION)[:LONGEST_CAPTION]
    begun = time.process_time()
    read(longest)
    assert time.process_time() - begun < 3
    with pytest.raises(ValueError, match="a caption has 1,000,000 characters, and at most 10,000 are read") as caught:
        read((mark * 10**6)[: 10**6])
    assert len(str(caught.value)) < 250 and time.process_time() - begun < 4


def test_memory_is_counted_against_what_the_machine_has():
    processes.check_memory(1000, torch.device("cpu"), "a search", "give a narrower beam")
    with pytest.raises(ValueError, match=r"a search needs 1,000,000.0 GB at least, and there are .*: give a narrower"):
        processes.check_memory(10**15, torch.device("cpu"), "a search", "give a narrower beam")
