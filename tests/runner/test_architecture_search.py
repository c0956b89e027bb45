"""A search for an architecture: one program, packs, kills, the page, bad input."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from support import architecture_child
from support.architecture_child import SPACE, asked

from experiments.cli import main
from experiments.records.store import read
from experiments.report.architecture_figure import edges, found_architecture, layers, places
from experiments.report.search_page import write_search_report
from experiments.runner import search_models
from experiments.runner.search import run_search
from experiments.search.architecture.cells import chosen_edges, every_edge
from experiments.search.architecture.operations import OPERATIONS
from experiments.search.architecture.question import architecture_search
from experiments.search.architecture.recorded import space_from_json, space_to_json
from experiments.search.architecture.space import Space
from experiments.search.architecture.stacks import stacks
from experiments.search.architecture.streams import Stream
from workloads import datasets
from workloads.architectures import Skeleton
from workloads.models.linen import Context

NAMES = [name for name, _ in SPACE.choices]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """(folder, what was found, programs) of the search that the others are compared with."""
    folder = tmp_path_factory.mktemp("packed")
    programs = []
    made = search_models.Program

    def counted(*args, **kwargs):
        programs.append(made(*args, **kwargs))
        return programs[-1]

    search_models.Program = counted
    try:
        return folder, architecture_child.run(folder), programs
    finally:
        search_models.Program = made


def table(found):
    return found.table.drop("seconds")


def test_architectures_train_in_a_pack_by_one_program(packed):
    folder, found, programs = packed
    assert len(programs) == 1
    assert {key[2] for key in programs[0].traces} == {2}  # slots
    assert all(count == 1 for count in programs[0].traces.values())
    trials = found.table
    assert trials["status"].to_list() == ["COMPLETE"] * 8
    codes = [tuple(row) for row in trials.select(NAMES).iter_rows()]
    built = {SPACE.build(dict(zip(NAMES, code, strict=True))) for code in codes}
    assert len(built) == 8
    assert trials["round"].to_list() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert set(trials["source"]) == {"evolution"}
    assert not (folder / "record" / "trials").exists()


def test_the_pack_and_plain_modules_measure_the_same(packed, tmp_path):
    """The same architecture, a program of its own: equal to rounding."""
    _, found, _ = packed
    plain = run_search(asked(packed=False, trials=1, budget=1), tmp_path / "record", show=False)
    assert plain.table.select(NAMES).equals(found.table.head(1).select(NAMES))
    ours, theirs = (one.searched.curves["value"][0] for one in (found, plain))
    assert abs(ours - theirs) <= 2 / 384  # two examples of the validation set


@pytest.mark.parametrize("at", [3])
def test_killed_the_same_call_makes_the_same_record(packed, tmp_path, at):
    _, whole, _ = packed
    child = [sys.executable, architecture_child.__file__, str(tmp_path), "asked"]
    settings = {**os.environ, "KILL": str(at)}
    ended = subprocess.run(child, env=settings, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert len(read(tmp_path / "record").trials) < 8
    again = architecture_child.run(tmp_path)
    assert table(again).equals(table(whole), null_equal=True)
    assert again.searched.curves.equals(whole.searched.curves)


def test_the_page_shows_the_best_architecture_from_the_record_alone(packed):
    folder, found, _ = packed
    architecture = found_architecture(found.searched)
    assert architecture is not None
    best = found.searched.best
    assert architecture == SPACE.build({name: best[name] for name, _ in SPACE.choices})
    page = write_search_report(found.searched, folder / "record")
    text = page.read_text()
    assert "The best architecture" in text and "parameters, " in text
    assert "regularised evolution: tournament and ageing (population 4, sample 3)" in text
    assert (page.parent / "figures" / "architecture.svg").stat().st_size > 1000


def test_a_record_of_operations_that_are_not_in_the_table_has_a_page_without_a_picture(
    packed, monkeypatch, tmp_path
):
    """They were added by the file that searched, which `report` does not read."""
    folder, found, _ = packed
    shutil.copytree(folder / "record", tmp_path / "record")
    for name in ("dense", "relu"):
        monkeypatch.delitem(OPERATIONS, name)
    page = write_search_report(found.searched, tmp_path / "record")
    assert "The best architecture" not in page.read_text()
    assert "regularised evolution" in page.read_text()


def test_the_best_model_computes_what_was_measured(packed):
    """Trained again by itself, with the weights of its architecture."""
    _, found, _ = packed
    module, params, statistics = found.best_model()
    split = datasets.load("digits").splits["validation"]
    count = len(split["inputs"])
    chosen = asked().weights(found.best)
    context = Context(False, None, np.arange(count), np.ones(count), chosen)
    logits = module.apply({"params": params}, split["inputs"], context)
    wrong = (np.asarray(logits).argmax(-1) != split["targets"]).mean()
    assert not statistics
    assert abs(wrong - found.value) <= 2 / count


def test_nodes_of_a_picture_stand_behind_what_they_read():
    for space in (every_edge(4), chosen_edges(3)):
        stream = Stream("test pictures", 1)
        for _ in range(20):
            for _, graph in space.architecture(space.sample(stream)).graphs:
                at, layer = places(graph), layers(graph)
                assert len({tuple(place) for place in at}) == len(graph.nodes)
                for i, j, times in edges(graph):
                    assert layer[i] < layer[j] and times >= 1


@pytest.mark.parametrize(
    "space",
    [SPACE, chosen_edges(2), stacks((8, 8, 1), 10, (1, 2), ("conv3x3",), (4,), skips=True)],
    ids=lambda space: space.name,
)
def test_a_space_comes_back_from_its_record(space):
    again = space_from_json(space_to_json(space))
    assert again == space
    code = space.sample(Stream("test recorded", 0))
    assert again.architecture(code) == space.architecture(code)


def test_a_space_of_a_users_own_builds_has_no_picture():
    own = Space("own", SPACE.choices, lambda options: SPACE.build(options))
    assert space_from_json(space_to_json(own)) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "evoluton"}, "'evoluton' is unknown; did you mean 'evolution'"),
        ({"settings": {"populations": 4}}, "settings .* are not those of the strategy evolution"),
        ({"settings": {"population": 0}}, "population and sample are whole numbers"),
        ({"at_once": 0}, "at_once must be a whole number from 1 on, got 0"),
        ({"workload": "digit_fc"}, "'digit_fc' is unknown"),
        ({"pruner": "hyperband"}, "pruner must be none, patience or extrapolation"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        run_search(asked(**change), tmp_path / "record", show=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "record").exists()


@pytest.mark.parametrize(
    ("space", "network", "message"),
    [
        (stacks((4,), 2, (1,), ("conv3x3",), (8,)), (4,), "no legal architecture: node 1: a 3x3"),
        (chosen_edges(2, cells=("normal",)), Skeleton((8, 8, 1), 10, 4),
         "joins its inputs: shapes differ"),
        (stacks((4,), 2, (1,), ("dense",), (8,)), (4,), "needs cells in a Skeleton"),
        (every_edge(5), Skeleton((8, 8, 1), 10, 4), "at most 20,000 codes, got 9,765,625"),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_packed_says_why(space, network, message):
    with pytest.raises(ValueError, match=message) as caught:
        architecture_search(space, network, packed=True, workload="digits_fc")
    assert "\n" not in str(caught.value)


CYCLE = """Space("mine", (("size", (1, 2)),), lambda options: Architecture.of(normal=Graph((
    Node("input"), Node("relu", (2,)), Node("relu", (1,)), Node("output", (2,))))))"""


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ('stacks((64,), 2, (1,), ("conv3x3",), (8,))',
         "space stacks of up to 1 layers has no legal architecture: node 1: a 3x3 convolution"),
        (CYCLE, "space mine has no legal architecture: node 1 (relu) reads node 2: a node reads"),
        ('every_edge(3, ("none", "max_pool2x2"))', "operation 'max_pool2x2' changes shape"),
    ],
    ids=["no legal architecture", "a cycle", "another shape"],
)  # fmt: skip
def test_the_command_refuses_a_space_in_one_line(tmp_path, monkeypatch, capsys, space, message):
    monkeypatch.chdir(tmp_path)
    study = tmp_path / "mine.py"
    study.write_text(
        "from experiments.search.architecture.cells import every_edge\n"
        "from experiments.search.architecture.graph import Graph, Node\n"
        "from experiments.search.architecture.question import architecture_search\n"
        "from experiments.search.architecture.space import Architecture, Space\n"
        "from experiments.search.architecture.stacks import stacks\n"
        f"STUDY = architecture_search({space}, (64,), workload='digits_fc')\n"
    )
    for command in ("run", "plan"):
        assert main([command, "mine.py"]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["mine.py"]


def test_slots_need_one_batch_size():
    with pytest.raises(ValueError, match="slots must be a power of two"):
        dataclasses.replace(asked(), slots=3)
