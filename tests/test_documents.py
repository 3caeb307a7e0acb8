"""JSON documents read as types: one sentence with the field and what was expected, whatever is in them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import pytest
from hypothesis import given
from msgspec import Meta

from attend.documents import parsed, typed
from attend.runs.files import read_json, read_line
from tests.runs.test_fuzz import JSON


class Pair(NamedTuple):
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    words: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    kind: Literal["soft", "hard"] | None = None
    size: tuple[int, int] | None = None
    pair: Pair | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a part has no name")


class Whole(TypedDict):
    parts: list[Part]
    least: NotRequired[Annotated[int, Meta(ge=1)]]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "it is [], but must be an object"),
        ({}, "parts is missing"),
        ({"parts": "x"}, "parts is 'x', but must be a list"),
        ({"parts": [{"name": "a"}, {}]}, "parts[1].name is missing"),
        ({"parts": [{"name": 3}]}, "parts[0].name is 3, but must be text"),
        ({"parts": [{"name": "a", "words": "a dog"}]}, "parts[0].words is 'a dog', but must be a list"),
        ({"parts": [{"name": "a", "words": ["a", []]}]}, "parts[0].words[1] is [], but must be text"),
        ({"parts": [{"name": "a", "counts": {"x": 1, "y": 1e999}}]}, "counts.y is inf, but must be a whole number"),
        ({"parts": [{"name": "a", "counts": {"x": True}}]}, "counts.x is True, but must be a whole number"),
        ({"parts": [{"name": "a", "kind": "Hard"}]}, "kind is 'Hard', but must be one of soft, hard or null"),
        ({"parts": [{"name": "a", "kind": ["hard"]}]}, "kind is ['hard'], but must be one of soft, hard or null"),
        ({"parts": [{"name": "a", "size": [1]}]}, "size is [1], but must be a list of 2 values or null"),
        ({"parts": [{"name": "a", "size": [1, 2.5]}]}, "size[1] is 2.5, but must be a whole number"),
        ({"parts": [{"name": "a", "pair": [1, 10**400]}]}, "but must be"),
        ({"parts": [{"name": ""}]}, "a part has no name"),
        ({"parts": [], "least": 0}, "least is 0, but must be a whole number of 1 or more"),
    ],
)
def test_the_innermost_wrong_field_is_named(value, says):
    with pytest.raises(ValueError) as error:
        typed(value, Whole)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_what_is_of_its_type_is_read_and_a_typed_dictionary_keeps_its_other_fields():
    value = {"name": "a", "words": ["a", "dog"], "size": [1, 2], "pair": [1, 0.5], "later": 3}
    part = Part(name="a", words=("a", "dog"), size=(1, 2), pair=Pair(1.0, 0.5))
    assert typed(value, Part) == part
    assert typed({"parts": [value], "later": 3}, Whole) == {"parts": [value], "later": 3}


@pytest.mark.parametrize("text", ["[" * 100_000, "{", b"\xff", "9" * 5000, ""])
def test_what_is_no_json_is_one_sentence(tmp_path, text):
    with pytest.raises(ValueError):
        parsed(text)
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"a\.json is not readable as JSON .*: restore it or remove it") as error:
        read_json(path)
    assert "\n" not in str(error.value)


def test_the_file_and_the_line_are_named_and_the_way_out(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"parts": 3}')
    with pytest.raises(ValueError, match=r"a\.json holds no parts: make it again \(parts is 3, but must be a list\)$"):
        read_json(path, Whole, "holds no parts", "make it again")
    with pytest.raises(ValueError, match=r"line 7 of .*a\.json is damaged: restore it or run again \(parts is missing"):
        read_line(b"{}", 7, path, Whole)


@given(value=JSON)
def test_any_json_is_read_or_refused_in_one_sentence(value):
    for kind in (Whole, Part, dict[str, float | None], list[tuple[int, ...]], Any):
        try:
            parsed(json.dumps(value), kind)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
            str(error).encode()
