"""What only a folder of files can get wrong."""

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from sa_ray.errors import ObjectStoreError
from sa_ray.storage.local import ABANDONED_AFTER_S, LocalObjectStore
from tests.support.object_stores import delete, folder_keys


def put(store: LocalObjectStore, key: str, data: bytes = b"sound") -> None:
    store.put(key, data, content_type="audio/wav", filename="clip.wav")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_opening_touches_nothing_and_the_first_put_makes_the_folder(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path / "a" / "b")
    assert store.size("x.wav") is None
    assert not (tmp_path / "a").exists()

    put(store, "x.wav")

    assert (tmp_path / "a" / "b" / "x.wav").read_bytes() == b"sound"


def test_a_relative_folder_stays_where_it_was_when_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = LocalObjectStore(Path("outputs"))
    monkeypatch.chdir("/")

    put(store, "x.wav")

    assert (tmp_path / "outputs" / "x.wav").is_file()


def modes(folder: Path) -> dict[str, int]:
    """Permission bits by path, of what the store made."""
    return {
        path.relative_to(folder).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in folder.rglob("*")
        if ".sa-ray-" not in path.name
    }


def test_what_it_makes_is_readable_by_its_user_alone(tmp_path: Path) -> None:
    put(LocalObjectStore(tmp_path / "outputs"), "x.wav")

    assert modes(tmp_path) == {"outputs": 0o700, "outputs/x.wav": 0o600}


def test_what_another_process_serves_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    (tmp_path / "others").mkdir()
    usual = modes(tmp_path)

    put(LocalObjectStore(tmp_path / "outputs", public_base_url="https://cdn.test"), "x.wav")

    found = modes(tmp_path)
    assert (found["outputs"], found["outputs/x.wav"]) == (usual["others"], usual["other"])


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_a_folder_that_cannot_be_one_is_told_with_the_variable(tmp_path: Path, output: str) -> None:
    (tmp_path / "file").write_text("in the way")
    store = LocalObjectStore(tmp_path / output)

    for use in (store.check, lambda: put(store, "x.wav")):
        with pytest.raises(ObjectStoreError) as refusal:
            use()
        assert not refusal.value.transient
        assert str(tmp_path / output) in refusal.value.message
        assert "STABLE_AUDIO_OUTPUT_DIR" in refusal.value.message


def test_a_full_disk_may_pass_and_leaves_the_old_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalObjectStore(tmp_path)
    put(store, "x.wav", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(ObjectStoreError, match="space") as refusal:
            put(store, "x.wav", b"new")

    assert refusal.value.transient
    assert files(tmp_path) == [tmp_path / "x.wav"]
    assert (tmp_path / "x.wav").read_bytes() == b"old"


def test_a_symbolic_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.wav").write_bytes(b"secret")
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "secret.wav").symlink_to(outside / "secret.wav")
    store = LocalObjectStore(folder)

    for key in ("link/secret.wav", "secret.wav"):
        for use in (
            lambda key=key: put(store, key, b"overwritten"),
            lambda key=key: list(store.read(key)),
            lambda key=key: delete(store, key),
        ):
            with pytest.raises(ObjectStoreError, match="leads out") as refusal:
                use()
            assert not refusal.value.transient

    assert (outside / "secret.wav").read_bytes() == b"secret"


def test_the_folder_itself_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "outputs").symlink_to(tmp_path / "disk")
    store = LocalObjectStore(tmp_path / "outputs")

    put(store, "x.wav")

    assert folder_keys(tmp_path / "disk") == ["x.wav"]
    assert (tmp_path / "disk" / "x.wav").read_bytes() == b"sound"


def test_a_check_removes_what_a_crash_left_and_spares_what_is_being_written(
    tmp_path: Path,
) -> None:
    store = LocalObjectStore(tmp_path)
    put(store, "x.wav")
    (partial,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    abandoned, live = partial / "abandoned", partial / "live"
    for path in (abandoned, live):
        path.write_bytes(b"half")
    long_ago = time.time() - ABANDONED_AFTER_S - 1
    os.utime(abandoned, (long_ago, long_ago))
    assert folder_keys(tmp_path) == ["x.wav"]

    store.check()

    assert not abandoned.exists()
    assert live.exists()
    assert folder_keys(tmp_path) == ["x.wav"]


def test_a_folder_is_not_an_object(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    put(store, "a/x.wav")

    assert store.size("a") is None
    with pytest.raises(ObjectStoreError, match="no object"):
        list(store.read("a"))
    with pytest.raises(ObjectStoreError):
        put(store, "a")


def test_an_object_replaced_during_a_read_is_still_read_whole(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    put(store, "x.wav", b"a" * (3 << 20))
    reading = store.read("x.wav")
    first = next(reading)

    put(store, "x.wav", b"b")

    assert first + b"".join(reading) == b"a" * (3 << 20)
