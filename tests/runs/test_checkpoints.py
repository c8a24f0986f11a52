"""A checkpoint counts when all of it is there: what is damaged is reported, and the one before it used."""

import contextlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.runs.checkpoints import MARKER, Checkpoints, Keep, digest
from arsenal.runs.folder import RunError


def tree(value: float) -> dict:
    return {"w": jnp.full((3, 2), float(value)), "key": jax.random.key(int(value)), "step": jnp.int32(value), "none": ()}


LIKE = jax.eval_shape(lambda: tree(0))


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of steps 1, 2 and 3, open."""
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints")) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, tree(step))
        checkpoints.wait()
        yield checkpoints


def step_of(saved, told=None) -> int:
    found = saved.restore(LIKE, (told if told is not None else []).append)
    assert digest(found) == digest(tree(int(found["step"]))), "Every bit comes back, keys included."
    return int(found["step"])


def test_the_newest_comes_back(saved):
    told = []
    assert step_of(saved, told) == 3
    assert not told


def test_the_newest_few_are_kept(tmp_path):
    with contextlib.closing(Checkpoints(tmp_path, Keep(2))) as checkpoints:
        for step in (5, 10, 15, 20):
            checkpoints.save(step, tree(step))
        checkpoints.wait()
        assert sorted(int(path.name) for path in tmp_path.iterdir()) == [15, 20]


def test_a_flipped_byte_is_reported_and_the_one_before_used(saved):
    files = sorted(path for path in saved.list_saved()[0].rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) > 3
    for path in files:
        sound = path.read_bytes()
        middle = len(sound) // 2
        path.write_bytes(sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :])
        told = []
        step = step_of(saved, told)
        path.write_bytes(sound)
        assert step == 2 and len(told) == 1, f"{path.name} was changed and nobody noticed."
        assert "0000000003 is damaged" in told[0] and path.name in told[0] and "the one before it" in told[0]
    assert step_of(saved) == 3


def test_every_word_of_the_marker_is_guarded(saved):
    marker = saved.list_saved()[0] / MARKER
    sound = marker.read_text()
    for old, new in (("float32[3, 2]", "float64[3, 2]"), ("['w']", "['v']"), ("manifest.ocdbt", "manifold.ocdbt")):
        assert old in sound
        marker.write_text(sound.replace(old, new))
        assert step_of(saved) == 2


def test_a_lost_or_cut_file_is_damage_too(saved):
    files = sorted(path for path in saved.list_saved()[0].rglob("*") if path.is_file() and path.stat().st_size > 1)
    files[-1].write_bytes(files[-1].read_bytes()[:-1])
    lost = next(path for path in (saved.list_saved()[1] / "state").rglob("*") if path.is_file())
    lost.unlink()
    told = []
    assert step_of(saved, told) == 1
    assert "changed" in told[0] and f"{lost.name} is missing" in told[1]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"sums": 3}', '{"sums": {}, "leaves": 5}'])
def test_a_marker_that_says_nothing_is_damage(saved, text):
    (saved.list_saved()[0] / MARKER).write_text(text)
    told = []
    assert step_of(saved, told) == 2
    assert MARKER in told[0]


def test_without_a_marker_it_does_not_count(saved):
    (saved.list_saved()[0] / MARKER).unlink()
    told = []
    assert step_of(saved, told) == 2
    assert not told
    saved.save(3, tree(3))
    saved.wait()
    assert step_of(saved) == 3, "The place of a half-written one can be written again."


def test_none_is_sound(saved):
    for path in saved.list_saved():
        (path / MARKER).unlink()
    assert saved.restore(LIKE) is None


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ({"w": jnp.ones((3, 3))}, r"`\['w'\]` is float32\[3, 2\] there, float32\[3, 3\] here"),
        ({"w": jnp.ones((3, 2), jnp.int32)}, r"`\['w'\]` is float32\[3, 2\] there, int32\[3, 2\] here"),
        ({"bias": jnp.ones(2)}, r"`\['bias'\]` is missing there, float32\[2\] here"),
        ({"w": None}, r"`\['w'\]` is float32\[3, 2\] there, missing here"),
    ],
)
def test_another_models_checkpoint_is_refused_by_its_leaf(saved, like, words):
    with pytest.raises(RunError, match="is of another model.*" + words):
        saved.restore(jax.eval_shape(lambda: tree(0) | like))


def test_what_is_saved_is_what_it_was_when_it_was_saved(tmp_path):
    """The driver donates its state to the next step at once: writing in the background must not see that."""
    change = jax.jit(lambda t: jax.tree.map(lambda v: v + 1, t), donate_argnums=0)
    big = {"w": jnp.zeros((512, 512))}
    with contextlib.closing(Checkpoints(tmp_path, Keep(4))) as checkpoints:
        for step in range(4):
            checkpoints.save(step, big)
            big = change(big)
        checkpoints.wait()
        for step, path in enumerate(sorted(checkpoints.list_saved())):
            found = checkpoints.orbax.restore(path.absolute() / "state", jax.eval_shape(lambda: big))
            assert np.array_equal(found["w"], np.full((512, 512), step)), f"Checkpoint {step} holds a later state."


def test_the_hash_sees_every_bit_and_name():
    one = {"a": np.float32([0.0, 1.0])}
    others = [{"a": np.float32([-0.0, 1.0])}, {"b": one["a"]}, {"a": one["a"].reshape(2, 1)}, {"a": one["a"].view(np.int32)}]
    assert len({digest(tree) for tree in [one, *others]}) == 5
    assert digest({"a": jnp.float32([0.0, 1.0])}) == digest(one)


def test_the_marker_lists_every_array(saved):
    marker = json.loads((saved.list_saved()[0] / MARKER).read_text())
    assert marker["leaves"]["['w']"] == "float32[3, 2]"
    assert all(len(sum_) == 64 for sum_ in marker["sums"].values())


def test_a_checkpoint_of_the_other_precision_names_the_switch(tmp_path):
    with contextlib.closing(Checkpoints(tmp_path)) as saved:
        saved.save(1, {"w": jnp.ones(3, jnp.float32)})
        saved.wait()
        with pytest.raises(RunError, match=r"was written without JAX_ENABLE_X64: `\['w'\]` is float32\[3\] there, float64\[3\] here"):
            saved.restore({"w": jax.ShapeDtypeStruct((3,), np.float64)})


def test_an_array_without_values_comes_back_too(tmp_path):
    made = {"none": jnp.zeros((3, 0), jnp.uint32), "some": jnp.arange(3)}
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(1, made)
        checkpoints.wait()
        assert digest(checkpoints.restore(jax.eval_shape(lambda: made))) == digest(made)
