"""The One Billion Word Benchmark (Chelba et al. 2013): sentences of news in subwords, by TFDS.

The vocabulary is ours: 32,000 byte-pair subwords (workloads/datasets/subwords.py) learned from
the first 1,000,000 training sentences in TFDS's order. Losses per subword compare only where the
vocabulary is the same; its sha256 is part of the dataset's checksum. An example is one sentence,
as the corpus shuffles them. Splits (ours): TFDS's training sentences train, of its test
sentences the first half validates and the second tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from workloads.datasets.base import DataError, Dataset, Stored
from workloads.datasets.cache import Arrays, cached
from workloads.datasets.splits import part
from workloads.datasets.subwords import BEGIN, encode, train_vocabulary
from workloads.datasets.tfds_records import Records, build_command, open_records

VOCABULARY = 32_000
VOCABULARY_SENTENCES = 1_000_000
SEQUENCE_LENGTH = 64
READ_CHUNK = 10_000


def _sentences(records: Records, count: int) -> Iterator[list[str]]:
    """The first ``count`` sentences, in lists of at most `READ_CHUNK`."""
    for start in range(0, min(count, len(records)), READ_CHUNK):
        numbers = range(start, min(start + READ_CHUNK, count, len(records)))
        texts = [record["text"] for record in records.read(numbers)]
        try:
            yield [text.decode() for text in texts]
        except UnicodeDecodeError as error:
            raise DataError(
                f"{records.place} records {numbers[0]}..{numbers[-1]}: not UTF-8 at byte "
                f"{error.start} of one, expected UTF-8 text"
            ) from error


def _tokens(records: Records, vocabulary: bytes) -> tuple[np.ndarray, np.ndarray]:
    """All sentences end to end, uint16, and where each starts, int64 [n + 1]."""
    pieces, lengths = [], [np.zeros(1, np.int64)]
    for sentences in _sentences(records, len(records)):
        encoded = list(encode(vocabulary, sentences))
        pieces.append(np.concatenate(encoded))
        lengths.append(np.array([len(tokens) for tokens in encoded], np.int64))
    return np.concatenate(pieces), np.cumsum(np.concatenate(lengths))


def tokenised(records: dict[str, Records], vocabulary_size: int, sentences: int) -> Arrays:
    """``vocabulary``, and ``{train,test}_{tokens,starts}``."""
    first = (s for part_ in _sentences(records["train"], sentences) for s in part_)
    vocabulary = train_vocabulary(first, vocabulary_size)
    arrays = {"vocabulary": np.frombuffer(vocabulary, np.uint8)}
    for split in ("train", "test"):
        tokens, starts = _tokens(records[split], vocabulary)
        arrays |= {f"{split}_tokens": tokens, f"{split}_starts": starts}
    return arrays


def stored_sentences(tokens: np.ndarray, starts: np.ndarray, length: int, identity: str) -> Stored:
    """Sentences as examples: inputs [k, length] uint16, targets [k, length] int32.

    The targets are a sentence's tokens with its end, cut at ``length``, then -1 (padding); the
    inputs are the same one place later, after `BEGIN`, then `BEGIN` again.
    """
    places = np.arange(length)

    def read(numbers: np.ndarray) -> dict[str, np.ndarray]:
        first = starts[numbers]
        counted = places[None, :] < (starts[np.asarray(numbers) + 1] - first)[:, None]
        words = tokens[np.where(counted, first[:, None] + places[None, :], 0)].astype(np.int32)
        targets = np.where(counted, words, np.int32(-1))
        inputs = np.full(targets.shape, BEGIN, np.uint16)
        inputs[:, 1:] = np.where(counted[:, 1:], words[:, :-1], BEGIN)
        return {"inputs": inputs, "targets": targets}

    return Stored(len(starts) - 1, read, f"{identity} in {length} tokens")


def load(
    *,
    data_dir: str | None = None,
    sequence_length: int = SEQUENCE_LENGTH,
    vocabulary: int = VOCABULARY,
    vocabulary_sentences: int = VOCABULARY_SENTENCES,
) -> Dataset:
    """Sentences in subwords: inputs [n, T] uint16, targets [n, T] int32, -1 where padded.

    Tokenised once, into the user's cache (about 2 GB; some 20 minutes of one core, at the 42 us
    measured for a Bible verse, and 4 GB of memory), and read from there.

    Args:
      data_dir: where TFDS prepared lm1b; its own folder where None.
      sequence_length: T; what a sentence has beyond is cut.
      vocabulary: number of subwords.
      vocabulary_sentences: they are learned from the first so many training sentences.

    Raises:
      DataError: not prepared (the line says how to), a missing split, text that is not UTF-8.
      ValueError: an option that is not a positive whole number, or over 65,535 subwords.
    """
    for option, value, high in (
        ("sequence_length", sequence_length, None),
        ("vocabulary", vocabulary, 1 << 16),
        ("vocabulary_sentences", vocabulary_sentences, None),
    ):
        if not isinstance(value, int) or value < 1 or (high and value >= high):
            at_most = f" below {high:,}" if high else ""
            raise ValueError(f"{option} must be a positive whole number{at_most}, got {value!r}")
    records = open_records("lm1b", data_dir, ("train", "test"), build_command("lm1b"))
    identity = f"{records['train'].identity()} {records['test'].identity()}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:12]
    arrays = cached(
        f"lm1b/{key}-{vocabulary}-{vocabulary_sentences}",
        lambda: tokenised(records, vocabulary, vocabulary_sentences),
        mapped=True,
    )
    pieces = hashlib.sha256(arrays["vocabulary"].tobytes()).hexdigest()
    train, test = (
        stored_sentences(
            arrays[f"{split}_tokens"],
            arrays[f"{split}_starts"],
            sequence_length,
            f"{records[split].identity()} in subwords {pieces}",
        )
        for split in ("train", "test")
    )
    border = test.size // 2
    splits = {
        "train": train,
        "validation": part(test, 0, border),
        "test": part(test, border, test.size),
    }
    source = f"TFDS lm1b; {vocabulary:,} SentencePiece subwords, sha256 {pieces}"
    return Dataset("lm1b", splits, vocabulary, source)
