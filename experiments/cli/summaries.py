"""What a verb says of an evaluation: the scores that one looks at first."""

from __future__ import annotations

from pathlib import Path


def summary(scores: dict) -> str:
    """The scores that one looks at first."""
    shown = {"bleu4": "BLEU-4", "meteor": "METEOR", "cider": "CIDEr"}
    parts = [f"{title} {scores['captions'][name]:.3f}" for name, title in shown.items() if name in scores["captions"]]
    parts += [f"{scores['given']['nll']:.3f} nats a word"]
    if scores["grounding"]:
        parts.append(f"attention mass in boxes {scores['grounding']['mass']:.3f}")
    if scores.get("collapsed"):
        parts.append("attention has collapsed")
    look = f", looking {scores['look']}" if "look" in scores else ""
    return f"{scores['split']}, {scores['decode']}, beam {scores['beam']}{look}: " + ", ".join(parts)


def bounds(folder: Path, scores: dict) -> list[str]:
    """Where they are, and a line for each of them."""
    titles = {"bound": "J, the bound" + (", exactly" if scores["exact"] else ""), "marginal": "-log p(y), exactly"}
    lines = [
        f"{folder}: {scores['split']}, {scores['draws']} paths of each of {scores['captions']} captions; in nats per "
        "token, with standard error over images, and as perplexity"
    ]
    for name, bound in scores["bounds"].items():
        title = titles.get(name) or f"K = {name.removeprefix('weighted')}"
        error = "" if bound["error"] is None else f" +- {bound['error']:.4f}"
        lines.append(f"  {title:<22}{bound['nats']:.4f}{error}, {bound['perplexity']:.2f}")
    lines += [f"  no {name}: {why}" for name, why in scores["missing"].items()]
    return lines + [f"  {note}" for note in scores["notes"].values()]
