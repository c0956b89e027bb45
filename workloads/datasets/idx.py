"""IDX files (the format of MNIST): read strictly, raw or gzipped.

Layout: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian
int32, then the values in C order, big-endian (LeCun, Cortes, Burges, "THE MNIST DATABASE").
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

from workloads.datasets.base import DataError

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"


def read_content(path: Path) -> bytes:
    """The file's bytes, decompressed where it is gzipped.

    Raises:
      DataError: the file is missing, unreadable, or its gzip stream is cut or damaged.
    """
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not stored.startswith(_GZIP_MAGIC):
        return stored
    try:
        return gzip.decompress(stored)
    except EOFError as error:
        raise DataError(f"{path}: truncated, expected a whole gzip file") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from error


def decode_idx(content: bytes, name: str) -> np.ndarray:
    """The array in an IDX file's bytes, in native byte order.

    Args:
      content: the whole file, decompressed.
      name: what to call it in an error.

    Raises:
      DataError: wrong magic number, or fewer or more bytes than the header announces.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in DTYPES:
        raise DataError(
            f"{name}: not an IDX file, its first bytes are {content[:4].hex() or 'none'}"
        )
    dtype, dimensions = np.dtype(DTYPES[content[2]]), content[3]
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise DataError(
            f"{name}: truncated, expected a header of {header} bytes, got {len(content)}"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, 4))
    expected = header + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        problem = "truncated" if len(content) < expected else "too long"
        raise DataError(f"{name}: {problem}, expected {expected} bytes, got {len(content)}")
    values = np.frombuffer(content, dtype, offset=header).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def encode_idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file that holds ``array``; the inverse of `decode_idx`."""
    stored = np.ascontiguousarray(array, array.dtype.newbyteorder(">"))
    code = next(code for code, name in DTYPES.items() if np.dtype(name) == stored.dtype)
    shape = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, code, array.ndim]) + shape + stored.tobytes()


def check_content(content: bytes, name: str, sha256: str | None) -> None:
    """Refuse (DataError) bytes whose sha256 is not the one expected; None expects nothing."""
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise DataError(f"{name}: sha256 of its content is {found}, expected {sha256}")


def read_idx(path: Path, sha256: str | None = None) -> np.ndarray:
    """The array in an IDX file, raw or gzipped.

    Args:
      path: the file.
      sha256: expected sha256 of the *decompressed* content, so that a file compressed anew
        (Debian's) is recognised as the published one.

    Raises:
      DataError: missing, truncated, damaged, not IDX, or of another content.
    """
    content = read_content(path)
    array = decode_idx(content, str(path))
    check_content(content, str(path), sha256)
    return array


def with_gzip_header(stored: bytes, name: str, time: int) -> bytes:
    """A .gz file's bytes with the original name and modification time back in its header.

    Debian's packages strip both (and nothing else), which changes the file's sha256 though
    not its content; restoring them proves a file byte-identical to the published one
    (RFC 1952, FNAME and MTIME).
    """
    if stored[3] & 0x08:  # the name is still there
        return stored
    flags_and_time = bytes([stored[3] | 0x08]) + time.to_bytes(4, "little")
    return stored[:3] + flags_and_time + stored[8:10] + name.encode() + b"\0" + stored[10:]
