"""Subwords of real text, and lm1b as TFDS prepares it, with verses in the place of news."""

import dataclasses

import numpy as np
import pytest
from support import tfds_factory

import workloads
from experiments.records.store import read
from experiments.runner.study import run_study
from experiments.spec.study import Study
from workloads import datasets
from workloads.datasets.base import DataError
from workloads.datasets.describe import describe
from workloads.datasets.subwords import BEGIN, END, UNKNOWN, decode, encode, train_vocabulary

SIZE = 1000
VERSES = 2746
"""Of Genesis and Exodus."""


@pytest.fixture(scope="module")
def verses(bible):
    return bible[:VERSES]


@pytest.fixture(scope="module")
def vocabulary(verses):
    return train_vocabulary(verses, SIZE)


@pytest.fixture(scope="module")
def folder(verses, tmp_path_factory):
    splits = {"train": verses[:2000], "test": verses[2000:]}
    examples = {name: [{"text": verse} for verse in chosen] for name, chosen in splits.items()}
    return tfds_factory.prepare("lm1b", tmp_path_factory.mktemp("tfds"), examples)


@pytest.fixture
def options(folder, tmp_path_factory, monkeypatch):
    """A small lm1b, in a cache of this test run's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    return {"data_dir": str(folder), "vocabulary": SIZE, "vocabulary_sentences": 1500}


def refused(call):
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_vocabulary_is_the_same_every_time_and_depends_on_the_text(verses, vocabulary):
    assert train_vocabulary(verses, SIZE) == vocabulary
    assert train_vocabulary(verses[:-1], SIZE) != vocabulary


def test_tokens_give_the_text_back_also_where_a_character_was_never_seen(verses, vocabulary):
    texts = [*verses[:50], "naïve Ærøskøbing 😀"]
    for text, tokens in zip(texts, encode(vocabulary, texts), strict=True):
        assert tokens.dtype == np.uint16 and tokens[-1] == END and tokens.max() < SIZE
        assert not {UNKNOWN, BEGIN, END} & set(tokens[:-1].tolist())
        assert decode(vocabulary, tokens[:-1]) == text


def test_too_little_text_is_said():
    assert "no vocabulary of 1000 subwords from this text" in refused(
        lambda: train_vocabulary(["a few words"], SIZE)
    )


def test_an_example_is_a_sentence_and_its_end_and_what_is_padded_counts_nowhere(verses, options):
    loaded = datasets.load("lm1b", sequence_length=40, **options)
    sizes = {split: loaded.size(split) for split in loaded.splits}
    half = (VERSES - 2000) // 2
    assert sizes == {"train": 2000, "validation": half, "test": half}
    vocabulary, found = train_vocabulary(ordered(options, 1500), SIZE), set()
    for split in loaded.splits.values():
        arrays = split.read(np.arange(split.size))
        inputs, targets = arrays["inputs"], arrays["targets"]
        assert inputs.shape == targets.shape == (split.size, 40)
        assert inputs.dtype == np.uint16 and targets.dtype == np.int32
        assert (inputs[:, 0] == BEGIN).all()
        counted = targets >= 0
        assert (inputs[:, 1:][counted[:, 1:]] == targets[:, :-1][counted[:, 1:]]).all()
        assert (counted[:, :-1] >= counted[:, 1:]).all()  # padding is at the end alone
        for row, kept in zip(targets, counted, strict=True):
            if not kept.all():
                assert row[kept][-1] == END
                found.add(decode(vocabulary, row[kept][:-1]))
    short = {v for v, t in zip(verses, encode(vocabulary, verses), strict=True) if len(t) < 40}
    assert found == short and len(short) > 500


def ordered(options, count):
    """The first training sentences in the order TFDS stores them."""
    import tensorflow_datasets as tfds

    source = tfds.data_source("lm1b", split="train", data_dir=options["data_dir"])
    return [source[place]["text"].decode() for place in range(count)]


def test_the_cache_serves_the_second_time_and_damage_is_rebuilt(options, monkeypatch):
    first = datasets.load("lm1b", **options)
    calls = []
    from workloads.datasets import lm1b

    real = lm1b.tokenised
    monkeypatch.setattr(lm1b, "tokenised", lambda *given: calls.append(given) or real(*given))
    again = datasets.load("lm1b", **options)
    assert again.checksum == first.checksum and not calls
    from workloads.datasets.cache import cache_folder

    (tokens,) = cache_folder().glob("lm1b/*/train_tokens.npy")
    content = tokens.read_bytes()
    tokens.write_bytes(content[: len(content) // 2])
    assert datasets.load("lm1b", **options).checksum == first.checksum and len(calls) == 1


def test_the_checksum_knows_vocabulary_and_length(options):
    base = datasets.load("lm1b", **options).checksum
    for change in ({"vocabulary": 900}, {"sequence_length": 8}, {"vocabulary_sentences": 1499}):
        assert datasets.load("lm1b", **{**options, **change}).checksum != base


def test_what_data_says_of_it(options):
    said = describe("lm1b", options.pop("data_dir"), **options)
    assert "1,000 SentencePiece subwords, sha256 " in said["source"]
    assert said["splits"]["train"]["looked_at"] == 1024
    assert said["mean_image"] is None


def test_the_workload_trains_on_it_streamed(options, tmp_path):
    """LM1B's Transformer, smaller, for a few steps of a study: the loss starts at ln(1000)."""
    model = {"layers": 1, "width": 32, "feed_forward": 32, "heads": 2, "vocabulary": SIZE}
    chosen = {name: value for name, value in options.items() if name != "data_dir"}
    workload = dataclasses.replace(
        workloads.get("lm1b_transformer"),
        model_options=model,
        dataset_options={
            **chosen,
            "train_examples": 2000,
            "validation_examples": 32,
            "sequence_length": 24,
        },
    )
    fixed = {"learning_rate": 0.3, "momentum": 0.9}
    study = Study(
        "verses", "?", workload, (8,), step_budget=30, example_budget=240, trials=1, space={},
        fixed=fixed, train_evaluation_examples=8,
    )  # fmt: skip
    folder = run_study(
        study, tmp_path / "verses", data_dir=options["data_dir"], execution="scan", stream=True
    )
    entropy = read(folder).evaluations["validation/cross_entropy"]
    assert abs(entropy[0] - np.log(SIZE)) < 0.2 and entropy[-1] < entropy[0] - 0.5


def test_faults_are_named(verses, folder, tmp_path, options, monkeypatch):
    said = refused(lambda: datasets.load("lm1b", str(tmp_path)))
    assert "tfds build lm1b --file_format=array_record" in said and str(tmp_path) in said
    latin = {"train": [{"text": b"caf\xe9"}] * 3, "test": [{"text": "x"}]}
    other = tfds_factory.prepare("lm1b", tmp_path / "latin", latin)
    said = refused(lambda: datasets.load("lm1b", **{**options, "data_dir": str(other)}))
    assert f"{other}/lm1b (train) records 0..2: not UTF-8 at byte 3" in said
    with pytest.raises(ValueError, match="vocabulary must be a positive whole number below 65,536"):
        datasets.load("lm1b", vocabulary=1 << 16)
    monkeypatch.setitem(__import__("sys").modules, "sentencepiece", None)
    assert "pip install 'batchscale[text]'" in refused(lambda: train_vocabulary(verses, 10))
