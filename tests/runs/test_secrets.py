"""A password in the address of a database is given to the library that connects, and stands nowhere else."""

from __future__ import annotations

import json
import os
import string
import sys
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import sqlalchemy
from attend.experiments.cli.main import main
from attend.experiments.runner.storages import address, open_storage, reached
from attend.experiments.runner.study import NotBegun, Study
from hypothesis import given
from hypothesis import strategies as st

from attend.runs.provenance import environment
from attend.runs.secrets import VARIABLE, redacted, taken

SECRET = "hunter2"
PLAIN = "postgresql://user@host/db"
passwords = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
names = st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=8)


def give(text: str) -> tuple[str, str | None]:
    """The address without its password, and the password."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        return taken(text), os.environ.get(VARIABLE)


@given(names, passwords, names, st.none() | st.integers(1, 65535), st.sampled_from(["", "--storage="]))
def test_a_password_is_what_sqlalchemy_reads(user, password, host, port, option):
    end = f"@{host}:{port}/db" if port else f"@{host}/db"
    url = f"postgresql://{user}:{quote(password, safe='')}{end}"
    assert give(option + url) == (f"{option}postgresql://{user}{end}", password)
    assert sqlalchemy.engine.make_url(url).password == password
    assert redacted(option + url) == f"{option}postgresql://{user}:***{end}"
    for key in ("password", "%70assword", "PassWord"):
        query = f"postgresql://{user}{end}?sslmode=require&{key}={quote_plus(password)}&connect_timeout=3"
        assert give(query) == (f"postgresql://{user}{end}?sslmode=require&connect_timeout=3", password)
        assert redacted(query) == f"postgresql://{user}{end}?sslmode=require&{key}=***&connect_timeout=3"


ADDRESSES = [
    f"postgresql://user:{SECRET}@host/db",
    f"postgres://user:{SECRET}@host",
    f"postgresql+psycopg://user:{SECRET}@host:5432/db?sslmode=require",
    f"postgresql+psycopg2://user:{SECRET}@host/db",
    f"--storage=postgresql://user:{SECRET}@[::1]:5432/db",
    f"postgresql://:{SECRET}@host/db",
    f"postgresql://user:a/{SECRET}?b=@host/db",
    f"postgresql://user:a:{SECRET}:#@host/db",
    f"postgresql://user@host/db?password={SECRET}",
    f"postgresql://user@host/db?a=b&%70%61ssword={SECRET}&password={SECRET}",
    f"postgresql:///db?host=host&password={SECRET}",
    f"mysql://user:{SECRET}@host/db",
    f"redis://:{SECRET}@host",
    f"https://user:{SECRET}@host/db?token=x",
]
REFUSED = [
    f"postgresql://user:{SECRET}",
    f"postgresql://user:{SECRET}/db",
    f"postgresql://user:5432{SECRET}/db?a=b",
    f"postgresql://user:p@{SECRET}@host/db",
    f"postgresql://user:p@a/{SECRET}@host/db",
    f"postgresql://user:p@a?{SECRET}@host/db",
    f"postgresql://user@host/db?sslpassword={SECRET}",
    f"postgresql://user:%00{SECRET}@host/db",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_no_spelling_of_it_is_left(url):
    assert SECRET not in redacted(url)
    left, _ = give(url)
    assert SECRET not in left and "user" in left + "user" and redacted(left) == left
    if "host" in url and "postgres" in url:
        assert SECRET in give(url)[1]


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_ambiguous_is_refused_without_it(url):
    with pytest.raises(ValueError) as refused:
        give(url)
    assert SECRET not in str(refused.value) and SECRET not in redacted(url)


@pytest.mark.parametrize("text", [
    "", "train", "--out=runs/a:b@c", "a@b", "sqlite:///runs/queue.db", "sqlite:////disk/a:b@c.db", PLAIN,
    "journal:///shared/queue.journal", "postgresql://host:5432/db", "postgresql://[::1]:5432/db?sslmode=require",
    "postgresql:///db?host=/var/run", "what?password=x", "https://host/a?b=c&d", "postgresql://user@host:5432",
])  # fmt: skip
def test_what_has_none_stays_as_it_is(text):
    assert give(text) == (text, None) and redacted(text) == text


@given(st.text(st.characters(codec="utf-8")) | st.from_regex(r"(postgresql|x)://[:/@?&=%a0\[]*", fullmatch=True))
def test_any_text_is_read(text):
    assert redacted(redacted(text)) == redacted(text)
    try:
        left, _ = give(text)
    except ValueError as refused:
        assert any(words in str(refused) for words in ("%40", "null character", "no host", "sslpassword"))
    else:
        assert redacted(left) == left


def test_an_empty_password_is_none(monkeypatch):
    monkeypatch.setenv(VARIABLE, "mine")
    assert taken("postgresql://user:@host/db") == PLAIN and os.environ[VARIABLE] == "mine"


def test_the_record_of_a_run_has_the_command_without_it(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["attend", "run", "--storage", *ADDRESSES, *REFUSED])
    assert SECRET not in json.dumps(environment()) and environment()["command"][0] == "attend"


@pytest.mark.parametrize("url", [*ADDRESSES, *REFUSED])
@pytest.mark.parametrize("arguments", [
    ["run", "quickstart", "--tiny", "--storage"], ["study", "soft_or_hard", "--tiny", "--show", "--storage"],
    ["study", "nothing"], ["run", "quickstart", "--storages"], ["table"], [], ["train"], ["--plugin"],
], ids=" ".join)  # fmt: skip
def test_no_verb_tells_it(arguments, url, monkeypatch, capsys, tmp_path):
    """Without a server: whatever is wrong, and nothing can be reached."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("attend.experiments.runner.storages.RDBStorage", unreachable)
    monkeypatch.setattr("attend.experiments.quickstart.paint", lambda *_: tmp_path / "nothing")
    with pytest.raises(SystemExit) as stop:
        main([*arguments, url])
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.err.count("attend: ") == 1 and SECRET not in said.out + said.err
    assert not [file for file in Path().rglob("*") if file.is_file() and SECRET in file.read_text(errors="replace")]


def unreachable(url, **_) -> None:
    raise sqlalchemy.exc.OperationalError(f"connecting to {url}", {}, Exception(f"{url} does not answer"))


def test_a_storage_of_the_library_hides_it_too(monkeypatch, tmp_path):
    """Whoever calls the functions gives an address as on the command line."""
    monkeypatch.setenv(VARIABLE, "")
    assert address(ADDRESSES[0], tmp_path) == PLAIN and os.environ[VARIABLE] == SECRET
    for url in (f"postgresql://user:{SECRET}", f"postgresql://user:{SECRET}@host:port/db"):
        with pytest.raises(ValueError) as refused:
            open_storage(url)
        assert SECRET not in str(refused.value)
    with (
        pytest.raises(ValueError, match=r"'what://user:\*\*\*@host' cannot be read") as refused,
        reached(f"what://user:{SECRET}@host"),
    ):
        raise sqlalchemy.exc.ArgumentError(f"no such dialect in 'what://user:{SECRET}@host'")
    assert SECRET not in str(refused.value)
    monkeypatch.setattr("attend.experiments.runner.queue.Queue.there", False)
    with pytest.raises(NotBegun) as refused:
        Study(name="a", kinds=("hard",), space=lambda *_: None).queue(ADDRESSES[0], "hard", begun=True)
    assert SECRET not in str(refused.value)
