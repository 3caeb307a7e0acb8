"""Soft and hard attention for image captioning, side by side.

Attention is three functions in a row: score e = f(a, h), simplex alpha = g(e), select z = phi(a, alpha). Soft and hard
attention differ in the third, and in the gradient that the third needs; all else is shared.

Axes: N images, C captions of an image, K samples or hypotheses, R rows of an image (its C captions, K hypotheses ...),
B = N x R rows in all, T words (time), L locations, D features, A units of the score, H hidden units, E units of an
embedding, V words of the vocabulary, M real words of a minibatch (padding left out).

Names here and symbols in Xu et al. (2015):

    features   a_1 .. a_L    annotation vectors             context    z_t        context vector
    scores     e_ti                                         gate       beta_t     on the context
    weights    alpha_ti      attention                      baseline   b          of the reward
    glimpse    s_t           the sampled location           hidden     h_t        state of the LSTM
    costs      l_t           -log p(y_t | ...), in nats     signal     R_t        what a glimpse is charged with

    attend.load("flickr8k-hard").caption("photo.jpg")       # a run folder, or a captioner that comes with the package
    attend.score("captions.json", "references.json")        # all caption metrics with intervals; ``compare`` for two
"""

from importlib import import_module

__version__ = "0.1.0"
_LATER = {
    "load": ("attend.evaluation.caption", "ImageCaptioner"),
    "train": ("attend.training.run", "train"),
    "score": ("attend.analysis.scoring.score", "score"),
    "compare": ("attend.analysis.scoring.score", "compare"),
}
"""What is imported when it is first asked for: models need torch, and scores numpy and scipy."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'attend' has no attribute {name!r}")
    module, thing = _LATER[name]
    return getattr(import_module(module), thing)


def __dir__() -> list[str]:
    return [*globals(), *_LATER]
