"""A subword vocabulary: byte-pair encoding by SentencePiece, the same at every training.

Sennrich et al. 2016, as in Kudo and Richardson 2018. SentencePiece (the extra ``text``) is
imported where it is used.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from workloads.datasets.base import DataError

UNKNOWN, BEGIN, END = 0, 1, 2
"""The first tokens; a character without a token of its own is spelt in bytes, never unknown."""


def _library() -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise DataError(
            "subwords need SentencePiece, which is not installed: pip install 'batchscale[text]'"
        ) from error
    return sentencepiece


def train_vocabulary(sentences: Iterable[str], size: int) -> bytes:
    """A vocabulary of ``size`` tokens: SentencePiece's model file.

    Byte-pair merges of the most frequent pair within words, text taken as it is (no Unicode
    normalisation), characters that cover 99.95 % of the text, 256 bytes for all others. Depends
    on the sentences and the size alone.

    Raises:
      DataError: too little text for so many tokens, or SentencePiece is not installed.
    """
    written = io.BytesIO()
    try:
        _library().SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=written,
            model_type="bpe",
            vocab_size=size,
            normalization_rule_name="identity",
            byte_fallback=True,
            unk_id=UNKNOWN,
            bos_id=BEGIN,
            eos_id=END,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(f"no vocabulary of {size} subwords from this text: {reason}") from error
    return written.getvalue()


def encode(vocabulary: bytes, sentences: Sequence[str]) -> Iterator[np.ndarray]:
    """The tokens of each sentence, uint16, with `END` at its end."""
    processor = _library().SentencePieceProcessor(model_proto=vocabulary)
    for tokens in processor.encode(list(sentences), add_eos=True):
        yield np.array(tokens, np.uint16)


def decode(vocabulary: bytes, tokens: Sequence[int]) -> str:
    """The text of tokens."""
    processor = _library().SentencePieceProcessor(model_proto=vocabulary)
    return str(processor.decode([int(token) for token in tokens]))
