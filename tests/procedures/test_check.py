"""check: faults planted in data, models, losses and gradients are found, sound workloads pass."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from support.engine_factory import TINY
from support.tolerances import FLOAT32_SUMS

from experiments.analysis import sanity, sanity_pipeline
from experiments.cli import main
from experiments.diagnostics import sanity as measure
from experiments.diagnostics.gradient_check import check_gradient
from experiments.diagnostics.overlap import near_copies, overlaps
from experiments.procedures.bench import Bench, BenchRequest
from experiments.procedures.budget import Budget, BudgetEnds
from experiments.procedures.check import CHECKS, check, plain
from experiments.procedures.procedure import Running
from experiments.records.seal import read_json
from experiments.report.sanity_figures import layer_histograms
from workloads.base import Losses
from workloads.datasets.base import Dataset
from workloads.losses import CLASSIFICATION
from workloads.models.linen import LinenModel

DIFFERENCES = 1e-7
"""Central differences in float64 where the loss is smooth, relative."""
NEARLY_ZERO = 1e-9
"""The same of a derivative that is 0."""
HALVES = 1e-5
"""A derivative that is doubled is off by a third, but for both of their errors."""
RIGHT = 1e-6
"""Of the derivatives of a net, the worst."""
OF_A_NET = 1e-3
"""A net's doubled derivatives: the third, where the least are small beside the loss."""

QUICK = BenchRequest(steps=50, learning_rate=3e-3)


class Planted(nn.Module):
    """A small net with one fault."""

    fault: str
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs, context):
        dense = {"dtype": self.param_dtype, "param_dtype": self.param_dtype}
        if self.fault == "ignores":
            inputs = jnp.zeros_like(inputs)
        bias = nn.initializers.constant(-100.0 if self.fault == "dead" else 0.0)
        x = nn.Dense(16, bias_init=bias, **dense)(inputs.reshape(len(inputs), -1))
        if self.fault == "mixes":
            x = x - x.mean(axis=0, keepdims=True)
        x = nn.relu(x)
        return nn.Dense(10, **dense)(x)


@jax.custom_vjp
def doubled(x):
    """The identity with a gradient twice too large."""
    return x


doubled.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))


class Cheat:
    """A model that reads its targets."""

    def init(self, key, batch):
        return {"scale": jnp.ones(())}, {}

    def apply(self, params, state, batch, *, key, train, hyperparameters):
        return params["scale"] * 9 * jax.nn.one_hot(batch["targets"], 10), state


def planted(*, fault, dtype, param_dtype):
    """The model of a fault."""
    return Cheat() if fault == "cheats" else LinenModel(Planted(fault, param_dtype))


def lost(outputs, batch, hyperparameters):
    """A loss without the smoothing that the workload states."""
    return CLASSIFICATION.objective(outputs, batch, {})


def tripled(outputs, batch, hyperparameters):
    """A loss whose count is a third of the examples."""
    sums, counts = CLASSIFICATION.objective(outputs, batch, hyperparameters)
    return sums, counts / 3


LOST = Losses(lost, CLASSIFICATION.metrics)
TRIPLED = Losses(tripled, CLASSIFICATION.metrics)


def bench(fault="none", **changes):
    workload = dataclasses.replace(
        TINY, name=f"planted_{fault}", model=planted, model_options={"fault": fault}, **changes
    )
    return Bench(workload, QUICK)


@pytest.fixture(scope="module")
def sound():
    return bench()


# Data.


def drawn(seed, examples=40):
    random = np.random.default_rng(seed)
    return {
        "inputs": random.normal(size=(examples, 6, 6)).astype(np.float32),
        "targets": random.integers(0, 3, examples).astype(np.int32),
    }


def test_a_leak_is_counted_exactly_near_copies_apart():
    splits = {"train": drawn(0), "validation": drawn(1), "test": drawn(2)}
    assert sanity_pipeline.overlap(
        [dataclasses.asdict(row) for row in overlaps(Dataset("d", splits))]
    ).result == "pass"  # fmt: skip
    inputs = splits["validation"]["inputs"].copy()
    inputs[:3] = splits["train"]["inputs"][7:10]
    inputs[5:7] = splits["train"]["inputs"][20:22] + 0.01
    splits["validation"] = {**splits["validation"], "inputs": inputs}
    rows = overlaps(Dataset("d", splits))
    found = next(row for row in rows if (row.split, row.other) == ("validation", "train"))
    assert (found.copies, found.near, found.examples) == (3, 2, 40)
    assert found.places == [(0, 7), (1, 8), (2, 9)]
    check = sanity_pipeline.overlap([dataclasses.asdict(row) for row in rows])
    assert (
        check.result == "fail" and "validation in train: 3 copies, 2 near, of 40" in check.evidence
    )


