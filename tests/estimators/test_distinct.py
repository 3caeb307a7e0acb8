"""Exact estimators and those of different paths, against enumeration: of paths, or of the glimpses of a word."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from attend.config import Estimator
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import Average
from attend.estimators.different_paths import Tree, best_and_rest, distinct
from attend.estimators.distinct import first_share, second_share, sum_and_sample, unordered_set
from attend.estimators.noise import Noise
from attend.estimators.paths import Charges, Paths
from attend.estimators.take import Given, paths_of
from attend.training.objective import loss_of
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LENGTHS = torch.tensor([[2]])
TWO, THREE = bed.features(locations=2), bed.features()
NONE = Noise(glimpse=torch.zeros(1, 1, 2))


@pytest.fixture()
def model(feed):
    return bed.captioner(bed.hard(feed))


def of_bound(model, a, words=WORDS):
    """G_J."""
    return bed.gradient(model, bed.bound(model, a, words))


def of_marginal(model, a, words=WORDS):
    """-log p(words) and G_M."""
    value = bed.marginal(model, a, words)
    return value, bed.gradient(model, value)


def same(found, truth):
    for name in truth:
        assert bed.distance(found, truth, name) < 1e-10, name


def mean_of(model, ways, rule, a=THREE, words=WORDS):
    """sum over ways (probability, path (1, K, T)) of the gradient of the loss as it is trained."""
    learner, total, whole = bed.learner(rule), 0.0, 0.0
    for probability, path in ways:
        u = bed.along(model, a, words, bed.one_caption(words), path, path.shape[1])
        total = total + probability * bed.loss(model, u, learner, words=1).total
        whole += float(probability)
    assert whole == pytest.approx(1)
    return bed.gradient(model, total)


def chances(model, a, words=WORDS) -> dict[tuple[int, ...], float]:
    """p(path) of every path."""
    lengths = bed.one_caption(words)
    return {
        tuple(path.flatten().tolist()): float(bed.along(model, a, words, lengths, path).log_probs.detach().sum().exp())
        for path in bed.paths(words.shape[-1], a.shape[1])
    }


def of_words(model, a, words=WORDS) -> list[dict[int, float]]:
    """alpha of every word, if words are apart."""
    weights = bed.along(model, a, words, bed.one_caption(words)).weights[0, 0]
    return [dict(enumerate(alpha.tolist())) for alpha in weights]


def without_replacement(p: dict, several: int):
    """(probability, members) of every ordered draw."""
    for drawn in itertools.permutations(p, several):
        probability, left = 1.0, 1.0
        for one in drawn:
            probability, left = probability * p[one] / left, left - p[one]
        yield probability, drawn


def draws(model, feed, a, several):
    """(probability, paths (1, K, T)): whole paths without replacement, or glimpses of each word."""
    if feed == "glimpse":
        for probability, members in without_replacement(chances(model, a), several):
            yield probability, torch.tensor(members)[None]
        return
    for combined in itertools.product(*(list(without_replacement(p, several)) for p in of_words(model, a))):
        members = [drawn for _, drawn in combined]
        yield math.prod(probability for probability, _ in combined), torch.tensor(members).T[None]


def with_rest(model, feed, a, several):
    """(probability, paths): the K - 1 likeliest, and each of the others once."""

    def split(p):
        best = sorted(p, key=p.get, reverse=True)[: several - 1]
        rest = {one: value for one, value in p.items() if one not in best}
        if not rest:
            return [(1.0, (*best, best[0]))]
        return [(value / sum(rest.values()), (*best, one)) for one, value in rest.items()]

    if feed == "glimpse":
        return [(probability, torch.tensor(members)[None]) for probability, members in split(chances(model, a))]
    found = []
    for combined in itertools.product(*(split(p) for p in of_words(model, a))):
        members = [one for _, one in combined]
        found.append((math.prod(probability for probability, _ in combined), torch.tensor(members).T[None]))
    return found


def exact(model, rule, a=THREE, words=WORDS, lengths=LENGTHS, noise=NONE):
    """The loss as it is trained, summed over words."""
    learner = bed.learner(rule)
    return bed.loss(model, learner.take(model, Given(a, words, lengths), noise), learner, words=1)


@bed.either_feed
def test_enumeration_is_the_gradient_of_the_bound(model, feed):
    loss = exact(model, bed.hard(feed, name="enumeration"))
    same(bed.gradient(model, loss.total), of_bound(model, THREE))
    assert torch.isclose(loss.terms["nll"], bed.bound(model, THREE, WORDS))


@bed.either_feed
def test_marginal_is_the_gradient_of_the_marginal(model, feed):
    loss = exact(model, bed.hard(feed, name="marginal"))
    value, truth = of_marginal(model, THREE)
    same(bed.gradient(model, loss.total), truth)
    assert torch.isclose(loss.terms["nll"], value)


@bed.either_feed
@pytest.mark.parametrize("name", ["enumeration", "marginal"])
def test_captions_of_other_lengths_are_enumerated_as_if_alone(model, feed, name):
    """Paths that differ only in padding are one path."""
    rule, a = bed.hard(feed, name=name), bed.features(2, locations=2)
    rows = [[[4, 5, 2], [5, 2]], [[6, 4, 2], [2]]]
    together = exact(model, rule, a, *bed.captions(rows), Noise(glimpse=torch.zeros(2, 2, 3)))
    truth, value = 0.0, 0.0
    for n, c in itertools.product(range(2), range(2)):
        alone = exact(model, rule, a[n : n + 1], *bed.captions([[rows[n][c]]]))
        truth, value = truth + alone.total, value + alone.terms["nll"]
    assert torch.isclose(together.terms["nll"], value)
    assert bed.distance(bed.gradient(model, together.total), bed.gradient(model, truth)) < 1e-10


@bed.either_feed
@pytest.mark.parametrize("several", [2, 3])
def test_sum_and_sample_is_the_gradient_of_the_bound(model, feed, several):
    rule = bed.hard(feed, name="sum-and-sample", samples=several)
    same(mean_of(model, with_rest(model, feed, THREE, several), rule), of_bound(model, THREE))


@bed.either_feed
def test_sum_and_sample_of_all_there_are_has_no_variance(model, feed):
    """The sampled path has no weight."""
    several = 1 + (3**2 if feed == "glimpse" else 3)
    rule = bed.hard(feed, name="sum-and-sample", samples=several)
    ((_, path),) = with_rest(model, feed, THREE, several)
    for last in range(3):
        path[:, -1] = last
        same(mean_of(model, [(1.0, path)], rule), of_bound(model, THREE))


@bed.either_feed
@pytest.mark.parametrize("several", [1, 2, 3])
def test_unordered_set_is_the_gradient_of_the_bound(model, feed, several):
    rule = bed.hard(feed, name="unordered-set", samples=several)
    a = TWO if several == 2 and feed == "expected" else THREE
    if feed == "glimpse" and several == 3:
        a = TWO
    same(mean_of(model, draws(model, feed, a, several), rule, a), of_bound(model, a))


@bed.either_feed
def test_the_unordered_set_of_all_there_are_is_enumeration(model, feed):
    several = 2**2 if feed == "glimpse" else 2
    rule = bed.hard(feed, name="unordered-set", samples=several)
    _, path = next(iter(draws(model, feed, TWO, several)))
    same(mean_of(model, [(1.0, path)], rule, TWO), of_bound(model, TWO))


def wrong(estimator, change):
    """The estimator with one thing changed in its charges."""
    right = ESTIMATORS[estimator].charge
    return replace(ESTIMATORS[estimator], charge=lambda paths, *rest: change(paths, right(paths, *rest)))


def forgotten_mass(paths, found):
    """The sampled path stands for itself alone."""
    share = torch.cat([found.share[..., :-1, :], paths.log_prob.exp()[..., -1:, :]], -2)
    return Charges(share, share * (paths.cost - paths.cost[..., :-1, :].mean(-2, keepdim=True)))


def by_probability(paths, found):
    """p(s) in place of p(s) R(S, s), normalised over the set."""
    share = torch.softmax(paths.log_prob, -2)
    return Charges(share, share * paths.cost)


def others_alone(paths, found):
    """A baseline that leaves out the path itself, as if it were drawn from what is left."""
    p = paths.log_prob.exp().transpose(-1, -2)
    ratio = second_share(p.log()) / p * (1 - torch.eye(p.shape[-1]))
    level = (p[..., None, :] * ratio * paths.cost.transpose(-1, -2)[..., None, :]).sum(-1) / (1 - p)
    return Charges(found.share, found.share * (paths.cost - level.transpose(-1, -2)))


@bed.either_feed
@pytest.mark.parametrize(
    ("estimator", "change"),
    [("sum-and-sample", forgotten_mass), ("unordered-set", by_probability), ("unordered-set", others_alone)],
)
def test_wrong_kinds_are_caught(model, feed, estimator, change, monkeypatch):
    rule, truth = bed.hard(feed, name=estimator, samples=2), of_bound(model, THREE)
    ways = list((draws if estimator == "unordered-set" else with_rest)(model, feed, THREE, 2))
    assert bed.distance(mean_of(model, ways, rule), truth) < 1e-10
    monkeypatch.setitem(ESTIMATORS, estimator, wrong(estimator, change))
    assert bed.distance(mean_of(model, ways, rule), truth, "attention") > 0.01


def test_the_ratios_of_a_set_are_those_of_its_ordered_draws():
    """R(S, s) and R_k(S, j) from their definitions, over all orders; and sum p R = 1."""
    p = dict(enumerate([0.4, 0.3, 0.2, 0.1]))
    members = (0, 1, 3)

    def probability(members, domain):
        """That the first draws without replacement from the domain are just these members."""
        mass = sum(p[i] for i in domain)
        total = 0.0
        for order in itertools.permutations(members):
            term, left = 1.0, mass
            for one in order:
                term, left = term * p[one] / left, left - p[one]
            total += term
        return total

    def less(some, *ones):
        return [one for one in some if one not in ones]

    given = torch.tensor([p[i] for i in members], dtype=torch.float64)
    first = [probability(less(members, k), less(p, k)) / probability(members, p) for k in members]
    share = first_share(given.log())
    assert (share / given).tolist() == pytest.approx(first)
    assert float(share.sum()) == pytest.approx(1)
    for row, k in zip((second_share(given.log()) / given).tolist(), members, strict=True):
        whole = probability(less(members, k), less(p, k))
        truth = [1.0 if j == k else probability(less(members, k, j), less(p, k, j)) / whole for j in members]
        assert row == pytest.approx(truth)


@pytest.mark.parametrize("p", [[0.5, 0.5], [1.0, 1e-38], [1.0, 1e-290, 1e-290], [1.0, *[1e-290] * 7]])
def test_shares_stay_finite_if_the_set_holds_all_the_mass(p):
    log_p = torch.tensor(p, dtype=torch.float64).log()
    assert torch.isfinite(second_share(log_p)).all()
    assert float(first_share(log_p).sum()) == pytest.approx(1)


@pytest.mark.parametrize("log_p", [-200.0, -2000.0])
@pytest.mark.parametrize("members", [2, 5, 8])
def test_shares_of_paths_as_long_as_a_caption(log_p, members):
    """Equally likely paths, their probability too small for a number: each has a share of 1/K."""
    given = torch.full((members,), log_p, dtype=torch.float64)
    assert first_share(given).tolist() == pytest.approx([1 / members] * members)
    others = second_share(given).masked_fill(torch.eye(members, dtype=torch.bool), 1 / (members - 1))
    assert others.flatten().tolist() == pytest.approx([1 / (members - 1)] * members**2)  # and p_k of k itself, nothing


@pytest.mark.parametrize("function", [sum_and_sample, unordered_set])
def test_charges_are_finite_for_paths_as_long_as_a_caption(function):
    """In fp32, whose smallest number is above the probability of 28 words at 49 places."""
    costs = torch.tensor([[2.0], [3.0], [4.0]]).repeat(1, 40) / 40
    paths = Paths(
        costs=costs, log_probs=torch.full((3, 40), -5.0), real=torch.ones(3, 40, dtype=torch.bool),
        sampled=torch.ones(3, 40, dtype=torch.bool),
    )  # fmt: skip
    charges = function(paths, Estimator(), Average())
    assert torch.isfinite(charges.charge).all() and float(charges.share.sum()) == pytest.approx(1)
    first = float(charges.charge[0, 0])
    assert first == pytest.approx(0 if function is sum_and_sample else (2.0 - 3.5) / 3)


# The paths


def batched(copies: int, seed: int = 0, words=WORDS, decoder=None):
    """A model that is fed glimpses, the tree of many copies of one caption, and a generator for their noise."""
    model = bed.captioner(bed.settings(attention={"select": "sample"}, decoder=decoder or {}))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, copies, words.shape[-1], generator=generator, dtype=torch.float64)
    given = Given(TWO, words.expand(1, copies, -1), torch.full((1, copies), words.shape[-1]))
    tree = Tree(model, given, Noise(glimpse=noise))
    return model, tree, generator


def z_test(counts: dict, truth: dict, total: int, most: float = 4.0) -> None:
    for one, p in truth.items():
        assert abs(counts.get(one, 0) - total * p) < most * math.sqrt(total * p * (1 - p)) + 1e-9, one


@pytest.mark.parametrize("decoder", [{}, *bed.BLIND.values(), bed.SHARED])
def test_a_beam_as_wide_as_the_tree_finds_all_paths(decoder):
    words = torch.tensor([[[5, 4, 2]]])
    model, tree, _ = batched(2, words=words, decoder=decoder)
    paths, log_p = tree.beam(8)
    truth = chances(model, TWO, words)
    assert {tuple(path) for path in paths[0, 0].tolist()} == truth.keys()
    for path, value in zip(paths[0, 0].tolist(), log_p[0, 0].tolist(), strict=True):
        assert math.exp(value) == pytest.approx(truth[tuple(path)])


def test_a_stochastic_beam_draws_without_replacement():
    copies, several = 20_000, 2
    model, tree, generator = batched(copies)
    noise = torch.rand(1, copies * several, 2, 2, generator=generator, dtype=torch.float64)
    paths, _ = tree.beam(several, noise)
    truth: dict = {}
    for probability, members in without_replacement(chances(model, TWO), several):
        key = frozenset(members)
        truth[key] = truth.get(key, 0.0) + probability
    counts: dict = {}
    for drawn in paths[0].tolist():
        key = frozenset(map(tuple, drawn))
        counts[key] = counts.get(key, 0) + 1
    assert all(len(key) == several for key in counts)
    z_test(counts, truth, copies)


def test_another_path_is_drawn_from_all_but_those_that_are_summed():
    copies = 20_000
    model, tree, _ = batched(copies, seed=1)
    paths, log_p = tree.beam(2)
    generator = torch.Generator().manual_seed(5)
    noise = torch.rand(1, copies, 2, generator=generator, dtype=torch.float64)
    another = tree.another(paths, log_p, noise)
    summed = {tuple(path) for path in paths[0, 0].tolist()}
    left = {path: p for path, p in chances(model, TWO).items() if path not in summed}
    truth = {path: p / sum(left.values()) for path, p in left.items()}
    counts: dict = {}
    for path in another[0].tolist():
        counts[tuple(path)] = counts.get(tuple(path), 0) + 1
    assert counts.keys() <= truth.keys()
    z_test(counts, truth, copies)


def test_glimpses_of_a_word_are_drawn_without_replacement_and_the_rest_from_the_rest():
    copies = 20_000
    generator = torch.Generator().manual_seed(2)
    alpha = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    weights = alpha.expand(copies, -1)
    drawn = distinct(weights, 2, torch.rand(copies, 4, generator=generator, dtype=torch.float64))
    truth: dict = {}
    for probability, members in without_replacement(dict(enumerate(alpha.tolist())), 2):
        truth[members] = truth.get(members, 0.0) + probability
    counts: dict = {}
    for one in drawn.tolist():
        counts[tuple(one)] = counts.get(tuple(one), 0) + 1
    z_test(counts, truth, copies)
    taken = best_and_rest(weights, 3, torch.rand(copies, generator=generator, dtype=torch.float64))
    assert (taken[:, :2] == torch.tensor([0, 1])).all()
    rest = {i: int((taken[:, 2] == i).sum()) for i in range(4)}
    z_test(rest, {0: 0.0, 1: 0.0, 2: 0.75, 3: 0.25}, copies)


def test_a_caption_that_has_ended_goes_on_in_one_way():
    model = bed.captioner(bed.hard())
    words, lengths = bed.captions([[[4, 5, 2], [5, 2], [2]]])
    tree = Tree(model, Given(TWO, words, lengths), Noise(glimpse=torch.rand(1, 3, 3)))
    places = torch.rand(1, 6, 3, 2, dtype=torch.float64)
    for paths, _ in (tree.beam(2), tree.beam(2, places)):
        for c, length in enumerate([3, 2, 1]):
            assert len({tuple(path) for path in paths[0, c].tolist()}) == 2
            assert not paths[0, c, :, length:].any()


@bed.either_feed
@pytest.mark.parametrize("name", ["sum-and-sample", "unordered-set"])
def test_a_training_step_takes_different_glimpses(model, feed, name):
    """End to end, with dropped words, from the noise of a step: K rows a caption, no path twice."""
    rule = bed.settings(
        attention={"select": "sample", "feed": feed},
        estimator={"name": name, "samples": 3, "entropy": 0.0},
        decoder={"embedding": 4, "hidden": 5, "dropout": 0.3, "dropout_words": 0.3},
    )
    captioner, learner, a = bed.captioner(rule).float(), bed.learner(rule), bed.features(2).float()
    words, lengths = bed.captions([[[4, 5, 2], [5, 2]], [[6, 4, 2], [5, 5, 2]]])
    noise = Noise.draw(rule, tuple(words.shape), 0, 0, 3)
    u, loss = loss_of(captioner, a, bed.batch(a, words, lengths), noise, learner, learner.start())
    assert u.samples == 3 and u.real.shape[1] == 6
    rows = u.glimpses.unflatten(1, (2, 3))
    for n, c in itertools.product(range(2), range(2)):
        length = int(lengths[n, c])
        seen = rows[n, c, : 3 if name == "unordered-set" else 2, :length]
        if feed == "glimpse":
            assert len({tuple(path) for path in seen.tolist()}) == len(seen)
        else:
            assert all(len(set(word)) == len(seen) for word in seen.T.tolist())
    loss.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in captioner.parameters())


def test_paths_of_a_real_size_are_refused():
    assert paths_of(2, torch.zeros(2, 3, 5)).shape == (2, 3 * 32, 5)
    for name, feed, samples, words in [
        ("enumeration", "glimpse", None, r"a caption of 12 words over 49 locations has 49\^12 paths, .* set attention"),
        ("marginal", "glimpse", None, "no more than 4096 are enumerated"),
    ]:
        with pytest.raises(ValueError, match=words):
            bed.hard(feed, name=name, samples=samples).check_fits(49, 12)
    bed.hard("expected", name="marginal").check_fits(49, 12)
    bed.hard("glimpse", name="unordered-set").check_fits(49, 12)
    with pytest.raises(ValueError, match=r"estimator.samples is 5, .* has 4, the locations of the encoder's grid"):
        bed.hard("expected", name="unordered-set").check_fits(4, 12)
    bed.hard("expected", name="sum-and-sample").check_fits(4, 12)
