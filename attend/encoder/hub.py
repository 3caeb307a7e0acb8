"""Weights that timm downloads: whether they are on this machine, and whether their host answers."""

import contextlib
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
import torch
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.utils import get_session
from timm.models import PretrainedCfg

SECONDS = 5.0
"""How long a host may take to answer."""
FILES = ("model.safetensors", "pytorch_model.bin", "model.bin")
"""Names of weights in a repository of the hub."""


def downloaded(about: PretrainedCfg) -> Path | None:
    """The file of weights that an earlier download left on this machine, or None."""
    if about.hf_hub_id:
        repository, _, revision = about.hf_hub_id.partition("@")
        for name in filter(None, (about.hf_hub_filename, *FILES)):
            found = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision or None)
            if isinstance(found, str):
                return Path(found)
    if (url := _url(about)) is None:
        return None
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    return file if file.exists() else None


def unreachable(about: PretrainedCfg, seconds: float = SECONDS) -> str | None:
    """Why the host of a backbone's weights does not answer, or None if it does.

    The libraries that download would try for most of a minute. To look up a name can take longer than the time limit of
    a request, so the request has a thread of its own, which is left behind.
    """
    address = ENDPOINT if about.hf_hub_id else _url(about)
    if not address:
        return None
    ask = _ask_hub if about.hf_hub_id else _ask
    why = [f"no answer in {seconds:g} s"]

    def try_once() -> None:
        try:
            ask(address, seconds)
            why.clear()
        except Exception as error:
            why[:] = [next(iter(str(error).strip().splitlines()), type(error).__name__)]

    thread = threading.Thread(target=try_once, daemon=True)
    thread.start()
    thread.join(seconds)
    return f"{urlsplit(address).netloc}: {why[0]}" if why else None


def _url(about: PretrainedCfg) -> str | None:
    """The address of weights outside the hub; timm has some with the name of their file."""
    return about.url[0] if isinstance(about.url, tuple) else about.url


def _ask_hub(address: str, seconds: float) -> None:
    """One request by the hub's own client, which knows of proxies. Any answer will do."""
    get_session().head(address, timeout=seconds)


def _ask(address: str, seconds: float) -> None:
    """One request as torch.hub would make it. Any answer will do."""
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds).close()
