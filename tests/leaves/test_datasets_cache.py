"""The cache of decoded arrays: damage and half-written entries are seen and rebuilt."""

import numpy as np
import pytest

from workloads.datasets import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


class Builder:
    """Counts how often the arrays had to be built."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"images": np.arange(12.0).reshape(3, 4), "labels": np.arange(3)}


def damage(change):
    build = Builder()
    cache.cached("data", build)
    folder = cache.cache_folder() / "data"
    change(folder)
    arrays = cache.cached("data", build)
    assert np.array_equal(arrays["images"], Builder()()["images"])
    assert cache.retrieve(folder) is not None
    return build.calls


def test_an_intact_entry_is_not_built_again():
    assert damage(lambda folder: None) == 1


def flip_a_bit(folder):
    content = bytearray((folder / "images.npy").read_bytes())
    content[-1] ^= 1
    (folder / "images.npy").write_bytes(content)


def cut(folder):
    content = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "change",
    [
        flip_a_bit,
        cut,
        lambda folder: (folder / "labels.npy").unlink(),
        lambda folder: (folder / cache.SIDECAR).unlink(),
        lambda folder: (folder / cache.SIDECAR).write_text("{"),
        lambda folder: (folder / cache.SIDECAR).write_text("[]"),
    ],
    ids=["bit", "cut", "array missing", "sidecar missing", "sidecar cut", "sidecar foreign"],
)
def test_a_damaged_entry_is_rebuilt(change):
    assert damage(change) == 2


def test_a_crash_while_storing_leaves_no_entry_and_no_temporary_file():
    class Unwritable:
        def __array__(self, *unused, **unused_too):
            raise OSError("disk full")

    folder = cache.cache_folder() / "data"
    with pytest.raises(OSError, match="disk full"):
        cache.store(folder, {"images": np.arange(3), "labels": Unwritable()})
    assert cache.retrieve(folder) is None
    assert [path.name for path in folder.iterdir()] == ["images.npy"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    build = Builder()
    assert set(cache.cached("data", build)) == {"images", "labels"}
    assert build.calls == 1


def test_folder_follows_the_environment(tmp_path, monkeypatch):
    assert cache.cache_folder() == tmp_path / "batchscale" / "datasets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.cache_folder() == tmp_path / "home" / ".cache" / "batchscale" / "datasets"
