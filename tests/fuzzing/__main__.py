"""Coverage-guided fuzzing of every reader, by atheris (libFuzzer): `make test-fuzz`, ten minutes.

    python -m tests.fuzzing                                      each target in turn, 600 seconds in all
    python -m tests.fuzzing vocabulary --seconds 60              one target
    python -m tests.fuzzing vocabulary --input build/fuzz/vocabulary/crash-...     what was found, once more

Starting from sound files, libFuzzer changes bytes and keeps what reaches new lines of attend. Whatever a file holds, a
reader returns, or raises ValueError or FileNotFoundError with one sentence. Anything else is a defect, as are more than
20 seconds or 4 GB: the content is kept in build/fuzz/<target>, and the command ends with status 1.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

KEPT = Path("build/fuzz")


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the readers of attend.")
    parser.add_argument("targets", nargs="*", help="names of targets; none is all of them")
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--input", type=Path, help="read this content once, and show what happens")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone or given.input:
        fuzz(given.targets[0], given.seconds, given.input)
        return 0
    names = given.targets or known()
    each = max(1, given.seconds // len(names))
    failed = [name for name in names if alone(name, each)]
    print(f"{len(names)} readers for {each} seconds each; defects: {', '.join(failed) or 'none'}")
    return int(bool(failed))


def known() -> list[str]:
    """The names of the targets, from a process that instruments nothing."""
    code = "from tests.fuzzing.targets import TARGETS; print(*TARGETS)"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def alone(name: str, seconds: int) -> int:
    """Fuzz one target in a process of its own, which libFuzzer ends; returns its status."""
    command = [sys.executable, "-m", "tests.fuzzing", name, "--seconds", str(seconds), "--alone"]
    ran = subprocess.run(command, capture_output=True, text=True, errors="replace")
    done = [line for line in ran.stderr.splitlines() if line.startswith("Done ")]
    print(f"{name}: {done[-1] if done else 'DEFECT'}", flush=True)
    if ran.returncode:
        print(ran.stdout[-2000:], ran.stderr[-2000:], flush=True)
    return ran.returncode


def fuzz(name: str, seconds: int, content: Path | None) -> None:
    """Fuzz until the seconds are over, or read one content."""
    import atheris

    with atheris.instrument_imports(include=["attend"]):
        from tests.fuzzing.targets import TARGETS
    with tempfile.TemporaryDirectory() as folder:
        target = TARGETS[name](Path(folder))

        def read(content: bytes) -> None:
            target.path.write_bytes(content)
            try:
                target.read()
            except (ValueError, FileNotFoundError) as error:
                said = str(error)
                if isinstance(error, UnicodeError) or not said or "\n" in said:
                    raise AssertionError(f"not one sentence: {said!r}") from error

        if content is not None:
            return read(content.read_bytes())
        for seed in target.seeds:
            read(seed)
        corpus, found = KEPT / "corpus" / name, KEPT / name
        corpus.mkdir(parents=True, exist_ok=True)
        found.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(target.seeds):
            (corpus / f"seed{number}").write_bytes(seed)
        limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4096", "-max_len=16384"]
        atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={found}/", str(corpus)], read)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
