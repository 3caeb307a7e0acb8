"""`attend share`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from attend.experiments.cli.common import OneRun
from tyro.conf import arg


@dataclass(frozen=True, kw_only=True)
class Share:
    """Write a folder of a finished run for others: weights, settings, vocabulary, and a model card for the Hub.

    `attend caption` and attend.load read it, from disk or from the Hugging Face Hub.
    """

    run: OneRun
    """run folder"""
    out: Path
    """folder to write; its name is the name of the model"""
    licence: Annotated[str | None, arg(name="license")] = None
    """licence of the weights, as the Hub calls it: mit, cc-by-nc-4.0 ...; if not given, the card asks for one"""


def share(command: Share) -> None:
    from attend.experiments.share import share

    folder = share(command.run, command.out, command.licence)
    print(*sorted(file for file in folder.rglob("*") if file.is_file()), sep="\n")
    print(f"read {folder / 'README.md'}, complete it, and upload it: hf upload USER/{folder.name} {folder}")
