"""Equations: blocks ```math of LaTeX, as code forges show them, become MathML, which browsers draw by themselves."""

from latex2mathml.converter import convert


def fence(source: str, language: str, css_class: str, options: dict, md: object, **_: object) -> str:
    """The MathML of an equation in LaTeX. Called by pymdownx.superfences."""
    return f'<div class="equation" tabindex="0">{convert(source, display="block")}</div>'
