"""Stores of rows in shards: killed and resumed, read by many, refused in one sentence."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from torch.utils.data import DataLoader

from attend.data import stores
from attend.data.stores import Store, fill_store

ORIGIN = {"kind": "test", "grid": (2, 3), "versions": {"torch": "1"}}


def rows_of(rows: range) -> dict[str, np.ndarray]:
    """Every row says its number: in all numbers of "inputs" (3, 4), and once in "size"."""
    number = np.array(rows)
    return {"inputs": np.broadcast_to(number[:, None, None], (len(rows), 3, 4)).astype(np.float32), "size": number}


def fill(folder: Path, count: int = 10, origin: dict = ORIGIN, produce=rows_of, shard: int = 4) -> list[int]:
    return list(fill_store(folder, count, origin, produce, shard))


class Rows:
    """A dataset of single rows, as a DataLoader's workers read it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitem__(self, row: int) -> np.ndarray:
        return self.store.read("inputs", [row])


def test_rows_come_back_in_any_order_and_repeated(tmp_path):
    assert fill(tmp_path) == [4, 8, 10]
    store = Store(tmp_path)
    wanted = [9, 0, 0, 4, 3, 8, 9]
    assert len(store) == 10
    assert store.read("size", wanted).tolist() == wanted
    assert np.array_equal(store.read("inputs", np.array(wanted)), rows_of(wanted)["inputs"])


def test_a_whole_store_is_not_computed_again(tmp_path):
    fill(tmp_path)
    assert fill(tmp_path, produce=None) == [4, 8, 10]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from attend.data.stores import fill_store
folder, when = Path(sys.argv[1]), sys.argv[2]
kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)

def produce(rows):
    if rows.start == 4:
        kill() if when == "computing" else setattr(os, "fsync", kill)
    inputs = np.ones((len(rows), 3, 4), np.float32) * np.array(rows)[:, None, None]
    return {"inputs": inputs.astype(np.float32), "size": np.array(rows)}

