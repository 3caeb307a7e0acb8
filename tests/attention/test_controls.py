"""Controls, the frozen first glimpse, the largest weights alone and supervision, as functions and in a model."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from attend.attention import controls
from attend.attention.attention import Attention
from attend.attention.score import DotScore
from attend.attention.select import Argmax, Expected, Sample, TopK
from attend.attention.simplex import entmax, softmax, sparsemax
from attend.captioner.captioner import decoding
from attend.captioner.search import ancestral, beam_search
from attend.chance import torch_generator
from attend.estimators.baselines import Average
from attend.estimators.noise import Noise
from attend.estimators.take import Given
from attend.geometry import centre_weights
from attend.model import build_captioner
from attend.training.supervised import supervised
from tests import bed, oracles

ROWS = [[[4, 5, 6, 3, 2], [5, 6, 2]], [[6, 4, 2], [4, 2]]]
CELLS = [{}, *({"decoder": decoder} for decoder in bed.BLIND.values())]


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_centre_of_two_rows_and_three_columns_by_hand():
    """Rows lie half a cell from the middle, so alike; columns a cell away, 14/9 deviations of 3/14 x 3 cells."""
    away = math.exp(-((14 / 9) ** 2) / 2)
    by_hand = [weight / (2 + 4 * away) for weight in [away, 1, away] * 2]
    assert controls.centre((2, 3)).tolist() == pytest.approx(by_hand)
    assert controls.centre((3, 2)).view(3, 2).T.flatten().tolist() == pytest.approx(by_hand)


def test_the_centre_is_the_gaze_that_stands_below_every_table():
    """Of 7 x 7 cells; on a finer grid it is as wide in the picture: each of 14 x 14 cells has a quarter of one of 7."""
    assert torch.allclose(controls.centre((7, 7)).double(), torch.from_numpy(centre_weights((7, 7))), atol=1e-7)
    finer = controls.centre((14, 14)).view(7, 2, 7, 2).sum((1, 3))
    assert torch.allclose(finer, controls.centre((7, 7)).view(7, 7), atol=2e-3)


def test_random_weights_are_those_of_the_flat_dirichlet():
    """Each is Beta(1, L - 1): P(weight > x) = (1 - x)^(L - 1); and two of them have covariance -1 / (L^2 (L + 1))."""
    locations, draws = 4, 40_000
    weights = controls.random(torch.rand(draws, locations, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(weights.sum(-1), torch.ones(())) and (weights >= 0).all()
    for x in (0.1, 0.25, 0.5, 0.8):
        truth = (1 - x) ** (locations - 1)
        off = ((weights > x).float().mean(0) - truth) / math.sqrt(truth * (1 - truth) / draws)
        assert off.abs().max() < 4, x
    covariance = weights.T.cov()[0, 1]
    assert covariance == pytest.approx(-1 / (locations**2 * (locations + 1)), rel=0.05)


def test_random_weights_of_a_step_are_keyed_by_seed_and_step():
    def numbers(*key):
        return torch.rand((2, 3, 4, 5), generator=torch_generator("random weights of a step", *key))

    one = numbers(1, 7)
    assert torch.equal(one, numbers(1, 7))
    assert not torch.equal(one, numbers(1, 8))
    assert not torch.equal(one, numbers(2, 7))
    assert len(one.unique()) == one.numel(), "every word and location has its own"


@pytest.mark.parametrize("top", [1, 2, 3])
def test_the_largest_weights_alone_by_a_loop(top):
    a, weights = drawn(2, 4, 5, seed=1), softmax(drawn(2, 3, 4, seed=2)).requires_grad_()
    chosen = TopK(top)(a, weights)
    for n, r in itertools.product(range(2), range(3)):
        kept = weights[n, r].detach().argsort(descending=True).tolist()[:top]
        by_hand = sum(weights[n, r, i] * a[n, i] for i in kept) / sum(weights[n, r, i] for i in kept)
        assert torch.allclose(chosen.context[n, r], by_hand)
        ours, theirs = (
            torch.autograd.grad(z.sum(), weights, retain_graph=True)[0] for z in (chosen.context[n, r], by_hand)
        )
        assert torch.allclose(ours, theirs, atol=1e-12)
        reached = (ours[n, r].abs() > 1e-12).nonzero()[:, 0].tolist()
        assert reached == (sorted(kept) if top > 1 else []), "one alone has no gradient"
    assert chosen.glimpse is None and chosen.log_prob is None


@pytest.mark.parametrize("top", [4, 9])
def test_all_weights_are_the_expectation(top):
    a, weights = drawn(2, 4, 5, seed=1), softmax(drawn(2, 3, 4, seed=2))
    assert torch.equal(TopK(top)(a, weights).context, Expected()(a, weights).context)


def test_a_weight_of_zero_among_the_largest_adds_nothing():
    weights = torch.tensor([[[0.75, 0.0, 0.25, 0.0]]]).double()
    assert torch.allclose(TopK(3)(drawn(1, 4, 5), weights).context, weights @ drawn(1, 4, 5))


def test_training_keeps_as_many_weights_as_its_settings_say():
    a, (words, lengths) = bed.features(2), bed.captions(ROWS)
    logits = {}
    for top in (2, 3):
        settings = bed.settings(attention={"select": "top-k", "top": top})
        model, noise = bed.captioner(settings), Noise.draw(settings, tuple(words.shape), 0, 0)
        logits[top] = bed.learner(settings).take(model, Given(a, words, lengths), noise).logits
    soft, likeliest = (model(a, words, lengths, policy).logits for policy in (Expected(), Argmax()))
    assert torch.allclose(logits[3], soft)
    assert not torch.allclose(logits[2], soft, atol=1e-3) and not torch.allclose(logits[2], likeliest, atol=1e-3)


@pytest.mark.parametrize("look", controls.CONTROLS)
@pytest.mark.parametrize("heads", [1, 2])
def test_controls_are_distributions_over_the_locations_that_exist_without_a_gradient(look, heads):
    """In a model that has attention parameters all the same: an evaluation control."""
    attention = Attention(DotScore(4, 6, width=4, heads=heads), 4, heads=heads, grid=(2, 3)).double()
    attention.look = look
    mask = torch.tensor([[True, True, True, False, True, True], [True, False, True, True, True, True]])
    memory = attention.memory(drawn(2, 6, 4), mask)
    shown = softmax(drawn(2, 3, 6, seed=3)).requires_grad_(False)
    found = attention(memory, drawn(2, 3, 6, seed=4).requires_grad_(), Expected(), shown=shown)
    weights = found.weights
    assert torch.allclose(weights.sum(-1), torch.ones(()).to(weights.dtype)) and (weights >= 0).all()
    assert not weights[~mask[:, None].expand_as(weights)].any() and not weights.requires_grad
    by_hand = {
        "uniform": torch.ones(6),
        "centre": controls.centre((2, 3)),
        "random": -(1 - shown).log(),
        "oracle": shown,
        "shuffled": shown,
    }[look] * mask[:, None]
    by_hand = by_hand / by_hand.sum(-1, keepdim=True)
    assert torch.allclose(weights.double(), by_hand.expand(2, 3, 6).double(), atol=1e-6)
    assert found.context.shape == (2, 3, 4)


@pytest.mark.parametrize("weights", [*sorted(set(controls.CONTROLS) - {"shuffled"}), "first", "learned"])
@pytest.mark.parametrize("look", [None, *controls.CONTROLS, "first"])
def test_attention_has_a_gradient_only_if_its_weights_are_learned(weights, look):
    """A training control has no parameters. Under an evaluation control no parameter has a gradient."""
    settings = bed.settings(attention={"weights": weights}, train={"monitor": "nll"})
    torch.manual_seed(0)
    model = build_captioner(settings, bed.FEATURES, bed.WORDS, grid=(1, 3)).double()
    learned = weights in ("learned", "first")
    assert bool(list(model.attention.parameters())) == learned
    if look == "first" and not learned:
        return
    model.attention.look = look or weights
    words, lengths = bed.captions(ROWS)
    cost = model(bed.features(2), words, lengths, shown=torch.rand(2, 2, 5, 3).double()).cost.sum()
    found = bed.gradient(model, cost)
    reached = {name for name, slope in found.items() if name.startswith("attention.") and bool(slope.any())}
    assert bool(reached) == (model.attention.look in ("learned", "first"))
    assert found["decoder.context_gates.weight"].any()


@pytest.mark.parametrize("look", ["random", "oracle", "shuffled"])
def test_a_control_without_its_input_says_what_it_needs(look):
    model = bed.captioner(bed.settings())
    model.attention.look = look
    with pytest.raises(ValueError, match=f"{look} attention needs "):
        model(bed.features(), torch.tensor([[[4, 2]]]), torch.tensor([[2]]))


def test_the_centre_without_a_grid_says_what_it_needs():
    with pytest.raises(ValueError, match="'centre' needs the grid's rows and columns"):
        build_captioner(bed.settings(attention={"weights": "centre"}), 4, 7)


@pytest.mark.parametrize("hard", [False, True])
def test_a_frozen_first_glimpse_is_the_plain_loop(hard):
    """Logits, weights and every gradient; attention's own have one."""
    model, a = bed.captioner(bed.settings(attention={"weights": "first"})), bed.features(2)
    words, lengths = bed.captions(ROWS)
    path = torch.tensor([2, 0]).view(2, 1, 1).expand(2, 2, 5) if hard else None
    u = bed.along(model, a, words, lengths, path)
    logits = u.spread(u.logits)
    cost = 0.0
    for n, c in itertools.product(range(2), range(2)):
        length = int(lengths[n, c])
        way = path[n, c].tolist() if hard else None
        truth, maps = oracles.plain_logits(model, a[n], ROWS[n][c], way, first=True)
        assert torch.allclose(logits[n, c, :length], truth, atol=1e-12)
        assert torch.allclose(u.weights[n, c, :length], maps, atol=1e-12)
        cost = cost - torch.log_softmax(truth, -1)[torch.arange(length), words[n, c, :length]].sum()
        if hard:
            cost = cost + maps[0, way[0]].log()
    ours = bed.gradient(model, bed.summed(u) + u.log_probs.sum())
    truth = bed.gradient(model, cost)
    for name in truth:
        assert torch.allclose(ours[name], truth[name], rtol=1e-10, atol=1e-12), name
    assert all(truth[f"attention.score.{name}.weight"].any() for name in ("key", "query"))


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != {"decoder": bed.ADAPTIVE}])
def test_a_frozen_first_glimpse_is_the_oracle_with_the_first_map(cell):
    """By another way through the code, for all cells: the oracle reads the first word's map at every word.

    A sentinel is compared with scores, which are those of the first word alone if its glimpse is frozen.
    """
    model, a = bed.captioner(bed.settings(**cell)), bed.features(2)
    words, lengths = bed.captions(ROWS)
    shown = model(a, words, lengths).weights[:, :, :1].expand(-1, -1, 5, -1)
    model.attention.look = "first"
    frozen = model(a, words, lengths)
    model.attention.look = "oracle"
    assert torch.allclose(frozen.logits, model(a, words, lengths, shown=shown).logits, atol=1e-12)
    assert torch.allclose(frozen.weights, shown * frozen.real[..., None], atol=1e-12)


