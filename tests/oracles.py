"""Slow and obvious second implementations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def plain_logits(
    captioner,
    features: Tensor,
    words: list[int],
    path: list[int] | None = None,
    first: bool = False,
    moved: dict[int, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits (T, V) and weights (T, L) of one caption over one image (L, D), in loops and from the paper's equations.

    Soft, or hard along ``path``; with ``first`` all words keep the weights of the first, and a word that is ``moved``
    has other weights (L,). Reads the captioner's weights and calls none of its code.
    """
    w = dict(captioner.named_parameters())
    settings = captioner.settings
    activation = {"tanh": torch.tanh, "relu": torch.relu}[settings.attention.activation]

    def affine(name: str, x: Tensor) -> Tensor:
        y = w[f"{name}.weight"] @ x
        return y + w[f"{name}.bias"] if f"{name}.bias" in w else y

    mean = features.mean(0)
    bend = {"tanh": torch.tanh, "linear": torch.clone}.get(settings.decoder.initial)
    zeros = features.new_zeros(settings.decoder.hidden)
    hidden, cell = (bend(affine(f"decoder.initial_{part}.0", mean)) if bend else zeros for part in ("hidden", "cell"))
    logits, maps = [], []
    for t, previous in enumerate([1, *words[:-1]]):
        scores = []
        for annotation in features:
            unit = affine("attention.score.key", annotation) + affine("attention.score.query", hidden)
            scores.append((w["attention.score.vector"] * activation(unit)).sum())
        e = torch.stack(scores) / settings.attention.temperature
        alpha = torch.exp(e - e.max()) / torch.exp(e - e.max()).sum()
        if first and t:
            alpha = maps[0]
        if moved and t in moved:
            alpha = moved[t]
        context = sum(a * annotation for a, annotation in zip(alpha, features, strict=True))
        if path is not None:
            context = features[path[t]]
        if settings.decoder.gate != "none":
            context = context / (1 + torch.exp(-affine("decoder.gate_score", hidden)))
        word = w["decoder.embedding.weight"][previous]
        stacked = torch.cat([word, context, hidden])
        kernel = torch.cat([w[f"decoder.{part}_gates.weight"] for part in ("word", "context", "hidden")], dim=1)
        i, f, o, g = (kernel @ stacked + w["decoder.word_gates.bias"]).view(4, -1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        deep = torch.zeros_like(word)
        if settings.decoder.readout_word:
            deep = deep + word
        if settings.decoder.readout_hidden:
            deep = deep + affine("decoder.readout_hidden", hidden)
        if settings.decoder.readout_context:
            deep = deep + affine("decoder.readout_context", context)
        logits.append(affine("decoder.logits", torch.tanh(deep)))
        maps.append(alpha)
    return torch.stack(logits), torch.stack(maps)


def plain_residual_logits(captioner, features: Tensor, words: list[int], path: Tensor | None = None) -> Tensor:
    """Logits (T, V) of the residual GRU over one image (L, D), in loops; hard along ``path`` (T, K) for K heads."""
    w = dict(captioner.named_parameters())
    settings = captioner.settings.attention

    def affine(name: str, x: Tensor) -> Tensor:
        y = w[f"{name}.weight"] @ x
        return y + w[f"{name}.bias"] if f"{name}.bias" in w else y

    hidden = torch.zeros(captioner.settings.decoder.hidden, dtype=features.dtype)
    logits = []
    for t, previous in enumerate([1, *words[:-1]]):
        word = affine("decoder.word_gates", w["decoder.embedding.weight"][previous]).view(3, -1)
        old = affine("decoder.hidden_gates", hidden).view(3, -1)
        reset, update = torch.sigmoid(word[0] + old[0]), torch.sigmoid(word[1] + old[1])
        hidden = (1 - update) * torch.tanh(word[2] + reset * old[2]) + update * hidden
        query = affine("attention.score.query", hidden).view(settings.heads, -1)
        shares = []
        for k in range(settings.heads):
            keys = [affine("attention.score.key", a).view(settings.heads, -1)[k] for a in features]
            values = [
                (affine("attention.value", a) if settings.heads > 1 else a).view(settings.heads, -1)[k]
                for a in features
            ]
            e = torch.stack([(key * query[k]).sum() / len(key) ** 0.5 for key in keys])
            alpha = torch.exp(e) / torch.exp(e).sum()
            shares.append(
                values[path[t, k]] if path is not None else sum(a * v for a, v in zip(alpha, values, strict=True))
            )
        added = hidden + affine("decoder.context", torch.cat(shares))
        centred = added - added.mean()
        normalised = centred / (centred.square().mean() + 1e-5).sqrt()
        logits.append(affine("decoder.logits", normalised * w["decoder.norm.weight"] + w["decoder.norm.bias"]))
    return torch.stack(logits)


def plain_transformer_logits(captioner, features: Tensor, words: list[int], path: Tensor | None = None) -> Tensor:
    """Logits (T, V) of the Transformer over one image (L, D), each word from its prefix anew; hard along ``path`` (T,).

    Self-attention is the library's own, and every block that looks asks by the captioner's additive score. Blocks that
    share a look read what the first one asks for.
    """
    w = dict(captioner.named_parameters())
    settings = captioner.settings.decoder
    width, every, shared = settings.hidden, settings.looks == "every", settings.looks == "shared"

    def affine(name: str, x: Tensor) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (width,), w[f"{name}.weight"], w[f"{name}.bias"])

    def context(query: Tensor, place: int | None) -> Tensor:
        hidden = affine("attention.score.query", query) + features @ w["attention.score.key.weight"].T
        alpha = torch.softmax(torch.tanh(hidden) @ w["attention.score.vector"], 0)
        return alpha @ features if place is None else features[place]

    logits = []
    for t in range(len(words)):
        said = torch.tensor([1, *words[:t]])
        waves = (10_000.0 ** (-torch.arange(0, width, 2) / width)).to(features.dtype)
        angles = torch.arange(t + 1)[:, None] * waves
        position = torch.cat([angles.sin(), angles.cos()], -1)[:, :width]
        x = affine("decoder.words", w["decoder.embedding.weight"][said] * settings.embedding**0.5) + position
        for n in range(settings.blocks):
            block, last = f"decoder.blocks.{n}", n == settings.blocks - 1
            asked = norm(f"{block}.norm", x)[:, None]
            mixed, _ = F.multi_head_attention_forward(
                asked, asked, asked, width, settings.heads, w[f"{block}.mix.weight"], w[f"{block}.mix.bias"], None,
                None, False, 0.0, w[f"{block}.out.weight"], w[f"{block}.out.bias"],
                attn_mask=torch.full((t + 1, t + 1), -torch.inf, dtype=x.dtype).triu(1),
            )  # fmt: skip
            x = x + mixed[:, 0]
            if n == 0 if shared else last or every:
                places = path if (last or shared) and path is not None else [None] * (t + 1)
                seen = [context(q, z) for q, z in zip(norm(f"{block}.query", x), places, strict=False)]
            if last or every or shared:
                x = x + affine(f"{block}.context", torch.stack(seen))
            x = x + affine(f"{block}.narrow", F.gelu(affine(f"{block}.widen", norm(f"{block}.norm_wide", x))))
        logits.append(affine("decoder.logits", norm("decoder.norm", x[-1])))
    return torch.stack(logits)


