"""What every section of a configuration checks, and how it says what is wrong."""

import math

LARGEST = 1_000_000
"""What any size, count or factor is at most."""


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise ValueError with a setting's name and what it must be, unless it holds."""
    if not holds:
        raise ValueError(f"{name} is {value!r}, but must be {expected}")


class Section:
    """Settings that belong together."""

    def __post_init__(self) -> None:
        name = type(self).__name__.lower()
        for key, value in vars(self).items():
            if isinstance(value, float):
                require(math.isfinite(value), f"{name}.{key}", value, "a finite number")
            if isinstance(value, int | float):  # none so large that only a slip of the keyboard explains it
                require(abs(value) <= LARGEST, f"{name}.{key}", value, f"{LARGEST} or less")
        self.check()

    def check(self) -> None:
        """Raise ValueError where a value is impossible, or does not go with another."""