def test_hard_attention_frozen_at_its_first_glimpse_draws_one_and_keeps_it():
    """All words have the glimpse that the first word's noise draws; only the first has a log-probability."""
    settings = bed.settings(attention={"weights": "first", "select": "sample"})
    model, (words, lengths) = bed.captioner(settings), bed.captions(ROWS)
    for step in range(20):
        noise = Noise.draw(settings, tuple(words.shape), 0, step)
        u = model(bed.features(2), words, lengths, Sample(noise.glimpse, noise.mixed))
        first = u.glimpses[..., :1]
        assert torch.equal(u.glimpses, torch.where(u.real, first.expand_as(u.glimpses), 0))
        log_prob = u.weights[:, :, 0].gather(-1, first).squeeze(-1).log()
        assert torch.allclose(u.log_probs[..., 0], log_prob) and not u.log_probs[..., 1:].any()


@pytest.mark.parametrize("cost", ["to-go", "sentence"])
def test_reinforce_of_a_frozen_glimpse_is_the_gradient_of_its_bound(cost):
    """L paths instead of L^T. The own-step cost would charge the glimpse with its first word alone."""
    settings = bed.settings(attention={"weights": "first", "select": "sample"}, estimator={"cost": cost})
    model, a, words = bed.captioner(settings), bed.features(), torch.tensor([[[4, 5, 6, 2]]])
    learner, ours, truth, whole = bed.learner(settings), 0.0, 0.0, 0.0
    for cell in range(bed.LOCATIONS):
        u = bed.along(model, a, words, bed.one_caption(words), torch.full((1, 1, 4), cell))
        probability = u.log_probs.sum().exp()
        ours = ours + probability.detach() * bed.loss(model, u, learner, Average.of([2.5]), words=1).total
        truth = truth + probability * bed.summed(u)
        whole = whole + probability
    truth = bed.gradient(model, truth)
    assert torch.isclose(whole, torch.ones(()).double())
    assert bed.distance(bed.gradient(model, ours), truth) < 1e-10
    assert float(truth["attention.score.key.weight"].abs().sum()) > 1e-3


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("decode", ["expected", "top-k", "argmax", "sample"])
def test_search_with_a_frozen_glimpse_scores_its_caption_as_a_teacher_forced_pass_does(cell, decode):
    attention = {"weights": "first", "select": "top-k", "top": 2}
    model, a = bed.captioner(bed.settings(attention=attention, **cell)), bed.features(3)
    noise = torch.rand((3, 6, 4), generator=torch.Generator().manual_seed(1)).transpose(1, 2)[:, :1].expand(3, 4, 6)
    found = beam_search(model, a, decoding(decode, 2, noise), beam=4, max_length=6)
    bed.search_agrees(model, a, decode, noise, found)
    for weights, length in zip(found.weights, found.lengths.tolist(), strict=True):
        assert torch.allclose(weights[:length], weights[:1].expand(length, -1))


