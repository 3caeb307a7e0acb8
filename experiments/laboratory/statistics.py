"""Mean and variance of a stream of gradients, without storing them."""

import math

import torch
from torch import Tensor


class Running:
    """The mean, the total variance and the mean cosine of a stream of vectors g (P,), for each part of the vectors.

    The squares are summed around the running mean, M <- M + (g - old mean) . (g - new mean), so that no precision is
    lost if the variance is small relative to the mean. Source: Welford (1962).
    """

    def __init__(self, parts: dict[str, slice], exact: Tensor | None = None) -> None:
        self.parts, self.exact, self.count = parts, exact, 0
        self.mean: Tensor | None = None
        self.squares, self.cosines = dict.fromkeys(parts, 0.0), dict.fromkeys(parts, 0.0)

    def add(self, gradient: Tensor) -> None:
        """Add one vector, in double precision."""
        gradient = gradient.double()
        if self.mean is None:
            self.mean = torch.zeros_like(gradient)
        self.count += 1
        before = gradient - self.mean
        self.mean = self.mean + before / self.count
        after = gradient - self.mean
        for name, part in self.parts.items():
            self.squares[name] += float(before[part] @ after[part])
            if self.exact is not None:
                self.cosines[name] += cosine(gradient[part], self.exact[part])

    def variance(self, part: str) -> float:
        """E|g - E g|^2, estimated without bias: the trace of the covariance."""
        return self.squares[part] / (self.count - 1)

    def signal(self, part: str) -> float:
        """|E g|^2: the square of the mean minus its bias from noise, at least 0."""
        mean = self.mean[self.parts[part]]
        return max(float(mean @ mean) - self.variance(part) / self.count, 0.0)

    def signal_to_noise(self, part: str) -> float:
        """|E g|^2 / E|g - E g|^2; infinite without noise."""
        variance = self.variance(part)
        return self.signal(part) / variance if variance else math.inf

    def cosine(self, part: str) -> float | None:
        """The mean cosine of one draw to the exact gradient."""
        return None if self.exact is None else self.cosines[part] / self.count

    def bias(self, part: str, exact: Tensor) -> float:
        """|mean - exact| / |exact|."""
        return distance(self.mean, exact, self.parts[part])

    def chance(self, part: str, exact: Tensor) -> float:
        """The root mean square of ``bias`` for an unbiased estimator: sqrt(variance / count) / |exact|."""
        return math.sqrt(self.variance(part) / self.count) / length(exact[self.parts[part]])


def cosine(one: Tensor, other: Tensor) -> float:
    """The cosine of the angle between two vectors; 0 if one of them is 0."""
    return float(one @ other) / (length(one) * length(other))


def distance(mean: Tensor, exact: Tensor, where: slice) -> float:
    """|mean - exact| / |exact| over some places of two vectors."""
    return float((mean[where] - exact[where]).norm()) / length(exact[where])


def length(vector: Tensor) -> float:
    """|v|, at least 1e-150."""
    return max(float(vector.norm()), 1e-150)
