"""`make data`: Debian's packages into the user's cache, without root, or one line on what failed.

`apt-get download` is played by a program that puts real .deb files where apt would.
"""

import os
import subprocess

import pytest
from support import machine

from workloads.datasets import cache, fetch, text
from workloads.datasets.base import DataError
from workloads.datasets.fashion_mnist import FASHION_MNIST
from workloads.datasets.idx_images import find_files

PLAYED = """#!/bin/sh
echo "$*" >>{folder}/asked
test -e {folder}/lists || case $* in
  *update) touch {folder}/lists; exit ;;
  *) echo "E: Unable to locate package" >&2; exit 100 ;;
esac
while [ "$1" != download ]; do shift; done
shift
for package; do cp {folder}/$package.deb $PWD || exit 100; done
"""
"""Knows no package before it was asked to update its lists."""


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """The folder of what it offers."""
    folder = tmp_path / "apt"
    folder.mkdir()
    (folder / "apt-get").write_text(PLAYED.format(folder=folder))
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def offer(folder, name, files):
    """A .deb file, made by dpkg-deb itself, of these paths and contents."""
    root = folder / f"{name}.root"
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        (root / path).chmod(0o755)
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 0\nArchitecture: all\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: test\n"
    )
    command = ["dpkg-deb", "-Znone", "-b", str(root), str(folder / f"{name}.deb")]
    subprocess.run(command, check=True, capture_output=True)


def offer_text(folder, content):
    program = b'#!/bin/sh\ntest "$*" = "-p $2 -f gen1:1-rev22:21" && cat "$2/bible.data"\n'
    offer(folder, "bible-kjv", {"usr/bin/bible": program})
    offer(folder, "bible-kjv-text", {"usr/lib/bible.data": content})


def test_images_are_fetched_once_and_verified(fashion_mnist, apt, monkeypatch):
    inside = FASHION_MNIST.folders[0].lstrip("/")
    contents = {f"{inside}/{path.name}": path.read_bytes() for path in fashion_mnist.values()}
    offer(apt, "dataset-fashion-mnist", contents)
    target = fetch.fetch_fashion_mnist()
    assert target == cache.cache_folder() / "fashion_mnist"
    assert find_files(FASHION_MNIST, target) is not None
    first, update, again = (apt / "asked").read_text().splitlines()
    assert first == "download dataset-fashion-mnist"
    # Where apt has no lists, or root's alone, they are fetched into a folder of our own.
    assert "Dir::State=" in update and update.endswith(" update") and again.endswith(first)
    monkeypatch.setenv("PATH", "")  # a second time nothing needs to be fetched
    assert fetch.fetch_fashion_mnist() == target


@pytest.mark.needs("bible")
def test_the_text_is_what_the_packages_program_prints(apt, monkeypatch):
    content = machine.bible_text()
    offer_text(apt, content)
    target = fetch.fetch_text()
    assert target == cache.cache_folder() / "text" / "bible-kjv.txt"
    monkeypatch.setenv("PATH", "")
    assert fetch.fetch_text() == target
    assert text.read_bible() == content
    target.write_bytes(content[:-1])
    for read in (text.read_bible, fetch.fetch_text):
        with pytest.raises(DataError, match=r"bible-kjv\.txt: sha256 \w{8}, expected cd45f0c9"):
            read()


def test_another_text_is_refused(apt):
    offer_text(apt, b"In the beginning was the Word.")
    with pytest.raises(DataError, match="bible-kjv and bible-kjv-text: sha256"):
        fetch.fetch_text()
    assert not text.cached_bible().exists()


def test_what_is_missing_is_said_in_one_line_each(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fetch.main() == 2
    images, words = capsys.readouterr().err.splitlines()
    assert images.startswith("error: Fashion-MNIST: cannot download dataset-fashion-mnist")
    assert words.startswith("error: text: cannot download bible-kjv and bible-kjv-text")
    assert images.endswith("apt-get is not on this machine")
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho 'E: no such package' >&2\nexit 100\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert fetch.main() == 2
    assert all(line.endswith("E: no such package") for line in capsys.readouterr().err.splitlines())
    assert not cache.cache_folder().exists()
