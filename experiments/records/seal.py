"""Checksums: a file of the record that was damaged or changed is refused before it is decoded.

A Parquet part carries, under the key ``batchscale`` of its metadata, a JSON object whose first
field is ``checksum``: the first 128 bits of SHA-256 of the whole file, computed with zeros in the
checksum's place. A JSON file carries a field ``checksum``: the same of its other fields as
canonical JSON (sorted keys, no spaces). Any flipped bit changes the checksum or is the checksum's
own; the chance that other damage passes is 2**-128.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from experiments.records.files import RecordError
from experiments.records.schema import OLD_VERSION, SCHEMA_VERSION

if TYPE_CHECKING:
    import polars as pl

METADATA_KEY = "batchscale"
CHECKSUM = "checksum"
_MARK = f'{{"{CHECKSUM}": "'.encode()
_DIGITS = 32
_ZEROS = b"0" * _DIGITS
_FOOTER_BYTES = 1 << 20
"""The metadata lies in the last bytes of a part."""


def check_version(version: object, where: Path) -> int:
    """``version`` if this code can read it; RecordError naming it otherwise."""
    if version not in (OLD_VERSION, SCHEMA_VERSION) or isinstance(version, bool):
        raise RecordError(
            f"{where} has schema version {version!r}, which is unknown "
            f"(known: {OLD_VERSION}, {SCHEMA_VERSION})"
        )
    return SCHEMA_VERSION if version == SCHEMA_VERSION else OLD_VERSION


def sealed_part(frame: pl.DataFrame, about: Mapping[str, Any]) -> tuple[bytearray, str]:
    """A Parquet file of ``frame`` with ``about`` in its metadata; (its bytes, its checksum)."""
    content = json.dumps({CHECKSUM: _ZEROS.decode(), **about})
    buffer = io.BytesIO()
    frame.write_parquet(buffer, metadata={METADATA_KEY: content})
    data = bytearray(buffer.getvalue())
    at = data.rindex(_MARK) + len(_MARK)
    checksum = hashlib.sha256(data).hexdigest()[:_DIGITS]
    data[at : at + _DIGITS] = checksum.encode()
    return data, checksum


def open_part(path: Path) -> tuple[IO[bytes], dict[str, Any]]:
    """The open file of a part and what its metadata says of it, its checksum verified.

    Raises FileNotFoundError where it is missing, RecordError naming it where it is damaged.
    """
    file = open(path, "rb")  # noqa: SIM115 (the caller's to close: polars reads from it)
    try:
        return file, _verified(file, path)
    except BaseException:
        file.close()
        raise


def _verified(file: IO[bytes], path: Path) -> dict[str, Any]:
    data = memoryview(file.read())
    file.seek(0)
    tail = max(0, len(data) - _FOOTER_BYTES)
    at = bytes(data[tail:]).rfind(_MARK)
    if at < 0:
        raise damaged(path, "it carries no checksum")
    at += tail
    begin = at + len(_MARK)
    digest = hashlib.sha256(data[:begin])
    digest.update(_ZEROS)
    digest.update(data[begin + _DIGITS :])
    if digest.hexdigest()[:_DIGITS].encode() != data[begin : begin + _DIGITS]:
        raise damaged(path, "its checksum differs")
    about: dict[str, Any] = json.JSONDecoder().raw_decode(
        bytes(data[at:]).decode("utf-8", errors="replace")
    )[0]
    return about


def damaged(path: Path, why: str) -> RecordError:
    """The error of a file that cannot be trusted."""
    return RecordError(f"{path} is damaged ({why})")


def sealed_json(content: Mapping[str, Any]) -> bytes:
    """``content`` as indented JSON with its checksum."""
    return (json.dumps({**content, CHECKSUM: _checksum(content)}, indent=2) + "\n").encode()


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The content of a JSON file of the record, verified, without its checksum.

    Args:
      path: the file.
      what: what it should be the record of, for the message.

    Raises:
      FileNotFoundError, NotADirectoryError: there is none.
      RecordError: it cannot be read or was changed, or its schema version is unknown. Files of
        the old version carry no checksum.
    """
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path} cannot be read ({error})") from error
    if not isinstance(content, dict) or "schema_version" not in content:
        raise RecordError(f"{path} is not the record of {what} (it has no schema_version)")
    version = check_version(content["schema_version"], path)
    checksum = content.pop(CHECKSUM, None)
    if version != OLD_VERSION and checksum != _checksum(content):
        raise RecordError(
            f"{path} was damaged or edited (its {CHECKSUM} field differs from its content)"
        )
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]
