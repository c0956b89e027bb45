"""The text of a user's files is part of what was asked; a default is taken once."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from support.engine_factory import TINY, tiny_study

from experiments import studies
from experiments.spec.study import Study, continued, reopened, resolve

FILE = """
import dataclasses
from experiments.spec.study import Study
from workloads.digits_fc import WORKLOAD

def net(**options):
    return {value}

STUDY = Study(
    name="mine", question="Does it run?", workload=dataclasses.replace(WORKLOAD, model=net),
    batch_sizes=(8,), step_budget=5, example_budget=64,
)
"""


def written(path, value=1):
    path.parent.mkdir(exist_ok=True)
    path.write_text(FILE.format(value=value))
    return studies.get(str(path))


def recorded(study, **more):
    """What study.json holds of it."""
    complete = resolve(study)
    described = complete.describe()
    return {"study": described, "dataset": {"checksum": "x"}, "identity": complete.identity("x"), **more}  # noqa: E501  # fmt: skip


def test_the_text_of_the_file_is_recorded_and_in_the_identity(tmp_path):
    first = written(tmp_path / "mine.py")
    text = (tmp_path / "mine.py").read_bytes()
    assert resolve(first).describe()["code"] == {"mine.py": hashlib.sha256(text).hexdigest()}
    again, other = written(tmp_path / "mine.py"), written(tmp_path / "mine.py", 2)
    assert resolve(again).identity("x") == resolve(first).identity("x")
    assert resolve(other).identity("x") != resolve(first).identity("x")
    moved = written(tmp_path / "elsewhere" / "mine.py")
    assert resolve(moved).identity("x") == resolve(first).identity("x")


def test_a_changed_file_is_refused_in_one_line_and_goes_on_where_that_is_allowed(tmp_path):
    begun = recorded(written(tmp_path / "mine.py"))
    assert continued(written(tmp_path / "mine.py"), begun).identity("x") == begun["identity"]
    changed = written(tmp_path / "mine.py", 2)
    with pytest.raises(ValueError, match="--allow-changed-code") as caught:
        continued(changed, begun)
    assert str(caught.value).startswith("mine.py changed since the record was begun (sha256 ")
    assert "\n" not in str(caught.value)
    going_on = continued(changed, begun, allow_changed_code=True)
    assert going_on.identity("x") == begun["identity"]
    assert going_on.code == begun["study"]["code"] != resolve(changed).code
    # Code does not excuse another question.
    longer = dataclasses.replace(changed, step_budget=99)
    assert continued(longer, begun, allow_changed_code=True).identity("x") != begun["identity"]


def test_a_record_is_reopened_with_the_code_it_was_trained_with(tmp_path):
    begun = recorded(written(tmp_path / "mine.py"))
    assert reopened(begun).describe() == begun["study"]
    written(tmp_path / "mine.py", 2)
    with pytest.raises(ValueError, match=r"mine\.py changed since the record was begun"):
        reopened(begun)


def test_two_files_of_one_stem_do_not_mix(tmp_path):
    one, two = written(tmp_path / "a" / "net.py", 1), written(tmp_path / "b" / "net.py", 2)
    assert (one.workload.model(), two.workload.model()) == (1, 2)
    assert one.workload != two.workload
    assert resolve(one).identity("x") != resolve(two).identity("x")


def test_two_files_of_one_name_are_both_recorded(tmp_path):
    """The model of a/net.py and a study of b/net.py: a change of either is another study."""
    model = written(tmp_path / "a" / "net.py", 1).workload.model
    study = written(tmp_path / "b" / "net.py", 2)
    mixed = dataclasses.replace(
        study,
        workload=dataclasses.replace(study.workload, model=model),
        source=str(tmp_path / "b" / "net.py"),
    )
    texts = [(tmp_path / folder / "net.py").read_bytes() for folder in ("a", "b")]
    first, second = (hashlib.sha256(text).hexdigest() for text in texts)
    assert resolve(mixed).describe()["code"] == {"net.py": first, "net.py (2)": second}


def test_a_module_that_the_workload_names_counts_and_an_installed_one_does_not(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_models.py").write_text("def net(**options): return 1\n")
    own = dataclasses.replace(TINY, model="my_models:net")
    assert list(tiny_study(workload=own).code) == ["my_models.py"]
    installed = dataclasses.replace(TINY, model="numpy:array")
    assert tiny_study().code == tiny_study(workload=installed).code == {}


@pytest.mark.parametrize(("few", "many"), [(9, 10), (24, 25), (49, 50)])
def test_more_trials_go_on_in_the_search_space_the_record_was_begun_with(few, many):
    """The default space of Adam grows with the number of trials: at 10, at 25, at 50."""
    plain = dataclasses.replace(TINY, search_spaces={})
    typed = Study("s", "?", plain, (8,), 9, 72, optimizer="adam", trials=few)
    begun = recorded(typed)
    grown = dataclasses.replace(typed, trials=many)
    assert resolve(grown).space.keys() > resolve(typed).space.keys()  # begun now, it would be wider
    going_on = continued(grown, begun)
    assert going_on.space == resolve(typed).space and going_on.trials == many
    assert going_on.identity("x") == begun["identity"]
    stated = dataclasses.replace(grown, space=dict(resolve(grown).space))
    assert continued(stated, begun).identity("x") != begun["identity"]  # what is stated stands
