"""The page on attention in a model of one's own: its program learns, and its gradient is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attend.attention import (
    AdditiveScore,
    Attention,
    BilinearScore,
    DotScore,
    Expected,
    Forced,
    Sample,
    StraightThrough,
)

PAGE = Path(__file__).parents[2] / "docs/attention-in-your-own-model.md"
PROGRAM, CHECK, BASELINES, OTHERS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
PRINTS = re.findall(r"^    (?:soft|even) .*", PAGE.read_text(), re.M)


@pytest.fixture(scope="module")
def page() -> dict:
    """The names of the page's program, run as it stands, with what it printed as ``printed``."""
    printed: list[str] = []
    names = {"print": printed.append}
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)  # its tensors are small
        for text in (PROGRAM, CHECK, BASELINES, OTHERS):
            exec(compile(text, str(PAGE), "exec"), names)
        torch.set_num_threads(threads)
    return names | {"printed": printed}


def test_the_program_has_sixty_lines_and_uses_the_parts_alone():
    assert len(PROGRAM.splitlines()) <= 60
    assert set(re.findall(r"^(?:from|import) (\S+)", PROGRAM, re.M)) == {
        "torch", "torch.nn", "attend.attention", "attend.estimators"
    }  # fmt: skip


def test_soft_and_hard_attention_learn_to_read_and_an_even_look_does_not(page):
    found = dict(re.findall(r"(\w+) (0\.\d+)", " ".join(page["printed"][:2])))
    stated = dict(re.findall(r"(\w+) (0\.\d+)", " ".join(PRINTS)))
    assert found.keys() == stated.keys() == {"soft", "hard", "even"}
    assert float(found["soft"]) > 0.9 and float(found["hard"]) > 0.9 > 0.4 > float(found["even"]) > 0.1
    assert all(float(found[name]) == pytest.approx(float(stated[name]), abs=0.05) for name in found)


def model(page: dict) -> tuple[torch.nn.Module, Tensor, Tensor]:
    """The page's model with weights that are far from even, and two pictures in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one, (cells, digits) = page["Reader"]().double(), page["pictures"](2)
        with torch.no_grad():
            for parameter in one.parameters():
                parameter.copy_(0.7 * torch.randn_like(parameter))
    return one, cells.double(), digits


def test_the_gradient_is_that_of_the_expected_cost(page):
    assert float(page["printed"][2]) < 1e-10
    one, cells, digits = model(page)
    weights = one(cells, Expected())[1].weights
    assert weights.max() > 0.3
    assert page["check"](one, cells, digits) < 1e-10


def test_the_check_finds_a_wrong_estimator(page, monkeypatch):
    def own_sample_included(costs: Tensor, log_probs: Tensor) -> Tensor:
        charge = (costs - costs.mean(1, keepdim=True)).detach()
        return (costs + charge * log_probs).mean(1)

    monkeypatch.setitem(page["expected_loss"].__globals__, "reinforce_loss", own_sample_included)
    assert page["check"](*model(page)) > 0.1


@pytest.mark.parametrize(
    "name", ["hard_loss_with_average", "hard_loss_with_critic", "exact_loss", "marginal_loss", "relaxed_loss",
             "straight_through_loss"]
)  # fmt: skip
def test_the_other_losses_give_a_number_for_each_picture_and_reach_attention(page, name):
    one, (cells, digits) = page["Reader"](), page["pictures"](5)
    loss = page[name](one, cells, digits)
    assert loss.shape == (5,)
    loss.sum().backward()
    assert all(parameter.grad.any() for parameter in one.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hard_loss_with_average", "hard_loss_with_critic", "marginal_loss", "relaxed_loss"])
def test_the_other_losses_learn(page, name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert page["learn"](page[name], page["Argmax"]()) > 0.9


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: AdditiveScore(4, 3, activation="gelu"), "activation is 'gelu', but must be one of tanh, relu"),
        (lambda: AdditiveScore(4, 3, heads=2), "heads is 2, but this score has one"),
        (lambda: BilinearScore(4, 3, heads=2), "heads is 2, but this score has one"),
        (lambda: DotScore(4, 3, width=5, heads=2), "width 5 does not divide into 2 heads"),
        (lambda: Attention(DotScore(4, 3, width=6), 4, heads=2), "heads=2 and its score heads=1"),
        (lambda: Attention(DotScore(4, 3, width=6, heads=2), 4), "heads=1 and its score heads=2"),
    ],
)
def test_wrong_parts_are_one_sentence(made, says):
    with pytest.raises(ValueError, match=says):
        made()


def test_a_misspelt_argument_is_refused():
    with pytest.raises(TypeError, match="widht"):
        AdditiveScore(4, 3, widht=5)


def test_wrong_shapes_are_one_sentence():
    attention = Attention(AdditiveScore(4, 3, width=5), 4)
    memory, query = attention.memory(torch.randn(2, 6, 4)), torch.randn(2, 1, 3)
    wrong = {
        r"features are \(2, 4, 3, 2\).*flatten": lambda: attention.memory(torch.randn(2, 4, 3, 2)),
        r"query is \(2, 3\).*query\[:, None\]": lambda: attention(memory, query[:, 0], Expected()),
        r"query is \(1, 2, 3\).*N = 2 images": lambda: attention(memory, torch.randn(1, 2, 3), Expected()),
        r"noise is \(2,\), but .* \(2, 1\)": lambda: attention(memory, query, Sample(torch.rand(2))),
        r"noise is \(1, 2\)": lambda: attention(memory, query, StraightThrough(torch.rand(1, 2))),
        r"path is \(2, 2\)": lambda: attention(memory, query, Forced(torch.zeros(2, 2).long())),
    }
    for says, call in wrong.items():
        with pytest.raises(ValueError, match=says) as error:
            call()
        assert "\n" not in str(error.value)