list(fill_store(folder, 10, {"kind": "test", "grid": (2, 3), "versions": {}}, produce, 4))
"""


@pytest.mark.parametrize("when", ["computing", "writing"])
def test_a_killed_store_is_refused_and_resumed(tmp_path, when):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert subprocess.run([sys.executable, "-c", KILLED, str(killed), when]).returncode == -signal.SIGKILL
    assert {path.name.split(".")[0] for path in killed.glob("*.h5*")} == (
        {"00000"} if when == "computing" else {"00000", "00001"}
    )
    with pytest.raises(ValueError, match=rf"{killed} lacks 2 of its shards: run the same `attend prepare` again"):
        Store(killed)

    computed = []
    fill(killed, produce=lambda rows: computed.append(rows) or rows_of(rows))
    fill(whole)
    assert computed == [range(4, 8), range(8, 10)]
    assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in whole.iterdir())
    for name in ("inputs", "size"):
        assert np.array_equal(Store(killed).read(name, range(10)), Store(whole).read(name, range(10)))


def test_the_half_written_shard_of_a_living_process_is_left_alone(tmp_path):
    fill(tmp_path)
    host = socket.gethostname()
    living = {f"00000.h5.ab.{os.getppid()}@{host}.partial", f"00001.h5.cd.999999999@not-{host}.partial"}
    for name in (*living, f"00001.h5.ef.999999999@{host}.partial"):
        (tmp_path / name).touch()
    fill(tmp_path)
    assert {path.name for path in tmp_path.glob("*.partial")} == living


def test_an_error_while_computing_leaves_a_resumable_store(tmp_path):
    def fail(rows):
        if rows.start:
            raise ValueError("x.jpg is not a readable image")
        return rows_of(rows)

    with pytest.raises(ValueError, match=r"x\.jpg"):
        fill(tmp_path, produce=fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.h5", "store.json"]
    assert fill(tmp_path) == [4, 8, 10]


def test_a_full_disk_leaves_nothing_half_written_and_the_process_alive(tmp_path):
    code = """if True:
        import resource, sys
        from pathlib import Path
        import numpy as np
        from attend.data.stores import fill_store
        resource.setrlimit(resource.RLIMIT_FSIZE, (12000, -1))
        try:
            list(fill_store(Path(sys.argv[1]), 800, {}, lambda rows: {"inputs": np.ones((len(rows), 99))}, 400))
        except OSError as error:
            sys.exit(f"refused: {error}")"""
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert ran.returncode == 1 and re.fullmatch(r"refused: .*File too large: .*00000\.h5.\n", ran.stderr), ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_every_shard_says_where_it_comes_from(tmp_path):
    fill(tmp_path)
    for path in sorted(tmp_path.glob("*.h5")):
        with h5py.File(path) as file:
            assert file.attrs["kind"] == "test" and "1" in file.attrs["versions"] and "2, 3" in file.attrs["grid"]
            assert file.attrs["arrays"] == "inputs float32 (3, 4), size int64 ()"
    assert Store(tmp_path).provenance["grid"] == [2, 3]


@pytest.mark.parametrize(
    "other", [{"count": 9}, {"shard": 5}, {"origin": ORIGIN | {"kind": "other"}}, {"origin": ORIGIN | {"grid": (3, 2)}}]
)
def test_a_store_of_another_origin_is_refused(tmp_path, other):
    fill(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path} holds a store made from something else"):
        fill(tmp_path, **other)


def test_other_versions_are_no_other_origin(tmp_path):
    fill(tmp_path)
    assert fill(tmp_path, origin=ORIGIN | {"versions": {"torch": "2"}}, produce=None) == [4, 8, 10]


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no store: make it with `attend prepare`"):
        Store(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "emptied", "overwritten", "renamed", "one bit"])
def test_a_damaged_shard_is_named_and_the_others_are_read(tmp_path, damage):
    fill(tmp_path)
    path = tmp_path / "00001.h5"
    if damage == "renamed":
        with h5py.File(path, "a") as file:
            file.move("inputs", "outputs")
    elif damage == "one bit":
        content = bytearray(path.read_bytes())
        content[content.index(np.full(12, 5, np.float32).tobytes())] ^= 1  # in row 5
        path.write_bytes(content)
    else:
        content = path.read_bytes()
        path.write_bytes({"cut": content[: len(content) // 2], "emptied": b"", "overwritten": b"x" * 999}[damage])
    store = Store(tmp_path)
    assert store.read("size", [0, 9]).tolist() == [0, 9]
    with pytest.raises(ValueError, match=rf"{path} is damaged \(.*remove it and run `attend prepare` again"):
        store.read("inputs", [0, 5])
    path.unlink()
    fill(tmp_path)
    assert Store(tmp_path).read("inputs", [5]).max() == 5


def replaced(name: str, **value):
    """A change of a shard: another dataset of this name in its place."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **value)

    return change


FOREIGN = {
    "fewer rows": (replaced("inputs", data=np.ones((2, 3, 4), np.float32)), "'inputs' is no array of 4 rows of numb"),
    "a scalar": (replaced("size", data=3), "'size' is no array of 4 rows of numbers"),
    "text": (replaced("inputs", data=["a"] * 4), "'inputs' is no array of 4 rows of numbers"),
    "rows of another width": (
        replaced("inputs", data=np.ones((4, 3, 5), np.float32)),
        r"it holds inputs float32 \(3, 5",
    ),
    "another type": (replaced("inputs", data=np.ones((4, 3, 4), np.int32)), "it holds inputs int32"),
    "a group": (lambda file: file.create_group("more"), "'more' is no array"),
    "one array more": (lambda file: file.create_dataset("more", data=np.ones(4)), "it holds inputs .*, more float64"),
    "one array less": (lambda file: file.pop("size"), "it holds inputs float32"),
    "another origin": (lambda file: file.attrs.update(kind="other"), "its kind is not the store's"),
    "no origin": (lambda file: file.attrs.pop("grid"), "its grid is not the store's"),
}


