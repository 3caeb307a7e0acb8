"""The short table for a terminal."""

from __future__ import annotations

from attend.analysis.tables.columns import COLUMNS, Cell, Row, Table
from attend.analysis.tables.terminal import aligned, brief


def table(**values) -> Table:
    """Two rows with seeds and one without, of these columns."""
    cells = [tuple(Cell(tuple(x + d for x in one)) for one in values.values()) for d in (0.0, 1.0)]
    rows = [Row(name=name, decode="argmax", beam=3, runs=2, cells=some) for name, some in zip("ab", cells, strict=True)]
    rows.append(Row(name="looks nowhere: uniform", cells=tuple(None for _ in values)))
    return Table(split="test", columns=tuple(COLUMNS[name] for name in values), rows=tuple(rows), caption="")


def test_five_columns_are_aligned(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    made = table(bleu1=(1.0, 2.0), nll=(1.0, 3.0), cider=(0.5, 1.5), mass=(10.0, 12.0), meteor=(0.0, 1.0))
    header, rule, *rows, about = brief(made).splitlines()
    assert header.split() == ["Variant", "Decoding", "CIDEr", "Grounding", "mass", "METEOR"]
    assert rows[0].split()[:5] == ["a", "argmax,", "beam", "3", "1.000"] and len(rows) == 2  # a control has no seeds
    assert about == "Mean over seeds; lowest and highest seed in [brackets]."
    assert len(rule.split()) == 5 and all(len(line) == len(rule) for line in (header, *rows))
    monkeypatch.setenv("COLUMNS", "60")
    assert "[" not in brief(made) and max(map(len, brief(made).splitlines())) <= 60


def test_numbers_stand_at_the_right():
    assert aligned(["name", "of", "score"], [["a", "b", "1.0"], ["long name", "c", "10.0"]]).splitlines() == [
        "name       of  score", "---------  --  -----", "a          b     1.0", "long name  c    10.0",
    ]  # fmt: skip
