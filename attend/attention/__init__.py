"""Attention in three steps: score e = f(a, h), simplex alpha = g(e), select z = phi(a, alpha).

Soft and hard attention differ in the third step alone, which is a policy: ``Expected()`` or ``Sample(noise)``. All
modules take plain arguments, for a model of your own (docs/attention-in-your-own-model.md).
"""

from attend.attention.attention import Attention, Look, Memory
from attend.attention.score import AdditiveScore, BilinearScore, DotScore
from attend.attention.select import (
    Argmax,
    Expected,
    Forced,
    GumbelStraightThrough,
    Policy,
    Relaxed,
    Sample,
    Selection,
    StraightThrough,
    TopK,
)
from attend.attention.simplex import entmax, softmax, sparsemax

__all__ = [
    "AdditiveScore", "Argmax", "Attention", "BilinearScore", "DotScore", "Expected", "Forced", "GumbelStraightThrough",
    "Look", "Memory", "Policy", "Relaxed", "Sample", "Selection", "StraightThrough", "TopK", "entmax", "softmax",
    "sparsemax",
]  # fmt: skip
