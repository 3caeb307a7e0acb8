"""Generated captions against references: BLEU, METEOR, ROUGE-L and CIDEr-D behind one function.

The numbers are pycocoevalcap's, on one tokenisation of both sides. Beside the corpus scores stand one value
an image and the statistics that a corpus score is a function of, so that resampling images needs neither text
nor Java. All scores are fractions. Lists have one entry an image, in the order of the hypotheses.
"""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from attend.config.section import check_caption
from attend.documents import Count, Positive
from attend.metrics.java import JavaError, find_java, meteor, ptb_tokenise, pycocoevalcap
from attend.runs.files import read_json, write_text

METRICS = ("bleu", "meteor", "rouge_l", "cider")
TOKENISERS = ("ptb", "simple")
ORDERS = (1, 2, 3, 4)
BLEU_STATISTICS = (
    *(f"bleu_{kind}{n}" for kind in ("match", "guess") for n in ORDERS),
    "bleu_length",
    "bleu_reference_length",
)


@dataclass(frozen=True, kw_only=True)
class CaptionScores:
    """What ``score_captions`` found.

    ``corpus``: bleu1..bleu4; the same without brevity penalty as bleu1_free..bleu4_free; length_ratio,
    hypotheses to closest references; meteor, rouge_l, cider; and cider_frozen where frozen frequencies were
    given.
    ``images``: the scores again, one an image, but for penalty-free BLEU and the ratio; BLEU_STATISTICS in
    tokens and n-grams, for ``corpus_bleu``; meteor_statistics as METEOR's program writes them, for
    ``meteor_rows``.
    ``missing``: metric -> why it could not be computed.
    ``notes``: tokeniser, ``ptb`` or ``simple``; tokeniser_fallback, why it is not the one asked for; java,
    the program used; cider_frequencies, ``references`` or the name of the frozen set, which is then
    cider_frozen's; cider_tokens, a warning where the frozen set was counted on other tokens.
    """

    corpus: dict[str, float]
    images: dict[str, list]
    missing: dict[str, str]
    notes: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class _Frequencies:
    """A file of document frequencies: n-grams are text, with a space between tokens."""

    name: str
    images: Positive
    counts: dict[str, Count]
    tokeniser: str = "simple"


