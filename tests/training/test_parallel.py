"""Strategies: rules and meshes on the host; every shipped deep experiment on 1, 2, 4 and 8 simulated devices."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from arsenal import combine, estimators, losses, models, optim, training
from arsenal.training import parallel

MESH = Mesh([[[jax.devices()[0]]]], parallel.AXES, axis_types=(AxisType.Auto,) * 3)
PARAMS = {"layer": {"kernel": jnp.zeros((256, 128)), "bias": jnp.zeros(128)}}


class Four:
    """A mesh of 2 x 2 x 4 places, as far as rules ask."""

    shape = {"data": 2, "fsdp": 2, "tensor": 4}


@pytest.mark.parametrize(
    ("rule", "spec"),
    [
        ("replicated", ()),
        ("fsdp", ("fsdp",)),
        ([None, "tensor"], (None, "tensor")),
        ([["fsdp", "tensor"]], (("fsdp", "tensor"),)),
    ],
)
def test_the_first_rule_that_matches_places_a_parameter(rule, spec):
    rows = parallel.place_parameters(PARAMS, {".*/kernel": rule, ".*": "replicated"}, Four)
    assert {row.path: (row.rule, row.spec) for row in rows} == {
        "layer/bias": (".*", PartitionSpec()),
        "layer/kernel": (".*/kernel", PartitionSpec(*spec)),
    }


def test_fsdp_leaves_small_parameters_whole_and_splits_the_largest_dimension_that_divides():
    rows = parallel.place_parameters({"a": jnp.zeros((3, 512, 64)), "b": jnp.zeros((255, 129)), "c": jnp.zeros(64)}, {".*": "fsdp"}, Four)
    assert [row.spec for row in rows] == [PartitionSpec(None, "fsdp"), PartitionSpec(), PartitionSpec()]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({".*/kernel": "fsdp"}, "No rule covers the parameter `layer/bias`"),
        ({".*": [None, None, "tensor"]}, "at most as many places as the parameter dimensions; `layer/bias`"),
        ({".*/bias": "fsdp", ".*": [["data", "fsdp", "tensor"], None]}, None),
        ({".*/bias": [["fsdp", "tensor"]], ".*/kernel": [None, "tensor"]}, None),
    ],
)
def test_what_rules_cannot_do_is_said(rules, said):
    if said is None:
        parallel.place_parameters(PARAMS, rules, Four)
        return
    with pytest.raises(ValueError, match=said):
        parallel.place_parameters(PARAMS, rules, Four)
    with pytest.raises(ValueError, match="cannot be split 4 ways along 6"):
        parallel.place_parameters({"w": jnp.zeros((6, 8))}, {".*": ["tensor"]}, Four)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rules": {"(": "fsdp"}}, "must be a regular expression"),
        ({"rules": {".*": ["tensr"]}}, "A rule must be `replicated`, `fsdp` or a list"),
        ({"rules": {".*": "tensor"}}, "A rule must be"),
        ({"rules": {".*": ["fsdp", "fsdp"]}}, "splits along each axis once"),
        ({"data": 3}, "as many places as there are devices, 1; got 3 x 1 x 1"),
        ({"fsdp": 2}, r"as many places as there are devices, 1; got \? x 2 x 1"),
    ],
)
def test_meshes_and_rules_that_cannot_be_are_refused(more, said):
    with pytest.raises(ValueError, match=said):
        parallel.sharded(**more)


def test_pmap_refuses_what_does_not_add_over_rows():
    model = models.perceptron(3, (2,))
    paired = training.supervised(model, losses.info_nce(), optim.sgd(0.1))
    with pytest.raises(ValueError, match="the other rows of a batch are a row's negatives; use parallel=sharded"):
        parallel.pmap()(paired, 8)
    with pytest.raises(ValueError, match="does not add over rows; use parallel=sharded"):
        parallel.pmap()(combine.whole(estimators.ridge()), 8)


def test_on_one_device_nothing_changes():
    learner = training.supervised(models.perceptron(3, (2,)), losses.cross_entropy(), optim.sgd(0.1))
    how = parallel.auto()(learner, 8)
    assert (how.name, how.why) == ("jit", "one device") and how.learner(learner) is learner


EXPERIMENTS = {
    "digits_mlp": ("digits_mlp", 12),
    "digits_cnn": ("digits_cnn", 12),
    "digits_vae": ("digits_vae", 12),
    "digits_autoencoder": ("digits_autoencoder", 12),
    "digits_gan": ("digits_gan", 12),
    "digits_ensemble": ("digits_ensemble", 12, "learner.members=3"),
    "text_gpt": ("text_gpt", 6, "batch_size=16"),
    "iris_mlp_csv": ("iris_mlp_csv", 8),
    "cartpole_ppo": ("cartpole_ppo", 2),
    "accumulation": ("digits_mlp", 12, "+learner.parts=4"),
    "bfloat16": ("digits_mlp", 12, "learner.precision=bfloat16"),
    "float16": ("digits_mlp", 12, "learner.precision=float16"),
    "average": ("digits_mlp", 12, "learner=ema"),
    "mixup": ("digits_mlp", 12, "+augmentation@learner.augmentation=mixup", "learner.augmentation.classes=10"),
}
HALF = ("bfloat16", "float16")
REFUSED = {"cartpole_ppo": "it draws its own experience", "mixup": "partner"}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_any_number_of_devices_gives_the_result_of_one_and_restores_what_any_other_wrote(name):
    arguments = [str(argument) for argument in EXPERIMENTS[name]]
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("on_devices.py")), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for said in map(json.loads, done.stdout.splitlines()):
        if "refused" in said:
            assert said["strategy"].startswith("pmap") and REFUSED[name] in said["refused"], said
            continue
        assert name not in REFUSED or not said["strategy"].startswith("pmap"), said
        # Adam turns rounding into steps: parameters are judged more mildly than what they lead to.
        assert said["metrics"] < (2e-2 if name in HALF else 1e-4), said
        assert said["params"] < (0.2 if name in HALF else 1e-2), said
        assert said["programs"] == 1, said
        if "restored" in said:
            assert said["restored"] == 0 and said["devices"] == [1, 4], said
            assert said["split"] or name != "text_gpt", said
