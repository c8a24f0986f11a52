"""Parameters of one model as the beginning of another's: what fits is taken, the rest is named."""

import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.training.transfer import transfer

OLD = {"params": {"body": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "head": {"kernel": jnp.ones((3, 4))}}}
NEW = {"params": {"body": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}, "top": {"kernel": jnp.zeros((3, 5))}}}


def test_what_has_the_same_path_is_taken_and_the_rest_reported():
    found = transfer(OLD, NEW, allow=["missing", "unused"])
    np.testing.assert_array_equal(found.params["params"]["body"]["kernel"], OLD["params"]["body"]["kernel"])
    np.testing.assert_array_equal(found.params["params"]["top"]["kernel"], NEW["params"]["top"]["kernel"])
    assert found.missing == ["params/top/kernel"] and found.unused == ["params/head/kernel"]


def test_names_may_be_renamed_by_their_first_parts_and_by_groups():
    target = {"params": {"trunk": OLD["params"]["body"], "head": OLD["params"]["head"]}}
    for names in ({"params/body": "params/trunk"}, {r"params/(body)/(\w+)": r"params/trunk/\2"}):
        found = transfer(OLD, target, names)
        assert found.taken["params/body/bias"] == "params/trunk/bias" and not found.missing and not found.unused


@pytest.mark.parametrize(
    ("names", "allow", "said"),
    [
        ({}, [], "leaves `params/top/kernel` missing"),
        ({}, ["missing"], "leaves `params/head/kernel` unused"),
        ({"params/head": "params/top"}, [], r"`params/top/kernel` has shape \(3, 5\) here; `params/head/kernel` has \(3, 4\)"),
        ({"params/hea": None}, ["missing", "unused"], "`params/hea` of `init_map` matches no parameter"),
        ({"params/head": None, "params/.*": None}, [], "overlap: all match `params/head/kernel`"),
        ({"params/body/kernel": "params/body/bias"}, [], r"gives `params/body/bias` and `params/body/kernel` one name"),
    ],
)
def test_what_does_not_fit_is_refused(names, allow, said):
    with pytest.raises(ValueError, match=said):
        transfer(OLD, NEW, names, allow)


def test_null_leaves_a_parameter_out():
    found = transfer(OLD, NEW, {"params/head": None}, ["missing", "unused"])
    assert found.unused == ["params/head/kernel"]