@dataclass(frozen=True, kw_only=True)
class DocumentFrequencies:
    """In how many of ``images`` images each n-gram, n = 1..4, occurs in some caption: CIDEr's weights.

    ``counts`` leaves out n-grams of a single image: CIDEr weighs them as it weighs those it never saw.
    ``name`` goes into the result; ``tokeniser`` says which tokens were counted. Frozen over the training
    captions, they make CIDEr comparable between sets, and a mean over images that can be resampled.
    """

    name: str
    images: int
    counts: dict[tuple[str, ...], int]
    tokeniser: str = "simple"

    @classmethod
    def of(cls, images: Iterable[Iterable[Sequence[str]]], *, name: str, tokeniser: str = "simple") -> Self:
        """Count over images; each is its captions, and a caption its tokens. Raises ValueError on none."""
        number, counts = 0, Counter()
        for captions in images:
            number += 1
            starts = ((tokens, n, i) for tokens in captions for n in ORDERS for i in range(len(tokens) - n + 1))
            counts.update({tuple(tokens[i : i + n]) for tokens, n, i in starts})
        if not number:
            raise ValueError(f"document frequencies {name!r} need at least one image")
        counts = {ngram: count for ngram, count in counts.items() if count > 1}
        return cls(name=name, images=number, counts=counts, tokeniser=tokeniser)

    def save(self, path: Path) -> None:
        """Write JSON, whole or not at all."""
        counts = {" ".join(ngram): count for ngram, count in sorted(self.counts.items())}
        record = {"name": self.name, "images": self.images, "tokeniser": self.tokeniser, "counts": counts}
        write_text(Path(path), json.dumps(record, ensure_ascii=False))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read back what ``save`` wrote. Raises ValueError if the file is something else."""
        remedy = "remove it, and they are counted again"
        stored = read_json(Path(path), _Frequencies, "holds no document frequencies", remedy)
        counts = {tuple(ngram.split(" ")): count for ngram, count in stored.counts.items()}
        return cls(name=stored.name, images=stored.images, tokeniser=stored.tokeniser, counts=counts)


def score_captions(
    hypotheses: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    metrics: Sequence[str] = METRICS,
    frequencies: DocumentFrequencies | None = None,
    tokeniser: str = "ptb",
    time_limit: float = 300.0,
) -> CaptionScores:
    """Score one caption an image, as written, against its references, as written.

    ``tokeniser="simple"`` without METEOR needs no Java. Where Java is missing, dies, or one of its two
    programs takes longer than ``time_limit`` seconds, METEOR is missing and simple tokens stand in for
    PTB's: both are recorded. An empty hypothesis scores zero. ``cider`` counts n-grams over the references
    of the very images scored, so it is zero on one image and not comparable between sets; ``cider_frozen``
    uses the frequencies given.

    Raises ValueError if the images of both sides differ, there are none, one has no reference, or a
    metric, a tokeniser or the time limit is impossible; ImportError if pycocoevalcap is not installed.
    """
    _check(hypotheses, references, metrics, tokeniser, time_limit)
    corpus, images, missing, notes = {}, {}, {}, {}
    hyps, refs = _tokenised(hypotheses, references, tokeniser, time_limit, notes)
    if "bleu" in metrics:
        statistics = bleu_statistics(hyps, refs)
        bleu = corpus_bleu(statistics)
        images |= {name: values.tolist() for name, values in statistics.items()}
        images |= {f"bleu{n}": bleu[f"bleu{n}"].tolist() for n in ORDERS}
        summed = corpus_bleu({name: values.sum() for name, values in statistics.items()})
        corpus |= {name: float(value) for name, value in summed.items()}
    if "meteor" in metrics:
        try:
            notes["java"] = find_java()
            scored = meteor(hyps, refs, time_limit=time_limit)
            corpus["meteor"], images["meteor"], images["meteor_statistics"] = scored
        except JavaError as error:
            missing["meteor"] = str(error)
    if "rouge_l" in metrics:
        images["rouge_l"] = _rouge_l(hyps, refs)
        corpus["rouge_l"] = float(np.mean(images["rouge_l"]))
    if "cider" in metrics:
        own = DocumentFrequencies.of(([r.split() for r in group] for group in refs), name="references")
        used = {"cider": own} | ({"cider_frozen": frequencies} if frequencies else {})
        for name, counted in used.items():
            images[name] = cider_d(hyps, refs, counted)
            corpus[name] = float(np.mean(images[name]))
            notes["cider_frequencies"] = counted.name
        if frequencies and frequencies.tokeniser != notes["tokeniser"]:
            tokens = f"{frequencies.tokeniser} tokens, captions are scored on {notes['tokeniser']} tokens"
            notes["cider_tokens"] = f"the frozen frequencies were counted on {tokens}"
    return CaptionScores(corpus=corpus, images=images, missing=missing, notes=notes)


def _check(hypotheses, references, metrics, tokeniser, time_limit) -> None:
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ValueError(f"unknown metric {unknown[0]!r}; known are {', '.join(METRICS)}")
    if tokeniser not in TOKENISERS:
        raise ValueError(f"tokeniser is {tokeniser!r}; known are {', '.join(TOKENISERS)}")
    if not time_limit > 0:
        raise ValueError(f"time_limit is {time_limit!r}; it is a positive number of seconds")
    if not hypotheses:
        raise ValueError("there are no captions to score")
    if apart := sorted(map(str, hypotheses.keys() ^ references.keys())):
        raise ValueError(f"{len(apart)} images have a hypothesis or references, not both: {apart[0]!r} ...")
    for name, group in references.items():
        if isinstance(group, str) or not group:
            raise ValueError(f"image {name!r} needs a list of at least one reference, not {group!r}")


def tokenise(captions: Iterable[str], *, tokeniser: str = "ptb", time_limit: float = 300.0) -> list[str]:
    """Captions as written -> their tokens in lower case, joined by single spaces, without punctuation.

    ``ptb`` is the tokeniser of coco-caption, and raises JavaError if Java fails. ``simple`` keeps
    Unicode words and numbers, and parts the English endings (n't, 's) from their word as the Penn Treebank
    does.
    """
    captions = list(captions)
    for caption in captions:
        check_caption(caption)
    # METEOR's protocol is a line a caption, parted by |||.
    cleaned = [" ".join(caption.replace("|||", " ").split()) for caption in captions]
    if tokeniser == "simple":
        return [_simple(caption) for caption in cleaned]
    return ptb_tokenise(cleaned, time_limit=time_limit)


_ENDING = re.compile(r"(n't|'(?:s|m|d|re|ve|ll))(?=\s|$)")


def _simple(caption: str) -> str:
    text = unicodedata.normalize("NFC", caption.lower().replace("’", "'"))
    # Letters, the marks they carry, and numbers.
    text = "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    words = _ENDING.sub(r" \1", text).split()
    return " ".join(filter(None, (w if _ENDING.fullmatch(w) else w.strip("'") for w in words)))


_REFERENCES: dict[tuple[str, str], str] = {}
"""Tokeniser and caption -> tokens, of the references met last: a line's tokens do not depend on the lines around it."""


