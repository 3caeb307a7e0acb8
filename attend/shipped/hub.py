"""Captioners on the Hugging Face Hub, by name: user/name. `attend share` makes the folder that is uploaded there.

Of what lies there, JSON, safetensors and the model card are downloaded and nothing else, so that nothing that is read
can hold a program.
"""

import functools
import re
import threading
from pathlib import Path
from typing import Any

from attend.documents import parsed
from attend.paths import regular

NEEDED = ("config.json", "vocabulary.json", "checkpoint/best.safetensors")
CARD = "README.md"
ENCODER = "encoder.safetensors"
"""The encoder's weights, if they came from a file."""
NOVELTY = "novelty.json"
"""What the training images were like, if the run measured it."""
FILES = (*NEEDED, CARD, ENCODER, NOVELTY)
"""The files of a captioner."""
SECONDS = 8.0
"""How long the Hub may take to answer."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
OWN = ("pretrained", "pypi", "random")
"""The encoder's weights that are no file."""


def is_name(run: Path | str) -> bool:
    """Whether this can name a captioner on the Hub: user/name, where ``user`` is no folder here."""
    return bool(NAME.fullmatch(str(run))) and not Path(str(run).split("/")[0]).exists()


@functools.cache
def downloaded(name: str) -> Path:
    """The folder of a captioner on the Hub, which is kept in the Hub's cache; without the Hub, what is kept there.

    Raises ValueError if there is none of that name, if its files are not those of a captioner or name a file of this
    machine, and within 10 seconds if the Hub is not reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    answer = _asked(name)
    if isinstance(answer, RepositoryNotFoundError):
        raise ValueError(f"there is no captioner {name} on the Hugging Face Hub, or it is private: check the name")
    plan = {"revision": answer} if isinstance(answer, str) else {"local_files_only": True}
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(FILES), **plan))
    except Exception as error:  # of the network, of its libraries, or of the cache
        reason = _reason(error if isinstance(answer, str) else answer)
        raise ValueError(
            f"{name} is no folder here, and the Hugging Face Hub was not reached ({reason}): name a run folder, or "
            "try again later"
        ) from None
    check_contained(folder, name)
    return folder


def check_contained(folder: Path, name: str) -> None:
    """Raise ValueError unless a folder holds a captioner whose configuration names no file outside of it."""
    missing = [file for file in NEEDED if not (folder / file).is_file()]
    if missing:
        raise ValueError(f"{name} is no captioner of attend: it has no {missing[0]}")
    try:
        config: dict[str, Any] = parsed(regular(folder / "config.json").read_bytes(), dict)
    except ValueError as error:
        raise ValueError(f"{name} is no captioner of attend: its config.json is damaged ({error})") from None
    parts = {part: config.get(part) if isinstance(config.get(part), dict) else {} for part in ("encoder", "decoder")}
    weights = parts["encoder"].get("weights", OWN[0])
    if not (weights in OWN or (weights == ENCODER and (folder / ENCODER).is_file())):
        raise ValueError(f"{name} names a file outside of its folder: encoder.weights is {weights!r}")
    for setting, value in (("start", config.get("start")), ("decoder.embeddings", parts["decoder"].get("embeddings"))):
        if value is not None:
            raise ValueError(f"{name} names a file outside of its folder: {setting} is {value!r}")


def _asked(name: str) -> str | Exception:
    """The newest revision of a repository, or the error of asking for it, after SECONDS at most."""
    from huggingface_hub import HfApi

    answer: list[str | Exception] = []

    def ask() -> None:
        try:
            answer.append(HfApi().model_info(name, timeout=SECONDS).sha)
        except Exception as error:
            answer.append(error)

    asking = threading.Thread(target=ask, daemon=True)  # a name server that does not answer knows no timeout
    asking.start()
    asking.join(SECONDS)
    return answer[0] if answer else TimeoutError(f"no answer in {SECONDS:.0f} seconds")


def _reason(error: BaseException) -> str:
    """The first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
