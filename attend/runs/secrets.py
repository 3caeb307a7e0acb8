"""Passwords in the address of a database: they go to the library that connects, and are written nowhere."""

import os
import re
from collections.abc import Iterator
from urllib.parse import unquote_plus, unquote_to_bytes

VARIABLE = "PGPASSWORD"
"""The environment variable from which PostgreSQL's library reads a password; workers inherit it."""
KEYS = ("password", "sslpassword")
"""Parameters of an address that are secret."""
HIDDEN = "***"

_POSTGRESQL = re.compile(r"(?:^|=)postgres(?:ql)?(?:\+\w+)?://")
_SECRET = re.compile(r"(://[^:/@?\[]*):(.*)@", re.DOTALL)
_NO_HOST = re.compile(r"(://[^:/@?\[]*):(?!\d*(?:[/?]|$))([^/?]*)")
"""What follows `user:` in an address without @, unless it is the number of a port."""


def redacted(text: str) -> str:
    """A text with an address in it, without the password of the address."""
    text, hidden = _SECRET.subn(rf"\1:{HIDDEN}@", text)
    if not hidden:
        text = _NO_HOST.sub(rf"\1:{HIDDEN}", text)
    head, mark, _ = text.partition("?")
    return f"{head}?{'&'.join(_parts(text, HIDDEN))}" if "://" in head and mark else text


def taken(text: str) -> str:
    """An address without its password, which is given to PostgreSQL's library. ValueError if it is ambiguous."""
    if not _POSTGRESQL.search(text):
        return redacted(text)
    start, secret = _SECRET.search(text), None
    if start and "@" in text[start.end(1) : start.end() - 1]:
        raise ValueError(f"{redacted(text)} has more than one @: write the @ of a password, or of an option, as %40")
    if not start and _NO_HOST.search(text):
        raise ValueError(f"{redacted(text)} has no @ and no host after its user: write postgresql://USER@HOST/NAME")
    if start:
        secret = unquote_to_bytes(start[2])
        text = text[: start.end(1)] + text[start.end() - 1 :]
    head, _, query = text.partition("?")
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if _key(key) == "sslpassword":
            raise ValueError(f"{redacted(text)} has an sslpassword: write it into a service in ~/.pg_service.conf")
        if _key(key) == "password":
            secret = unquote_to_bytes(value.replace("+", " "))
    rest = "&".join(_parts(text, None))
    if secret and b"\0" in secret:
        raise ValueError(f"the password of {redacted(text)} has a null character, which none can have: correct it")
    if secret:
        os.environ[VARIABLE] = os.fsdecode(secret)
    return f"{head}?{rest}" if rest else head


def _parts(text: str, hidden: str | None) -> Iterator[str]:
    """The parameters of an address; those that are secret are hidden, or left out if that is None."""
    for part in text.partition("?")[2].split("&"):
        key, _, _ = part.partition("=")
        if _key(key) not in KEYS:
            yield part
        elif hidden is not None:
            yield f"{key}={hidden}"


def _key(key: str) -> str:
    return unquote_plus(key).strip().lower()
