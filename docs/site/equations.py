"""Equations: blocks ```math of LaTeX, as code forges show them, become MathML, which browsers draw by themselves."""

from latex2mathml.converter import convert


def fence(source: str, language: str, css_class: str, options: dict, md: object, **_: object) -> str:
    """The MathML of a block of LaTeX, one equation a line. Called by pymdownx.superfences."""
    lines = [convert(line, display="block") for line in source.splitlines() if line.strip()]
    return f'<div class="equations" tabindex="0">{"".join(lines)}</div>'
