"""A figure as SVG inside a page: in the page's colours, and with ids that no other figure has."""

import io
import re
from hashlib import sha256

import matplotlib
from attend.analysis.figures.figures import STYLE
from markupsafe import Markup, escape
from matplotlib.figure import Figure

INK = {"#000000": "var(--ink)", "#555555": "var(--quiet)", "#e4e4e4": "var(--rule)", "#ffffff": "var(--paper)"}
"""Colours of a figure on white paper -> those of the page, which may be dark."""


def inline(figure: Figure, label: str) -> Markup:
    """The figure as an ``svg`` element without a background; screen readers read ``label``."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.DOTALL)
    for colour, ours in INK.items():
        text = re.sub(colour, ours, text, flags=re.IGNORECASE)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    mark = f"f{sha256(label.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}-"
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{mark}", text)
    text = re.sub(
        r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{escape(label)}">', text
    )
    return Markup(text)
