"""The store: whole entries or none, verified; it says what changed."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

import edgec.core.files
import edgec.run.store
from edgec.core.errors import StorageError
from edgec.core.files import write_atomic
from edgec.core.network import Network
from edgec.run.store import Damaged, Result, Store, key_of

NETWORK = Network.initial("yolov4_tiny", {"classes": 1, "width": 0.25}, 0)
PARTS = {"config": {"epochs": 3, "lr": 0.1}, "seed": 1}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def filled(tmp_path: Path, store: Store) -> str:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("a", encoding="utf-8")
    key = key_of(PARTS)
    store.put(key, PARTS, Result(NETWORK, {"x": 1.5}, tmp_path / "out"))
    return key


def test_what_goes_in_comes_out(tmp_path: Path, store: Store) -> None:
    result = store.get(filled(tmp_path, store))
    assert result is not None
    assert result.network.digest == NETWORK.digest and result.metrics == {"x": 1.5}
    assert (result.files / "a.txt").read_text(encoding="utf-8") == "a"
    assert store.get("0" * 64) is None


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "metrics.json", "files/a.txt", "network.json", "entry.json"]
)
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_damage_in_any_file_is_named_and_computed_again_and_other_entries_stay(
    tmp_path: Path, store: Store, name: str, how: str
) -> None:
    key = filled(tmp_path, store)
    other = key_of(PARTS | {"seed": 2})
    store.put(other, PARTS | {"seed": 2}, Result(NETWORK, {"x": 2.5}, tmp_path / "out"))
    path = store.root / key / name
    match how:
        case "changed":
            text = path.read_bytes()
            path.write_bytes(text[:40] + bytes([text[40] ^ 1]) + text[41:] if len(text) > 40 else b"b")
        case "cut":
            path.write_bytes(path.read_bytes()[:-1])
        case _:
            path.unlink()
    with pytest.raises(Damaged, match=re.escape(f"{key}: damaged") + f".*{re.escape(path.name)}"):
        store.get(key)
    store.put(key, PARTS, Result(NETWORK, {"x": 3.5}, tmp_path / "out"))
    again, untouched = store.get(key), store.get(other)
    assert again is not None and again.metrics == {"x": 3.5}
    assert (again.files / "a.txt").read_text(encoding="utf-8") == "a"
    assert untouched is not None and untouched.metrics == {"x": 2.5}


def test_the_first_writer_wins_unless_asked_to_replace(tmp_path: Path, store: Store) -> None:
    key = filled(tmp_path, store)
    kept = store.put(key, PARTS, Result(NETWORK, {"x": 2.5}, tmp_path / "out"))
    assert kept.metrics == {"x": 1.5}
    replaced = store.put(key, PARTS, Result(NETWORK, {"x": 2.5}, tmp_path / "out"), replace=True)
    assert replaced.metrics == {"x": 2.5}
    assert not any((store.root / "staging").iterdir())


def test_a_read_that_fails_says_so_and_leaves_a_good_entry(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = filled(tmp_path, store)

    def broken(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(edgec.run.store, "sha256_of", broken)
    with pytest.raises(StorageError, match="cannot be read") as told:
        store.get(key)
    assert not isinstance(told.value, Damaged)
    with pytest.raises(StorageError, match="cannot be read"):
        store.put(key, PARTS, Result(NETWORK, {"x": 2.5}, tmp_path / "out"))
    monkeypatch.undo()
    result = store.get(key)
    assert result is not None and result.metrics == {"x": 1.5}


def test_an_entry_that_another_process_may_be_replacing_is_not_called_damaged(
    tmp_path: Path, store: Store
) -> None:
    key = filled(tmp_path, store)
    (store.root / key / "metrics.json").unlink()
    with Store(store.place).making(key):
        assert store.get(key) is None
    with pytest.raises(Damaged):
        store.get(key)


def test_results_of_an_older_edgec_are_left_alone_and_said_once(tmp_path: Path) -> None:
    old = tmp_path / "store" / ("0" * 64)
    old.mkdir(parents=True)
    (old / "entry.json").write_text("{}", encoding="utf-8")
    store = Store(tmp_path / "store")
    assert store.get("0" * 64) is None
    assert "another version of edgec" in store.begin()
    assert store.begin() == "" and Store(tmp_path / "store").begin() == ""
    filled(tmp_path, store)
    assert (old / "entry.json").read_text(encoding="utf-8") == "{}"
    assert Store(tmp_path / "new").begin() == ""


def test_a_network_of_another_format_is_computed_again(tmp_path: Path, store: Store) -> None:
    key = filled(tmp_path, store)
    place = store.root / key / "network.json"
    place.write_text(
        place.read_text(encoding="utf-8").replace('"format": 1', '"format": 9'), encoding="utf-8"
    )
    with pytest.raises(Damaged, match=r"network\.json"):
        store.get(key)


def test_a_read_only_store_gives_results_and_refuses_new_ones(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = filled(tmp_path, store)
    made = Path.mkdir

    def mkdir(path: Path, mode: int = 0o777, **options: bool) -> None:
        if path.is_relative_to(store.place) or path.is_relative_to(tmp_path / "none"):
            raise OSError(errno.EROFS, "Read-only file system")
        made(path, mode, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    reading = Store(store.place)
    result = reading.get(key)
    assert result is not None and result.metrics == {"x": 1.5}
    with pytest.raises(StorageError, match="read-only; set EDGEC_STORE") as told, reading.making("1" * 64):
        pytest.fail("nothing can be made here")
    assert told.value.exit_code == 7
    assert "read-only; set EDGEC_STORE" in Store(tmp_path / "none").begin()
    monkeypatch.undo()
    assert store.begin() == ""
    monkeypatch.setattr(edgec.run.store.os, "access", lambda path, mode: False)
    assert "cannot be written; set EDGEC_STORE" in store.begin()


def test_a_full_disk_loses_neither_the_entry_nor_the_checkpoints(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = filled(tmp_path, store)
    checkpoint = store.work(key) / "scratch" / "epoch"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("half way", encoding="utf-8")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(edgec.core.files.os, "fsync", full)
    with pytest.raises(StorageError, match="no space left") as told:
        store.put(key, PARTS, Result(NETWORK, {"x": 2.5}, tmp_path / "out"), replace=True)
    assert told.value.exit_code == 7
    monkeypatch.undo()
    result = store.get(key)
    assert result is not None and result.metrics == {"x": 1.5}
    assert checkpoint.exists() and not any((store.root / "staging").iterdir())


def test_a_crash_before_the_rename_leaves_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path, store)
    monkeypatch.undo()
    assert store.get(key_of(PARTS)) is None
    assert not any((store.root / "staging").iterdir())


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(edgec.core.files.os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["f"]


def test_it_explains_what_changed_and_asking_changes_nothing(store: Store) -> None:
    assert store.why("s", PARTS) == store.why("s", PARTS) == "not run before"
    assert not store.place.exists()
    store.remember("s", PARTS)
    changed = PARTS | {"config": {"epochs": 3, "lr": 0.2}}
    assert "lr: 0.1 -> 0.2" in store.why("s", changed)
    assert store.why("s", PARTS) == "not finished before"
    assert "seed" in store.why("s", changed | {"seed": 2})


def test_keys_depend_on_every_part() -> None:
    assert len(key_of(PARTS)) == 64
    assert key_of(PARTS) == key_of(dict(reversed(PARTS.items())))
    assert key_of(PARTS) != key_of(PARTS | {"seed": 2})
