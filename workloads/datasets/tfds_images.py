"""MNIST-like datasets through TensorFlow Datasets, read without TensorFlow.

TFDS stores examples in the order of md5(split name + index). Undoing that permutation gives
the arrays of the published IDX files, so the source of a dataset changes neither its bytes
nor its checksum.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import socket
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workloads.datasets.base import DataError
from workloads.datasets.cache import cache_folder
from workloads.datasets.idx import check_content, encode_idx
from workloads.datasets.idx_images import IdxImages, find_files, read_files

NETWORK_TIMEOUT_S = 3.0
READ_CHUNK = 4096
"""Records read at once."""


def tfds_folder(data_dir: Path | None) -> Path:
    """The folder given, or TFDS's own (TFDS_DATA_DIR, else ~/tensorflow_datasets)."""
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return data_dir if data_dir is not None else Path(default).expanduser()


def is_prepared(name: str, data_dir: Path | None) -> bool:
    """Tell whether TFDS prepared the dataset there; cheap, without importing TFDS."""
    return any((tfds_folder(data_dir) / name).glob("*/dataset_info.json"))


def stored_order(split: str, examples: int) -> np.ndarray:
    """[examples] int64: the record at place j of a TFDS split has key ``stored_order[j]``."""
    salt = hashlib.md5(split.encode())

    def hash_of(key: int) -> bytes:
        digest = salt.copy()
        digest.update(str(key).encode())
        return digest.digest()

    return np.array(sorted(range(examples), key=hash_of), np.int64)


def _read_split(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds
    from PIL import Image

    # The stored PNG is decoded here: TFDS's own way takes thrice the time.
    stored = {"image": tfds.decode.SkipDecoding()}
    records = builder.as_data_source(split=split, decoders=stored)
    keys = stored_order(split, len(records))
    images: list[Any] = [None] * len(records)
    labels = np.empty(len(records), np.uint8)
    for start in range(0, len(records), READ_CHUNK):
        places = range(start, min(start + READ_CHUNK, len(records)))
        for key, record in zip(keys[start:], records.__getitems__(places), strict=False):
            images[key] = np.asarray(Image.open(io.BytesIO(record["image"])))
            labels[key] = record["label"]
    return np.stack(images), labels


def read(spec: IdxImages, data_dir: Path | None) -> dict[str, np.ndarray]:
    """The four arrays of a dataset that TFDS prepared, in the order of the IDX files.

    Raises:
      DataError: the content is not the published one, or stored in a format that only
        TensorFlow reads.
    """
    import tensorflow_datasets as tfds

    folder = tfds_folder(data_dir)
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        try:
            builder = tfds.builder(spec.name, data_dir=folder)
            images, labels = _read_split(builder, split)
        except (NotImplementedError, ImportError) as error:
            raise DataError(
                f"{folder / spec.name}: cannot be read without TensorFlow, expected the "
                "array_record format"
            ) from error
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    for role, array in arrays.items():
        name = f"{folder / spec.name} ({role})"
        check_content(encode_idx(array), name, spec.sha256.get(spec.roles[role]))
    return arrays


def prepare(spec: IdxImages, files: Mapping[str, Path], data_dir: Path | None) -> Path:
    """Write TFDS's own version of the dataset from local IDX files; no TensorFlow, no network.

    The stock builder's name, version, features, keys and record order, in the array_record
    format: afterwards ``tfds.data_source(spec.name)`` of any program reads it.

    Args:
      spec: which dataset; TFDS must know it by the same name.
      files: array name -> IDX file, every one verified before it is used.
      data_dir: where to write; TFDS's own folder where None.

    Returns:
      The folder of the prepared dataset. About half a minute for 70,000 images.
    """
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.core import registered

    arrays = read_files(spec, files)
    stock: Any = tfds.builder_cls(spec.name)

    with registered.skip_registration():

        class FromIdxFiles(stock):
            name = spec.name

            def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
                del dl_manager
                return {split: self._generate_examples(split) for split in ("train", "test")}

            def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
                pairs = zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True)
                for index, (image, label) in enumerate(pairs):
                    # A PIL image is encoded by Pillow; an array would need TensorFlow.
                    yield index, {"image": Image.fromarray(image), "label": int(label)}

    builder = FromIdxFiles(data_dir=tfds_folder(data_dir), file_format="array_record")
    settings = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_config=settings)
    return Path(builder.data_dir)


def _reachable(url: str) -> bool:
    """Tell whether a connection to the URL's server (or to the proxy set for it) opens in time."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    server = urllib.parse.urlsplit(proxy) if proxy else parts
    port = server.port or (443 if server.scheme == "https" else 80)
    try:
        socket.create_connection((server.hostname or "", port), NETWORK_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def download(spec: IdxImages) -> dict[str, Path] | None:
    """The IDX files from the addresses TFDS registers, its checksums verified, into the cache.

    Returns:
      Array name -> file, or None where TFDS or the network is not there.

    Raises:
      DataError: what came is not the published file.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        return None
    registered: Mapping[str, Any] = tfds.builder_cls(spec.name).url_infos
    urls = {info.filename: url for url, info in registered.items()}
    wanted = {name: urls[f"{name}.gz"] for name in spec.roles.values()}
    if not all(map(_reachable, {*wanted.values()})):
        return None
    target = cache_folder() / spec.name
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as temporary:
        manager = tfds.download.DownloadManager(
            download_dir=temporary, url_infos=registered, force_checksums_validation=True
        )
        try:
            for name, path in manager.download(wanted).items():
                shutil.move(path, target / f"{name}.gz")
        except Exception as error:  # TFDS raises many kinds; each means the file did not come
            raise DataError(f"{spec.name}: download failed ({error})".splitlines()[0]) from error
    return find_files(spec, target)
