"""The IDX reader: whole files are read exactly, anything else is refused in one line."""

import gzip
import hashlib

import numpy as np
import pytest

from workloads.datasets.base import DataError
from workloads.datasets.idx import decode_idx, encode_idx, read_idx, with_gzip_header


def images():
    return np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0, 3)])
def test_decode_inverts_encode(dtype, shape):
    array = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    decoded = decode_idx(encode_idx(array), "x")
    assert decoded.dtype == array.dtype and np.array_equal(decoded, array)


def test_layout_is_the_published_one():
    assert encode_idx(np.array([[1, 2]], np.int32)) == bytes(
        [0, 0, 0x0C, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]
    )


@pytest.mark.parametrize("compress", [gzip.compress, bytes])
def test_raw_and_gzipped_files_are_read(tmp_path, compress):
    path = tmp_path / "images"
    path.write_bytes(compress(encode_idx(images())))
    assert np.array_equal(read_idx(path), images())


def refused(path, content, sha256=None):
    """The message of the DataError; it must be one line that names the file."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path, sha256)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_faults_are_named(tmp_path):
    path, whole = tmp_path / "f.gz", encode_idx(images())
    zipped = gzip.compress(whole)
    assert "cannot be read" in refused(path, None)
    assert "truncated, expected a whole gzip file" in refused(path, zipped[:-12])
    assert "damaged gzip file" in refused(path, zipped[:15] + b"\xff\xff" + zipped[17:])
    assert "not an IDX file" in refused(path, b"")
    assert "not an IDX file" in refused(path, b"\x00\x01" + whole[2:])
    assert "not an IDX file" in refused(path, b"\x00\x00\x07" + whole[3:])
    assert "expected a header of 16 bytes, got 10" in refused(path, whole[:10])
    assert "truncated, expected 40 bytes, got 39" in refused(path, whole[:-1])
    assert "too long, expected 40 bytes, got 41" in refused(path, whole + b"\x00")


def test_wrong_checksum_names_both_sums(tmp_path):
    whole = encode_idx(images())
    expected = hashlib.sha256(b"something else").hexdigest()
    message = refused(tmp_path / "f", whole, expected)
    assert expected in message and hashlib.sha256(whole).hexdigest() in message


def test_gzip_header_gets_its_name_and_time_back(tmp_path):
    path = tmp_path / "data"
    with gzip.GzipFile(path, "wb", mtime=1504176606) as file:
        file.write(encode_idx(images()))
    published = path.read_bytes()
    stripped = published[:3] + b"\x00" + bytes(4) + published[8:10] + published[15:]
    assert published[10:15] == b"data\x00"
    assert gzip.decompress(stripped) == encode_idx(images())
    assert with_gzip_header(stripped, "data", 1504176606) == published
    assert with_gzip_header(published, "data", 1504176606) == published
