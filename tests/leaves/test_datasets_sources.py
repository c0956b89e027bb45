"""Examples as people have them: read, split by class, prepared by training alone, or refused."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from support.tolerances import FLOAT32_SUMS

from workloads.datasets.base import DataError
from workloads.datasets.idx import encode_idx
from workloads.datasets.labels import SHARES, classes_of, numbered, split_by_class
from workloads.datasets.preparation import Preparation
from workloads.datasets.sources import read_source, rows


def csv(path, text):
    path.write_text(text)
    return str(path)


TABLE = "size,colour,kind\n1,red,a\n2,blue,b\n3.5,red,a\n4,green,b\n"


def test_a_csv_is_columns_of_numbers_and_of_texts(tmp_path):
    found = read_source(csv(tmp_path / "t.csv", TABLE), target="kind")
    assert found.targets.tolist() == ["a", "b", "a", "b"]
    assert found.inputs["size"].tolist() == [1.0, 2.0, 3.5, 4.0]
    assert found.inputs["colour"].tolist() == ["red", "blue", "red", "green"]
    other = read_source(csv(tmp_path / "u.csv", TABLE.replace("3.5", "3.6")), target="kind")
    assert len({found.checksum, other.checksum}) == 2


def test_arrays_idx_files_and_names_are_read(tmp_path):
    x, y = np.arange(24.0).reshape(6, 4), np.array([1, 2, 1, 2, 1, 2])
    np.savez(tmp_path / "a.npz", inputs=x, targets=y)
    found = read_source(str(tmp_path / "a.npz"))
    assert np.array_equal(found.inputs, x) and np.array_equal(found.targets, y)
    assert found.test is None
    images = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    for prefix, count in (("train", 5), ("t10k", 2)):
        for role, array in (("images-idx3", images), ("labels-idx1", images[:, 0, 0])):
            stored = gzip.compress(encode_idx(array[:count]))
            (tmp_path / f"{prefix}-{role}-ubyte.gz").write_bytes(stored)
    found = read_source(str(tmp_path))
    assert found.inputs.shape == (5, 4, 3, 1) and found.test[0].shape == (2, 4, 3, 1)
    digits = read_source("digits")
    assert digits.inputs.shape == (1408, 8, 8, 1) and len(digits.test[1]) == 389


def npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


Y = np.array([0, 1, 0])
BAD = [
    (lambda p: ("digit", None), "source 'digit' is unknown; did you mean 'digits'"),
    (lambda p: (str(p / "x.txt"), None), "source must be a name"),
    (lambda p: (str(p / "x.npz"), None), "cannot be read .*No such file"),
    (lambda p: (str(p), None), "has not the four files train-images-idx3-ubyte"),
    (lambda p: ("digits", "kind"), "--target belongs to a CSV file"),
    (lambda p: (csv(p / "t.csv", TABLE), None), r"--target must be a column of .*\(size, colour"),
    (lambda p: (csv(p / "t.csv", TABLE), "kin"), "--target must be a column of .* got 'kin'"),
    (lambda p: (csv(p / "t.csv", "a,a\n1,2\n"), "a"), "must have distinct names"),
    (lambda p: (csv(p / "t.csv", "a,b\n"), "a"), "must hold a line of names and a line an"),
    (lambda p: (csv(p / "t.csv", "a,b\n1,2\n1\n"), "a"), "line 3 has 1 cells, expected 2"),
    (lambda p: (csv(p / "t.csv", "a,b\n1,\n"), "a"), "column b is empty in line 2"),
    (lambda p: (csv(p / "t.csv", "a,b\n1,2\n2,nan\n"), "a"), "column b must be finite, got nan in"),
    (lambda p: (csv(p / "t.csv", "a\n1\n2\n"), "a"), "has no column beside the target"),
    (lambda p: (npz(p / "a.npz", x=Y), None), "has no array 'inputs'.*it has x"),
    (lambda p: (npz(p / "a.npz", inputs=np.ones((2, 2)), targets=Y), None), "each of the 2 inputs"),
    (lambda p: (npz(p / "a.npz", inputs=np.ones(3), targets=Y), None), "must be numbers"),
    (
        lambda p: (npz(p / "a.npz", inputs=np.array([[1.0], [np.inf], [2]]), targets=Y), None),
        "inputs must be finite, got inf in example 1",
    ),
    (
        lambda p: (npz(p / "a.npz", inputs=np.array([["a"]], object), targets=Y), None),
        "cannot be read .*allow_pickle",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path, make, message):
    source, target = make(tmp_path)
    with pytest.raises((ValueError, DataError), match=message) as raised:
        read_source(source, target)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0.5, 1.0, 2.0], "the target is continuous: 3 different numbers, such as 0.5"),
        ([1.0, np.nan], "the target is continuous: .* such as nan"),
        ([3, 3, 3], "two classes at least, got 3 alone"),
        (["a", "a", "a", "b"], "class b of the target has 1 of 4 examples; every class needs 3"),
        (np.arange(20), "class 0 of the target has 1 of 20 .*continuous target"),
        (np.array([None, "a"], object), "whole numbers or texts, got object"),
    ],
)
def test_a_target_without_classes_is_refused(targets, message):
    with pytest.raises(DataError, match=message):
        classes_of(np.array(targets), 3)


def test_classes_keep_their_labels_and_a_class_of_the_test_split_alone_is_refused():
    for targets in ([5, 3, 5], ["b", "a", "b"], [True, False, True], [5.0, 3.0, 5.0]):
        classes = classes_of(np.array(targets), 1)
        places = numbered(np.array(targets), classes)
        assert places.tolist() == [1, 0, 1] and classes[places].tolist() == targets
    with pytest.raises(DataError, match="class 4 is in the test split alone"):
        numbered(np.array([3, 4]), np.array([3, 5]))


def test_every_class_is_split_in_the_stated_shares_by_the_seed_alone():
    numbers = np.repeat([0, 1, 2], [100, 50, 3])
    found = split_by_class(numbers, 7)
    assert sorted(np.concatenate(list(found.values()))) == list(range(153))
    for split, share in SHARES.items():
        counts = np.bincount(numbers[found[split]]).tolist()
        assert counts == [round(share * 100), round(share * 50), 1]
    assert np.bincount(numbers[found["train"]])[2] == 1
    again, other = split_by_class(numbers, 7), split_by_class(numbers, 8)
    assert all(np.array_equal(found[s], again[s]) for s in found)
    assert not np.array_equal(found["test"], other["test"])


def test_preparation_knows_the_training_split_alone_and_comes_back_from_json():
    train = {"size": np.array([1.0, 3.0]), "flat": np.array([2.0, 2.0]), "c": np.array(["x", "y"])}
    new = {"size": np.array([5.0]), "flat": np.array([9.0]), "c": np.array(["z"])}
    prepared = Preparation.fit(train)
    assert prepared(train).tolist() == [[-1, 0, 1, 0], [1, 0, 0, 1]]
    assert prepared(new).tolist() == [[3, 0, 0, 0]]
    back = Preparation.from_json(prepared.to_json())
    assert back(new).tolist() == prepared(new).tolist() and back.describe() == prepared.describe()


def test_vectors_are_standardised_by_column_and_images_by_channel():
    chance = np.random.default_rng(0)
    for shape in ((50, 3), (50, 4, 5, 3)):
        inputs = chance.normal([1, 10, 100], [1, 2, 3], size=shape)
        found = Preparation.fit(inputs)(inputs)
        assert found.dtype == np.float32 and found.shape == shape
        flat = found.reshape(-1, 3).astype(float)
        assert np.allclose(flat.mean(axis=0), 0, atol=FLOAT32_SUMS)  # at means up to 100
        assert np.allclose(flat.std(axis=0), 1, atol=FLOAT32_SUMS)
    grey = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert Preparation.fit(grey)(grey).shape == (2, 4, 3, 1)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((2, 3)), "inputs must be a table of size, c"),
        ({"size": np.array([1.0])}, "must have the column c, got size"),
        ({"size": np.array(["a"]), "c": np.array(["x"])}, "column size must hold numbers, got 'a'"),
        ({"size": np.array([1.0]), "c": np.array([1.0])}, "column c must hold texts, got"),
        ({"size": np.array([np.nan]), "c": np.array(["x"])}, "column size must be finite, got nan"),
    ],
)
def test_inputs_of_another_form_are_refused(inputs, message):
    prepared = Preparation.fit({"size": np.array([1.0, 2.0]), "c": np.array(["x", "y"])})
    with pytest.raises(ValueError, match=message):
        prepared(inputs)


def test_a_column_of_names_is_no_category():
    names = np.array([f"name {i}" for i in range(101)])
    with pytest.raises(DataError, match="column who holds 101 different texts, such as 'name 0'"):
        Preparation.fit({"who": names})
    with pytest.raises(ValueError, match=r"inputs must be \[n, 4\], got \[2, 3\]"):
        Preparation.fit(np.zeros((3, 4)))(np.zeros((2, 3)))
    assert rows(np.arange(4), np.array([2])).tolist() == [2]


def test_numbers_that_differ_beyond_float32_stay_apart_and_a_constant_is_zero():
    dates = 20240101.0 + np.arange(31)
    inputs = np.stack([dates, np.full(31, 0.1)], axis=1)
    prepared = Preparation.fit(inputs)
    found = prepared(inputs)
    assert found.dtype == np.float32 and len(np.unique(found[:, 0])) == 31
    expected = (np.arange(31) - 15) / np.std(np.arange(31))
    np.testing.assert_array_max_ulp(found[:, 0], expected.astype(np.float32), 1)
    assert not found[:, 1].any() and not prepared(inputs + 0.1)[:, 1].any()
