"""What every section of a configuration checks, and how it says what is wrong."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from msgspec import Meta

from attend.documents import choices, typed
from attend.paths import quoted

LARGEST = 1_000_000
"""What any size, count or factor is at most."""

LONGEST_CAPTION = 10_000
"""Characters of a caption. Normalisation takes time by the square of the marks that a letter carries."""
MOST_SEEDS, MOST_TRIALS = 1000, 10_000
"""Seeds of a variant, and trials of a study of each kind: more would only fill the queue for hours."""

Positive = Annotated[int, Meta(ge=1, description="1 or more")]
Several = Annotated[int, Meta(ge=2, le=100_000, description="2 to 100000")]
Count = Annotated[int, Meta(ge=0, description="0 or more")]
Factor = Annotated[float, Meta(ge=0, description="0 or more")]
Share = Annotated[float, Meta(ge=0, lt=1, description="in [0, 1)")]
Beam = Annotated[int, Meta(ge=0, le=1000, description="0 to 1000")]
Paths = Annotated[int, Meta(ge=1, le=1000, description="1 to 1000 paths of each caption")]
Workers = Annotated[int, Meta(ge=1, le=1024, description="1 to 1024")]
Rounds = Annotated[int, Meta(ge=0, le=1000, description="0 to 1000")]
Tau = Annotated[float, Meta(ge=1e-6, le=1_000_000, description="0.000001 or more")]
Repetitions = Annotated[int, Meta(ge=1, le=10_000, description="1 to 10000")]
Seeds = Annotated[int, Meta(ge=1, le=MOST_SEEDS, description=f"1 to {MOST_SEEDS}")]
Trials = Annotated[int, Meta(ge=1, le=MOST_TRIALS, description=f"1 to {MOST_TRIALS}")]
Tokens = Annotated[int, Meta(ge=3, le=10_000, description="3 to 10000")]
Seed = Annotated[int, Meta(ge=0, lt=2**31, description="in [0, 2147483648)")]


@dataclass(frozen=True, eq=False)
class Known:
    """The range of a name: the keys of a table that may grow."""

    names: Collection[str]

    @property
    def description(self) -> str:
        return f"one of {', '.join(self.names)}"


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise ValueError with a setting's name and what it must be, unless it holds."""
    if not holds:
        raise ValueError(f"{name} is {quoted(value)}, but must be {expected}")


def check_caption(raw: str) -> None:
    """ValueError if a caption has more than LONGEST_CAPTION characters."""
    if len(raw) > LONGEST_CAPTION:
        raise ValueError(
            f"a caption has {len(raw):,} characters, and at most {LONGEST_CAPTION:,} are read: shorten it or leave it "
            f"out ({quoted(raw)})"
        )


def within(value: Any, kind: Any, name: str) -> None:
    """Raise ValueError with a setting's name and what it must be, unless the value is in the range of its type.

    A number whose type has no upper bound is at most LARGEST.
    """
    marks = [mark for one in choices(kind) for mark in getattr(one, "__metadata__", ())]
    if isinstance(value, float):
        require(math.isfinite(value), name, value, "a finite number")
    if isinstance(value, int | float) and not any(isinstance(m, Meta) and (m.le, m.lt) != (None, None) for m in marks):
        require(abs(value) <= LARGEST, name, value, f"{LARGEST} or less")
    given = [one for one in choices(kind) if one is not type(None)]
    typed(value, given[0] if len(given) == 1 and value is not None else kind, name)  # nobody types null
    for mark in marks:
        if isinstance(mark, Known):
            require(value in mark.names, name, value, mark.description)


class Section:
    """Settings that belong together. The type of a field has its range."""

    def __post_init__(self) -> None:
        name = type(self).__name__.lower()
        for key, kind in get_type_hints(type(self), include_extras=True).items():
            within(getattr(self, key), kind, f"{name}.{key}")
        self.check()

    def check(self) -> None:
        """Raise ValueError where a value does not go with another."""