def _tokenised(hypotheses, references, tokeniser, time_limit, notes) -> tuple[list[str], list[list[str]]]:
    """Both sides in one call, in the order of the hypotheses; says in ``notes`` which tokeniser it was.

    A reference is tokenised once in a process, however often it is scored against.
    """
    captions = [caption for name in hypotheses for caption in references[name]]
    notes["tokeniser"] = tokeniser
    try:
        if tokeniser == "ptb":
            notes["java"] = find_java()
        tokens = _with_references(captions, list(hypotheses.values()), tokeniser, time_limit)
    except JavaError as error:
        notes |= {"tokeniser": "simple", "tokeniser_fallback": str(error)}
        tokens = _with_references(captions, list(hypotheses.values()), "simple", time_limit)
    refs = [[_REFERENCES[notes["tokeniser"], caption] for caption in references[name]] for name in hypotheses]
    return tokens, refs


def _with_references(captions: list[str], said: list[str], tokeniser: str, time_limit: float) -> list[str]:
    """The tokens of what was said; those of the references are in ``_REFERENCES`` afterwards."""
    if len(_REFERENCES) > 2**18:
        _REFERENCES.clear()
    new = list(dict.fromkeys(caption for caption in captions if (tokeniser, caption) not in _REFERENCES))
    tokens = tokenise(new + said, tokeniser=tokeniser, time_limit=time_limit)
    _REFERENCES.update(((tokeniser, caption), text) for caption, text in zip(new, tokens, strict=False))
    return tokens[len(new) :]


def corpus_bleu(statistics: Mapping[str, float | np.ndarray]) -> dict[str, float | np.ndarray]:
    """BLEU-1..4 with and without brevity penalty, and the length ratio, from sums of BLEU_STATISTICS.

        free_n = (prod_{k <= n} match_k / guess_k)^(1/n)
        bleu_n = free_n min(1, exp(1 - reference_length / length))

    Arrays give one value an entry: rows of resampled sums, or single images. Zero where nothing was said.
    Source: Papineni et al. (2002); the small constants that keep a quotient finite are pycocoevalcap's.
    """
    small, tiny = 1e-9, 1e-15
    length, closest = (np.asarray(statistics[name], float) for name in BLEU_STATISTICS[-2:])
    ratio = (length + tiny) / (closest + small)
    penalty = np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1.0)
    bleu, product = {}, np.where(length > 0, 1.0, 0.0)
    for n in ORDERS:
        match, guess = (np.asarray(statistics[f"bleu_{kind}{n}"], float) for kind in ("match", "guess"))
        product = product * ((match + tiny) / (guess + small))
        free = product ** (1 / n)
        bleu |= {f"bleu{n}": free * penalty, f"bleu{n}_free": free}
    return bleu | {"length_ratio": ratio}