@pytest.mark.parametrize("words_drawn", [False, True])
def test_search_gives_a_control_the_input_of_each_word(words_drawn):
    """A teacher-forced pass over its caption with the same input has the same weights and cost."""
    model, a = bed.captioner(bed.settings()), bed.features(3)
    model.attention.look = "random"
    shown = torch.rand((3, 6, 4, 3), generator=torch.Generator().manual_seed(1))[:, :, 0][:, None].expand(3, 4, 6, 3)
    if words_drawn:
        noise = torch.rand((3, 6), generator=torch.Generator().manual_seed(2))
        found = ancestral(model, a, Expected(), noise, max_length=6, shown=shown)
    else:
        found = beam_search(model, a, Expected(), beam=4, max_length=6, shown=shown)
    for n in range(3):
        length = int(found.lengths[n])
        words = found.words[n : n + 1, None, :length]
        u = model(a[n : n + 1], words, torch.tensor([[length]]), shown=shown[n : n + 1, :1, :length])
        assert torch.allclose(u.weights[0, 0], found.weights[n, :length], atol=1e-6)
        if not words_drawn:
            assert torch.isclose(-u.cost.mean(), found.score[n].double(), atol=1e-6)


SHARES = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 0.25, 0.25]], [[0.0] * 3, [0.0, 0.0, 0.2], [0.0] * 3]])