@pytest.mark.parametrize("change", FOREIGN)
def test_a_shard_that_is_not_as_it_was_written_is_refused(tmp_path, change):
    fill(tmp_path)
    path = tmp_path / "00001.h5"
    act, said = FOREIGN[change]
    with h5py.File(path, "a") as file:
        act(file)
    store = Store(tmp_path)
    assert store.read("inputs", [0, 9]).shape == (2, 3, 4)
    for _ in range(2):
        with pytest.raises(
            ValueError, match=rf"{path} is damaged \({said}.*: remove it and run `attend prepare` again"
        ):
            store.read("inputs", [4])


def test_a_shard_of_other_versions_is_no_other_store(tmp_path):
    fill(tmp_path)
    (tmp_path / "00001.h5").unlink()
    fill(tmp_path, origin=ORIGIN | {"versions": {"torch": "2"}})
    assert Store(tmp_path).read("size", range(10)).tolist() == list(range(10))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_what_one_process_reads(tmp_path, method):
    fill(tmp_path, count=40)
    store = Store(tmp_path)
    truth = store.read("inputs", range(40))  # so the parent holds open handles when it is forked
    loader = DataLoader(Rows(store), sampler=range(40), batch_size=None, num_workers=2, multiprocessing_context=method)
    for _ in range(2 if method == "fork" else 1):
        assert np.array_equal(np.concatenate([np.asarray(row) for row in loader]), truth)
    assert np.array_equal(store.read("inputs", range(40)), truth)


def test_few_shards_are_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "OPEN_SHARDS", 8)
    fill(tmp_path, count=20, shard=1)
    store = Store(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    assert store.read("size", range(20)).tolist() == list(range(20))
    assert len(os.listdir("/proc/self/fd")) - before == 8


def test_as_many_shards_are_open_as_the_system_allows(monkeypatch):
    for files, shards in ((1024, 512), (256, 128), (10**6, 512), (resource.RLIM_INFINITY, 512)):
        monkeypatch.setattr(resource, "getrlimit", lambda what, files=files: (files, files))
        assert stores._open_shards() == shards


def test_a_compressed_store_is_the_same_store(tmp_path):
    """Smaller where most is 0, equal to the last bit, resumed as either kind, and damage is seen in it too."""

    def mostly_zero(rows: range) -> dict[str, np.ndarray]:
        draws = np.stack([np.random.default_rng(row).standard_normal((49, 64)) for row in rows])
        return {"inputs": np.maximum(draws - 1, 0).astype(np.float16), "size": np.array(rows)}

    for name in ("plain", "gzip", "mixed"):
        one = fill_store(tmp_path / name, 8, ORIGIN, mostly_zero, 4, compress=name != "plain")
        list(one) if name != "mixed" else next(one)
    fill(tmp_path / "mixed", 8, produce=mostly_zero)
    assert h5py.File(tmp_path / "mixed/00000.h5")["inputs"].compression == "gzip"
    assert h5py.File(tmp_path / "mixed/00001.h5")["inputs"].compression is None
    plain, *others = (Store(tmp_path / name).read("inputs", range(8)) for name in ("plain", "gzip", "mixed"))
    assert all(np.array_equal(plain, other) for other in others)
    size = {name: (tmp_path / name / "00000.h5").stat().st_size for name in ("plain", "gzip")}
    assert size["gzip"] < 0.6 * size["plain"]
    shard = tmp_path / "gzip/00000.h5"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        Store(tmp_path / "gzip").read("inputs", range(4))


def test_memory_does_not_grow_with_the_rows_that_are_read(tmp_path):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    megabyte = 2**20
    fill(
        tmp_path, count=256, produce=lambda rows: {"inputs": np.ones((len(rows), megabyte // 4), np.float32)}, shard=16
    )
    store, order = Store(tmp_path), np.random.default_rng(0).permutation(256).reshape(-1, 8)
    store.read("inputs", range(0, 256, 16))  # opens all shards
    before, most = resident(), 0
    for rows in order:
        store.read("inputs", rows)
        most = max(most, resident())
    assert most - before < 40 * megabyte  # of 256
