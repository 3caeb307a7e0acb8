"""What every section of a configuration checks, and how it says what is wrong."""

import math
from typing import Annotated, get_type_hints

from msgspec import Meta

from attend.documents import typed

LARGEST = 1_000_000
"""What any size, count or factor is at most."""

Positive = Annotated[int, Meta(ge=1, description="1 or more")]
Count = Annotated[int, Meta(ge=0, description="0 or more")]
Factor = Annotated[float, Meta(ge=0, description="0 or more")]
Share = Annotated[float, Meta(ge=0, lt=1, description="in [0, 1)")]
Beam = Annotated[int, Meta(ge=0, le=1000, description="0 to 1000")]


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise ValueError with a setting's name and what it must be, unless it holds."""
    if not holds:
        raise ValueError(f"{name} is {value!r}, but must be {expected}")


class Section:
    """Settings that belong together. The type of a field has its bounds."""

    def __post_init__(self) -> None:
        name = type(self).__name__.lower()
        for key, kind in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, key)
            if isinstance(value, float):
                require(math.isfinite(value), f"{name}.{key}", value, "a finite number")
            if isinstance(value, int | float):  # none so large that only a slip of the keyboard explains it
                require(abs(value) <= LARGEST, f"{name}.{key}", value, f"{LARGEST} or less")
            typed(value, kind, f"{name}.{key}")
        self.check()

    def check(self) -> None:
        """Raise ValueError where a value does not go with another."""