@pytest.mark.parametrize("sparse", [False, True])
def test_supervised_attention_by_a_loop(sparse):
    weights = sparsemax(2 * drawn(2, 3, 3)) if sparse else softmax(drawn(2, 3, 3))
    by_hand = 0.0
    for n, t in itertools.product(range(2), range(3)):
        inside = float(SHARES[n, t].sum())
        for i in range(3):
            if inside and SHARES[n, t, i]:
                alpha = float(weights[n, t, i])
                alpha = 0.99 * alpha + 0.01 / 3 if sparse else alpha
                by_hand -= float(SHARES[n, t, i]) / inside * math.log(alpha)
    assert by_hand > 0 and float(supervised(weights, SHARES.double(), sparse)) == pytest.approx(by_hand)


def test_supervised_softmax_has_the_gradient_of_a_cross_entropy():
    """alpha - g for the scores of each word with boxes, however wrong alpha is; torch's own cross-entropy beside it."""
    scores = (15 * drawn(2, 3, 3)).requires_grad_()
    target = SHARES.double() / SHARES.double().sum(-1, keepdim=True).clamp(min=1e-12)
    (slope,) = torch.autograd.grad(supervised(softmax(scores), SHARES.double()), scores)
    boxed = SHARES.sum(-1, keepdim=True) > 0
    assert torch.allclose(slope, torch.where(boxed, softmax(scores) - target, 0.0), atol=1e-9)
    truth = F.cross_entropy(scores[boxed[..., 0]], target[boxed[..., 0]], reduction="sum")
    assert torch.allclose(supervised(softmax(scores), SHARES.double()), truth)