def bleu_statistics(hyps: list[str], refs: list[list[str]]) -> dict[str, np.ndarray]:
    """BLEU_STATISTICS of each caption, from tokens joined by spaces."""
    scorer = pycocoevalcap("bleu.bleu_scorer")
    rows = []
    for hyp, group in zip(hyps, refs, strict=True):
        counts = scorer.cook_test(hyp, scorer.cook_refs(group), eff="closest")
        rows.append([*counts["correct"], *counts["guess"], counts["testlen"], counts["reflen"]])
    return dict(zip(BLEU_STATISTICS, np.array(rows).T, strict=True))


def meteor_rows(statistics: Sequence[str]) -> np.ndarray:
    """The ``meteor_statistics`` of images as rows (N, 23) that can be summed and given to ``corpus_meteor``.

    A hypothesis that matches its reference as a whole has no fragmentation: its one chunk does not count.
    """
    rows = np.array([line.split() for line in statistics], float)
    whole = (rows[:, 20] == 1) & (rows[:, 21] == rows[:, 0]) & (rows[:, 22] == rows[:, 1])
    rows[whole, 20] = 0
    return rows


def corpus_meteor(sums: np.ndarray) -> np.ndarray:
    """METEOR (...) from sums (..., 23) of ``meteor_rows`` over images, as the program's EVAL gives it.

        P, R = weighted matches over weighted length, content words delta, function words 1 - delta
        meteor = (1 - gamma (chunks / matches)^beta) P R / (alpha P + (1 - alpha) R)

    Source: Denkowski and Lavie (2014), parameters of English; matches are exact, stem, synonym, paraphrase.
    """
    alpha, beta, gamma, delta = 0.85, 0.2, 0.6, 0.75
    weights = np.array([1.0, 0.6, 0.8, 0.6])
    lengths, functions = sums[..., 0:2], sums[..., 2:4]  # (..., 2): hypothesis, reference
    # The four kinds of match, each as content and function words of the hypothesis, then of the reference.
    matches = weights @ sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)  # (..., 4)
    content, function = matches[..., [0, 1]], matches[..., [2, 3]]
    weighted = delta * (lengths - functions) + (1 - delta) * functions
    quality = (delta * content + (1 - delta) * function) / np.maximum(weighted, 1e-12)
    precision, recall = quality[..., 0], quality[..., 1]
    f = precision * recall / np.maximum(alpha * precision + (1 - alpha) * recall, 1e-12)
    chunks, matched = sums[..., 20], (sums[..., 21] + sums[..., 22]) / 2
    return f * (1 - gamma * (chunks / np.maximum(matched, 1e-12)) ** beta)


def _rouge_l(hyps: list[str], refs: list[list[str]]) -> list[float]:
    rouge = pycocoevalcap("rouge.rouge").Rouge()
    pairs = zip(hyps, refs, strict=True)
    # pycocoevalcap lets an empty hypothesis match an empty reference.
    return [float(rouge.calc_score([hyp], group)) if hyp else 0.0 for hyp, group in pairs]


def cider_d(hyps: list[str], refs: list[list[str]], frequencies: DocumentFrequencies) -> list[float]:
    """CIDEr-D of each caption, from tokens joined by spaces. Source: Vedantam et al. (2015), by pycocoevalcap."""

    class Scorer(pycocoevalcap("cider.cider_scorer").CiderScorer):
        # log N of the inverse frequencies: pycocoevalcap sets it to the number of images it scores.
        ref_len = property(lambda self: np.log(float(frequencies.images)), lambda self, value: None)

    scorer = Scorer()
    for hyp, group in zip(hyps, refs, strict=True):
        scorer += (hyp, group)
    scorer.document_frequency = defaultdict(float, frequencies.counts)
    return [float(score) for score in scorer.compute_cider()]
