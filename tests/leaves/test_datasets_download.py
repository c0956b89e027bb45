"""Downloading Fashion-MNIST through the addresses and checksums that TFDS registers.

The network is a proxy in this process that answers for the publisher's server with the
publisher's own bytes (rebuilt from Debian's files), or with damaged ones.
"""

import http.server
import threading

import pytest

from workloads import datasets
from workloads.datasets import cache, idx_sources, tfds_images
from workloads.datasets.base import DataError
from workloads.datasets.fashion_mnist import FASHION_MNIST
from workloads.datasets.idx import with_gzip_header
from workloads.datasets.idx_images import find_files

PUBLISHED_TIMES = {"train": 1504176606, "t10k": 1504176627}


@pytest.fixture(scope="module")
def published(fashion_mnist):
    """File name -> the publisher's bytes."""
    return {
        path.name: with_gzip_header(
            path.read_bytes(),
            path.name.removesuffix(".gz"),
            PUBLISHED_TIMES[path.name.split("-")[0]],
        )
        for path in fashion_mnist.values()
    }


@pytest.fixture
def proxy(published, tmp_path, monkeypatch):
    """A dict of what the network answers; every request goes through it."""
    answers = dict(published)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = answers.get(self.path.rsplit("/", 1)[-1])
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *unused):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, address)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    # As on a machine without Debian's package.
    monkeypatch.setattr(idx_sources, "_system_folders", lambda spec: ())
    yield answers
    server.shutdown()
    server.server_close()
    thread.join()


def test_published_files_arrive_in_the_cache_and_load(proxy):
    loaded = datasets.load("fashion_mnist")
    assert find_files(FASHION_MNIST, cache.cache_folder() / "fashion_mnist")
    assert loaded.size("train") == 55_000
    proxy.clear()  # the second load needs no network
    assert datasets.load("fashion_mnist").checksum == loaded.checksum


def test_a_damaged_download_is_refused_in_one_line(proxy):
    proxy["train-labels-idx1-ubyte.gz"] = proxy["train-labels-idx1-ubyte.gz"][:-1] + b"!"
    with pytest.raises(DataError, match="fashion_mnist: download failed") as caught:
        datasets.load("fashion_mnist")
    assert "\n" not in str(caught.value)
    assert find_files(FASHION_MNIST, cache.cache_folder() / "fashion_mnist") is None


def test_without_a_network_the_ways_are_named(proxy, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert tfds_images.download(FASHION_MNIST) is None
    with pytest.raises(DataError, match="dataset-fashion-mnist"):
        datasets.load("fashion_mnist")