def test_near_copies_are_those_that_comparing_every_pair_finds():
    random = np.random.default_rng(0)
    tokens = random.integers(0, 5, (60, 12)).astype(np.int32)
    other = random.integers(0, 5, (50, 12)).astype(np.int32)
    other[:20] = tokens[:20]
    for row in range(20):  # 0 to 5 edits each
        places = random.choice(12, row % 6, replace=False)
        other[row, places] += 1
    by_pairs = (tokens[:, None, :] != other[None, :, :]).sum(axis=2).min(axis=1) <= 3
    np.testing.assert_array_equal(near_copies(tokens, other), by_pairs)
    assert 10 < by_pairs.sum() < 20


def test_the_least_error_of_equal_inputs_is_counted():
    inputs, targets = np.array([[1], [1], [1], [2]]), np.array([0, 0, 1, 1], np.int32)
    assert measure.error_floor(inputs, targets) == 0.25
    # A token may depend on those up to its place: after (4,) follow 5 and 6, then nothing is open.
    tokens, following = np.array([[4, 5], [4, 6]]), np.array([[5, 9], [6, 9]], np.int32)
    assert measure.error_floor(tokens, following) == 0.25
    assert measure.error_floor(tokens, np.where(following == 5, -1, following)) == 0.0


# Gradients.


def test_a_right_gradient_passes_a_wrong_one_and_kinks_are_found():
    with jax.enable_x64(True):
        params = {"a": jnp.array([0.3, -0.7, 1.1]), "b": jnp.array([0.0, 2.0])}

        def loss(p):
            return jnp.sum(jnp.sin(p["a"])) * jnp.sum(p["b"] ** 2)

        for row in check_gradient(loss, params):
            np.testing.assert_allclose(
                row.analytic, row.numeric, rtol=DIFFERENCES, atol=NEARLY_ZERO
            )
            assert max(row.error) <= DIFFERENCES and not any(row.kinks)
        wrong = check_gradient(lambda p: loss({**p, "a": doubled(p["a"])}), params)
        error = {row.name: max(row.error) for row in wrong}
        # |2 g - g| / (|2 g| + |g|)
        assert error["a"] == pytest.approx(1 / 3, rel=HALVES) and error["b"] <= DIFFERENCES
        kinked = check_gradient(lambda p: jnp.sum(jnp.abs(p["b"])), params)
        assert {row.name: list(row.kinks) for row in kinked}["b"] == [True, False]
    with pytest.raises(ValueError, match="parameters must be float64 to be checked, got float32"):
        check_gradient(lambda p: jnp.sum(p), jnp.zeros(2, jnp.float32))


@pytest.mark.parametrize(
    ("error", "smooth", "result"),
    [(2e-2, False, "fail"), (5e-3, False, "warn"), (5e-5, False, "pass"), (5e-5, True, "warn"),
     (1e-8, True, "pass")],
)  # fmt: skip
def test_the_bands_of_a_relative_error(error, smooth, result):
    row = {"name": "w", "error": [0.0, error, 0.5], "kinks": [False, False, True]}
    assert sanity.gradient([row], smooth).result == result


WRONG = """
import jax
from dataclasses import replace
from flax import linen as nn
from workloads.digits_fc import WORKLOAD as DIGITS
from workloads.models.linen import LinenModel

@jax.custom_vjp
def doubled(x):
    return x

doubled.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))

class Net(nn.Module):
    param_dtype: str

    @nn.compact
    def __call__(self, inputs, context):
        dense = {"dtype": self.param_dtype, "param_dtype": self.param_dtype}
        hidden = nn.Dense(8, **dense)(inputs)
        return nn.Dense(10, **dense)(doubled(nn.tanh(hidden)))

def net(*, dtype, param_dtype):
    return LinenModel(Net(param_dtype))

WORKLOAD = replace(DIGITS, name="wrong", model=net, model_options={})
"""


