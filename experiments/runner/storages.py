"""`--storage`: an Optuna storage of jobs that processes and machines share."""

import contextlib
import errno
import re
import time
import urllib.parse
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import optuna
import psutil
import sqlalchemy
from attend.experiments.runner.journal import Journal
from attend.experiments.runner.locks import locked
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages._rdb.models import BaseModel

from attend.paths import quoted, regular
from attend.runs.lease import LEASE_SECONDS
from attend.runs.secrets import redacted, taken

optuna.logging.set_verbosity(optuna.logging.ERROR)  # what fails is told by us, once
warnings.filterwarnings("ignore", category=ExperimentalWarning)

BEAT = 20
"""Seconds between two heartbeats of a worker, unless another number is given."""
GRACE = int(2 * LEASE_SECONDS)
"""Seconds without a heartbeat after which another worker takes the job; by then its lease is stale too."""
PATIENCE = 60
"""Seconds that SQLite waits for the writes of another process."""
ANSWER = 20
"""Seconds in which a server has to answer."""
NETWORK = {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "afs", "glusterfs",
           "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.gpfs", "pvfs2", "panfs", "wekafs"}  # fmt: skip
"""File systems on which the locks of SQLite are not reliable."""
TRIES = 20
"""Attempts to open a database while others create its tables."""
SERVERS = ("postgresql", "postgres", "postgresql+psycopg")
KINDS = (
    "sqlite:///queue.db (one machine), postgresql://user@host/name (a server), or journal:///shared/queue.journal "
    "(a disk that all machines share)"
)


def address(text: str | None, out: Path) -> str:
    """The URL of the storage, without a password; None is an SQLite file in the folder of all runs.

    ValueError for an unknown kind.
    """
    if text is None:
        return _checked(f"sqlite:///{out / 'queue.db'}")
    text = taken(text)
    if "://" not in text:
        kind = {".db": "sqlite", ".sqlite": "sqlite", ".journal": "journal"}.get(Path(text).suffix)
        if kind is None:
            raise ValueError(f"--storage {text!r} is no storage: give {KINDS}")
        return _checked(f"{kind}:///{text}")
    if text.partition("://")[0] not in ("sqlite", "journal", *SERVERS):
        raise ValueError(f"--storage {text!r} is of an unknown kind: give {KINDS}")
    return _checked(text)


def _checked(url: str) -> str:
    """The URL; ValueError if it is of a file, but names none, or one whose name no database URL can hold."""
    kind, _, rest = url.partition("://")
    if kind not in ("sqlite", "journal"):
        return url
    if not rest.startswith("/") or rest in ("/", "/:memory:") or rest.startswith("/file:"):
        raise ValueError(f"--storage {url!r} names no file, so no other process could share it: give {KINDS}")
    if kind == "sqlite":
        _of_database(rest[1:])
    return url


def _of_database(path: str) -> str:
    """The URL of an SQLite file, whose path some versions of SQLAlchemy take as it is, and others unquote."""
    for written in (path, urllib.parse.quote(path)) if path.isprintable() else ():
        with contextlib.suppress(sqlalchemy.exc.ArgumentError):
            if sqlalchemy.engine.make_url(f"sqlite:///{written}").database == path:
                return f"sqlite:///{written}"
    raise ValueError(
        f"--storage sqlite:///{quoted(path)} has a character that no URL of a database can hold: choose another --out "
        "or --storage, such as a .journal"
    )