def plain_adaptive_logits(captioner, features: Tensor, words: list[int], path: Tensor | None = None) -> Tensor:
    """Logits (T, V) of adaptive attention over one image (L, D), word by word; hard along ``path`` (T,)."""
    w = dict(captioner.named_parameters())
    width = captioner.settings.decoder.hidden

    def affine(name: str, x: Tensor) -> Tensor:
        y = x @ w[f"{name}.weight"].T
        return y + w[f"{name}.bias"] if f"{name}.bias" in w else y

    cell = torch.nn.LSTMCell(captioner.settings.decoder.embedding + width, width).to(features.dtype)
    lstm = {name: w[f"decoder.lstm.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    image = torch.relu(affine("decoder.image", features.mean(0)))
    hidden, memory, logits = torch.zeros(width, dtype=features.dtype), torch.zeros(width, dtype=features.dtype), []
    for t, previous in enumerate([1, *words[:-1]]):
        word = w["decoder.embedding.weight"][previous]
        gate = affine("decoder.sentinel_word", word) + affine("decoder.sentinel_image", image)
        gate = torch.sigmoid(gate + affine("decoder.sentinel_hidden", hidden))
        read = torch.cat([word, image])[None]
        hidden, memory = torch.func.functional_call(cell, lstm, (read, (hidden[None], memory[None])))
        hidden, memory = hidden[0], memory[0]
        sentinel = gate * torch.tanh(memory)
        asked = affine("attention.score.query", hidden) + features @ w["attention.score.key.weight"].T
        scores = torch.tanh(asked) @ w["attention.score.vector"]
        own = torch.tanh(affine("decoder.sentinel_score.0", torch.cat([sentinel, hidden])))
        shares = torch.softmax(torch.cat([scores, own @ w["decoder.sentinel_score.2.weight"].T]), 0)
        beta = shares[-1]
        seen = torch.softmax(scores, 0) @ features if path is None else features[path[t]]
        mixed = beta * sentinel + (1 - beta) * affine("decoder.context", seen)
        logits.append(affine("decoder.logits", mixed + hidden))
    return torch.stack(logits)