def test_a_wrong_gradient_in_a_users_file_is_found_by_the_child_process(tmp_path, capsys):
    (tmp_path / "wrong.py").write_text(WRONG)
    words = ["check", str(tmp_path / "wrong.py"), "--steps", "1", "--out", str(tmp_path / "c")]
    assert main([*words, "--only", "gradient check", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["checks"]
    worst = found["values"]["worst"]
    assert worst["Dense_0/kernel"] == pytest.approx(1 / 3, rel=OF_A_NET)
    assert max(worst["Dense_1/kernel"], worst["Dense_1/bias"]) < RIGHT


# Losses and models.


def test_a_sound_model_passes_what_faults_fail(sound):
    for name in ("initial loss", "reads its inputs", "dead units", "shuffled labels",
                 "evaluation batch size", "determinism", "activations and gradients",
                 "memorises 20 examples", "better than chance"):  # fmt: skip
        check = CHECKS[name](sound)
        assert check.result == "pass", check


def test_a_loss_without_its_penalty_is_found():
    smoothed = {"hyperparameters": {"label_smoothing": 0.1}}
    assert CHECKS["penalty raises the loss"](bench(**smoothed)).result == "pass"
    without = CHECKS["penalty raises the loss"](bench(losses=f"{__name__}:LOST", **smoothed))
    assert without.result == "fail" and "label_smoothing changes nothing" in without.advice


@pytest.mark.parametrize("fault", ["ignores", "cheats", "dead", "mixes"])
def test_a_faulty_model_is_found(fault):
    name = {"ignores": "reads its inputs", "cheats": "shuffled labels", "dead": "dead units",
            "mixes": "evaluation batch size"}[fault]  # fmt: skip
    assert CHECKS[name](bench(fault)).result == "fail"


def test_a_loss_of_another_scale_is_found():
    check = CHECKS["initial loss"](bench(losses=f"{__name__}:TRIPLED"))
    assert check.result == "fail" and "zero outputs have an objective of 6.908" in check.evidence


def test_statistics_of_a_batch_are_in_step_however_it_is_cut():
    options = {"hidden_sizes": [8], "normalization": "batch", "ghost_size": 8}
    normalised = Bench(dataclasses.replace(TINY, model_options=options), QUICK)
    check = CHECKS["batch norm in step"](normalised)
    assert check.result == "pass" and check.values["differ"] < FLOAT32_SUMS, check
    apart = sanity_pipeline.batch_norm({**check.values, "differ": 0.1})
    late = sanity_pipeline.batch_norm({**check.values, "evaluation": {"objective": 9.0}})
    assert (apart.result, late.result) == ("fail", "warn")


def test_a_step_that_waits_for_its_data_is_named(sound):
    results = [sanity_pipeline.input_bound(0.01, share, 64) for share in (0.2, 0.5, 0.9)]
    assert [one.result for one in results] == ["pass", "warn", "warn"]
    assert "90% of 10 ms a step at batch size 64" in results[-1].evidence
    measured = CHECKS["input-bound"](sound).values  # how fast this machine is decides nothing
    assert measured["seconds_per_step"] > 0 and 0 <= measured["input_share"] <= 1


def test_a_ratio_outside_its_band_is_named():
    rows = {"w": {"ratio": 1e-3, "weights": True}, "b": {"ratio": 1.0, "weights": False}}
    results = [
        sanity.updates({**rows, "v": {"ratio": ratio, "weights": True}}, 1e-3, "adam").result
        for ratio in (2e-3, 0.1, 1e-6, 0.0)
    ]
    assert results == ["pass", "warn", "warn", "fail"]


def test_layers_of_one_name_in_several_blocks_have_histograms_of_their_own():
    def table(*names, kind=""):
        layers = [{"name": n, "kind": kind, "sample": np.array([0.0, k])} for k, n in
                  enumerate(names, 1)]  # fmt: skip
        drawn = layer_histograms("activations" if kind else "gradients", layers, 5).table
        return drawn.group_by("layer", maintain_order=True).len().rows()

    assert table("Net/Dense_0", "Net/Dense_1", kind="relu") == [
        ("Dense_0 relu", 40), ("Dense_1 relu", 40),
    ]  # fmt: skip
    paths = ("Block_0/Conv_0/kernel", "Block_1/Conv_0/kernel")
    assert table(*paths) == [(path, 40) for path in paths]
    assert table("Net/Dense_0", "Net/Dense_0") == [("Net/Dense_0", 40), ("Net/Dense_0 (2)", 40)]


# The command.


def test_the_command_writes_what_it_prints_and_a_page_of_figures(tmp_path, capsys):
    names = ["initial loss", "update to weight ratio", "activations and gradients",
             "first-layer filters", "overlap of splits"]  # fmt: skip
    words = ["check", "digits_fc", "--steps", "25", "--out", str(tmp_path / "c"), "--json"]
    assert main([*words, "--only", *names]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["checks"]] == names
    verdict = json.loads((tmp_path / "c" / "verdict.json").read_text())
    assert verdict["values"]["checks"] == found["checks"]
    drawn = {path.stem for path in (tmp_path / "c" / "report" / "figures").glob("*.png")}
    assert drawn == {"update_ratios", "activations", "gradients", "filters"}
    slow = ["--only", "better than chance", "--learning-rate", "1e-9"]
    assert main([*words[:-1], *slow]) == 0
    assert "warn  better than chance" in capsys.readouterr().out


def test_an_interrupted_check_goes_on_after_the_last_that_was_made(tmp_path, monkeypatch):
    """Each is kept as it is made; the end is that of an undisturbed check, figures included."""
    workload = bench().workload
    names = ("initial loss", "update to weight ratio", "first-layer filters", "better than chance")
    asked = dataclasses.replace(QUICK, only=names)
    whole, expected = check(workload, tmp_path / "whole", asked)
    with pytest.raises(BudgetEnds, match="budget of 45steps ends before the checks"):
        check(workload, tmp_path / "b", asked, running=Running(Budget.parse("45steps")))
    with pytest.raises(BudgetEnds, match="ends before the check 'update to weight ratio'"):
        check(workload, tmp_path / "b", asked, running=Running(Budget.parse("0.0000001s")))
    assert list(read_json(tmp_path / "b" / "made.json", "a check")["checks"]) == [names[0]]
    counts = Counter()

    def counted(name, made):
        return lambda bench: (counts.update([name]), made(bench))[1]

    for name in names:
        monkeypatch.setitem(CHECKS, name, counted(name, CHECKS[name]))
    folder, heard = tmp_path / "c", []

    def interrupt(line):
        heard.append(line)
        if line.split(maxsplit=1)[1] == names[1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(workload, folder, asked, running=Running(say=interrupt))
    assert heard[0] == "cost: at most 1 trials, 50 steps"
    assert (folder / "made.json").exists() and not (folder / "verdict.json").exists()
    shutil.copytree(folder, tmp_path / "other")  # asked something else, it begins anew
    check(workload, tmp_path / "other", dataclasses.replace(asked, seed=1))
    assert counts == {**dict.fromkeys(names[:2], 2), **dict.fromkeys(names[2:], 1)}
    outcome, found = check(workload, folder, asked)
    assert counts == dict.fromkeys(names, 2)
    assert [plain(dataclasses.asdict(one)) for one in found] == [
        plain(dataclasses.asdict(one)) for one in expected
    ]
    pictures = [
        {path.name: path.read_bytes() for path in (end.folder / "report").rglob("*.csv")}
        for end in (whole, outcome)
    ]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 2
    assert not (folder / "made.json").exists()
    check(workload, folder, asked)  # after its end the same command makes every one anew
    assert counts[names[0]] == 3


def test_a_failing_check_is_exit_code_1_and_bad_input_2(tmp_path, capsys):
    (tmp_path / "ignores.py").write_text(
        "from dataclasses import replace\nfrom workloads.digits_fc import WORKLOAD as DIGITS\n"
        f"from {__name__} import planted\n"
        "WORKLOAD = replace(DIGITS, model=planted, model_options={'fault': 'ignores'})\n"
    )
    (tmp_path / "nothing.py").write_text("")
    out = ["--out", str(tmp_path / "c")]
    words = ["check", str(tmp_path / "ignores.py"), "--steps", "1", *out]
    assert main([*words, "--only", "reads its inputs"]) == 1
    assert "the inputs do not reach the outputs" in capsys.readouterr().out.lower()
    for words, said in (
        (["digits_f"], "did you mean 'digits_fc'?"),
        ([str(tmp_path / "nothing.py")], "defines neither a WORKLOAD nor a STUDY"),
        (["digits_fc", "--only", "overlap"], "check 'overlap' is unknown"),
        (["digits_fc", "--optimizer", "adm"], "optimizer 'adm' is unknown"),
    ):
        assert main(["check", *words, "--out", str(tmp_path / "new")]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