@pytest.mark.parametrize("simplex", [sparsemax, entmax])
def test_supervised_sparse_maps_have_a_cost_and_a_gradient_that_are_finite(simplex):
    """A box where alpha is 0 costs log 100 L, without a gradient. If alpha reaches half of it, that half has one."""
    scores = torch.tensor([3.0, 0.0, 2.9, 0.0], requires_grad=True)
    missed, half = torch.tensor([0.0, 1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 1.0, 0.0])
    weights = simplex(scores)
    assert (weights == 0).sum() == 2
    cost = supervised(weights, missed, sparse=True)
    assert float(cost.detach()) == pytest.approx(math.log(400))
    assert not torch.autograd.grad(cost, scores, retain_graph=True)[0].any()
    (slope,) = torch.autograd.grad(supervised(weights, half, sparse=True), scores)
    assert slope.isfinite().all() and slope[2] < 0 < slope[0]


def test_the_supervised_term_is_lambda_times_the_mean_per_word_and_over_samples():
    plain = bed.settings(attention={"select": "sample"}, estimator={"samples": 2})
    taught = bed.settings(attention={"select": "sample"}, estimator={"samples": 2}, objective={"supervised": 0.5})
    model, (words, lengths) = bed.captioner(plain), bed.captions(ROWS)
    shares = torch.zeros(2, 2, 5, 3).double()
    shares[0, 0, 1], shares[0, 1, 0], shares[1, 1, 1] = (
        torch.tensor(s).double() for s in SHARES[0].roll(1, 0).tolist()
    )
    path = torch.randint(3, (2, 4, 5), generator=torch.Generator().manual_seed(0))
    u = bed.along(model, bed.features(2), words, lengths, path, 2)
    without = bed.loss(model, u, bed.learner(plain), hard=False)
    loss = bed.loss(model, u, bed.learner(taught), hard=False, shares=shares)
    assert "supervised" not in without.terms
    by_hand = [supervised(u.weights[:, k::2], shares) for k in range(2)]
    assert not torch.isclose(*by_hand), "or the order of samples would not matter"
    assert torch.isclose(loss.terms["supervised"], 0.5 * sum(by_hand) / 2 / int(lengths.sum()))
    assert torch.isclose(loss.total, without.total + loss.terms["supervised"])


@pytest.mark.parametrize(
    "attention",
    [{}, {"select": "top-k", "top": 2}, {"simplex": "sparsemax"}, {"simplex": "entmax"}, {"weights": "first"},
     {"select": "sample"}, {"score": "dot", "heads": 2, "width": 4}, {"select": "sample", "weights": "first"}],
)  # fmt: skip
def test_supervision_goes_with_every_learned_attention(attention):
    """A small step against the gradient of its term moves weight into the boxes."""
    settings = bed.settings(attention=attention, objective={"supervised": 1.0})
    model, (words, lengths) = bed.captioner(settings), bed.captions(ROWS)
    with torch.no_grad():
        for parameter in model.attention.parameters():
            parameter *= 0.1  # so that sparse maps leave no location out
    shares = torch.zeros(2, 2, 5, 3).double()
    shares[:, :, :2, 1] = 1.0

    learner = bed.learner(settings)

    def run():
        noise = Noise.draw(settings, tuple(words.shape), 0, 0)
        return learner.take(model, Given(bed.features(2), words, lengths), Noise(glimpse=noise.glimpse))

    before = run()
    term = bed.loss(model, before, learner, Average.of([1.0]), shares=shares).terms["supervised"]
    slopes = bed.gradient(model, term)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter -= 0.05 * slopes[name]
    boxed = (shares * before.real[..., None]).bool()
    assert run().weights[boxed].sum() > before.weights[boxed].sum()


def test_each_head_keeps_its_own_first_glimpse():
    """The first word's noise draws a location per head, and all words read these, as along a path that stands still."""
    settings = bed.settings(attention={"weights": "first", "select": "sample", "score": "dot", "width": 4, "heads": 2})
    model, a, (words, lengths) = bed.captioner(settings), bed.features(2), bed.captions(ROWS)
    noise = Noise.draw(settings, tuple(words.shape), 0, 0).glimpse
    u = model(a, words, lengths, Sample(noise))
    still = model(a, words, lengths, Sample(noise[:, :, :1].expand_as(noise)))
    assert torch.equal(u.logits, still.logits) and not u.log_probs[..., 1:].any()
    assert torch.equal(u.glimpses, torch.where(u.real, u.glimpses[..., :1].expand_as(u.glimpses), 0))
