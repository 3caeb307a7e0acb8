"""Costs of words from logits in bf16, beside torch's cross-entropy in fp32."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from attend.captioner import costs
from attend.captioner.costs import word_costs

WORDS, VOCABULARY = 23, 11


def drawn(dtype: torch.dtype):
    generator = torch.Generator().manual_seed(1)
    logits = (5 * torch.randn(WORDS, VOCABULARY, generator=generator)).to(dtype).requires_grad_()
    return logits, torch.randint(VOCABULARY, (WORDS,), generator=generator), torch.randn(WORDS, generator=generator)


@pytest.mark.parametrize("piece", [1, 4 * VOCABULARY, WORDS * VOCABULARY, 2**22])
def test_costs_and_gradients_are_those_of_cross_entropy_in_fp32(monkeypatch, piece):
    """The gradient is rounded to bf16 once, at its end, as autograd's is."""
    monkeypatch.setattr(costs, "PIECE", piece)
    logits, targets, slopes = drawn(torch.bfloat16)
    truth = F.cross_entropy(logits.float(), targets, reduction="none")
    found = word_costs(logits, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, truth, rtol=1e-6, atol=1e-6)
    ours, theirs = (torch.autograd.grad((one * slopes).sum(), logits)[0] for one in (found, truth))
    torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=1e-6)


def test_what_is_exact_stays_torch_s_own():
    for dtype in (torch.float32, torch.float64):
        logits, targets, _ = drawn(dtype)
        assert torch.equal(word_costs(logits, targets), F.cross_entropy(logits, targets, reduction="none"))


def test_no_more_than_a_piece_is_ever_in_fp32(monkeypatch):
    monkeypatch.setattr(costs, "PIECE", 4 * VOCABULARY)
    logits, targets, slopes = drawn(torch.bfloat16)
    largest = 0

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            nonlocal largest
            found = operation(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor) and found.dtype == torch.float32:
                largest = max(largest, found.numel())
            return found

    with Watching():
        (word_costs(logits, targets) * slopes).sum().backward()
    assert largest == 4 * VOCABULARY