def open_storage(url: str, beat: int = BEAT) -> BaseStorage:
    """The storage at a URL, created if it does not exist. ValueError or OSError explains what is wrong.

    Workers of a database send a heartbeat every ``beat`` seconds.
    """
    kind, _, rest = url.partition("://")
    path = _file(url)
    if kind == "sqlite" and (system := network(path)):
        raise ValueError(
            f"{path} lies on a disk of the network ({system}), where SQLite loses what several machines write: "
            f"give --storage journal:///{path.with_suffix('.journal')} or a database server"
        )
    if kind in ("sqlite", "journal"):
        path.parent.mkdir(parents=True, exist_ok=True)
        url = _of_database(str(path)) if kind == "sqlite" else url
        engine = {"connect_args": {"timeout": PATIENCE}}
    else:
        url = taken(f"postgresql+psycopg://{rest}")
        engine = {"pool_pre_ping": True, "connect_args": {"connect_timeout": ANSWER}}
    if kind == "journal":
        with reached(url):
            return _replayed(path)
    regular(path)
    beats = {"heartbeat_interval": beat, "grace_period": max(GRACE, 3 * beat)}
    opened = partial(RDBStorage, re.sub(r"[{}]", r"\g<0>\g<0>", url), engine_kwargs=engine, **beats)
    with reached(url):
        _refuse_foreign(url, engine)
        for _ in range(TRIES):
            try:
                return opened()
            except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):  # another makes the same tables
                time.sleep(0.2)
        return opened()


def turn(url: str) -> contextlib.AbstractContextManager:
    """A lock for taking a job: with SQLite alone, two processes can take the same one."""
    return locked(Path(f"{_file(url)}.lock")) if url.startswith("sqlite") else contextlib.nullcontext()


def _replayed(path: Path) -> JournalStorage:
    """The storage of a journal; ValueError if its operations do not follow from each other."""
    try:
        return JournalStorage(Journal(path))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{path} has an operation that cannot be ({type(error).__name__}: {error}): restore it, or name another "
            "journal"
        ) from error


def _refuse_foreign(url: str, options: dict[str, object]) -> None:
    """ValueError if a database has tables of another program, and not yet those of Optuna."""
    engine = sqlalchemy.create_engine(url, **options)
    try:
        tables = set(sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()
    foreign = sorted(tables - {*BaseModel.metadata.tables, "alembic_version"})
    if foreign and not {"studies", "trials", "version_info"} <= tables:
        raise ValueError(
            f"the database {redacted(url)} belongs to another program (it has the table {foreign[0]!r}): name another "
            "file, database or schema"
        )


def exists(url: str) -> bool:
    """False if the URL is a file that does not exist, else True. Does not create the file."""
    return not url.startswith(("sqlite", "journal")) or _file(url).exists()


def _file(url: str) -> Path:
    return Path(url.partition("://")[2].removeprefix("/"))


def network(path: Path) -> str | None:
    """The file system of a path if it is a network file system, else None."""
    path = path.absolute()
    mounts = {disk.mountpoint: disk.fstype for disk in psutil.disk_partitions(all=True)}
    nearest = next((str(folder) for folder in (path, *path.parents) if str(folder) in mounts), None)
    return mounts[nearest] if nearest is not None and mounts[nearest] in NETWORK else None


@contextlib.contextmanager
def reached(url: str) -> Iterator[None]:
    """Turn the errors of a storage that cannot be reached into one sentence."""
    try:
        yield
    except ImportError:
        raise ValueError("a storage on PostgreSQL needs a driver: pip install 'psycopg[binary]'") from None
    except sqlalchemy.exc.ArgumentError as error:
        raise ValueError(f"--storage {redacted(url)!r} cannot be read ({redacted(str(error))}): give {KINDS}") from None
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        lines = [line.strip() for line in str(getattr(cause, "orig", cause)).splitlines() if line.strip()]
        why = lines[-1] if lines else type(cause).__name__
        if why == "database is locked":
            raise ConnectionError(
                f"another process has locked {_file(url)} for {PATIENCE} seconds: continue it if it is stopped, or "
                "kill it; what is done stays done"
            ) from error
        if why == "database or disk is full":
            raise OSError(errno.ENOSPC, "the disk is full", str(_file(url))) from error
        raise ConnectionError(
            f"the storage {redacted(url)} cannot be reached ({why}): start it, "
            "or check its name, user and password; what is done stays done"
        ) from error
