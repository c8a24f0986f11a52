"""What is in a stored program, and what it may call."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact import program
from arsenal_serving.artifact.golden import same_bits
from arsenal_serving.export import Method, export
from arsenal_serving.model import load
from arsenal_serving.refused import Refused

SQUARES = np.random.default_rng(0).standard_normal((3, 4, 4)).astype(np.float32)


def symmetric(x):
    return x @ x.swapaxes(1, 2) + jnp.eye(4)


LINEAR_ALGEBRA = {
    "solve": (lambda _, x: jnp.linalg.solve(symmetric(x), x), "getrf_ffi"),
    "cholesky": (lambda _, x: jnp.linalg.cholesky(symmetric(x)), "potrf_ffi"),
    "eigh": (lambda _, x: jnp.linalg.eigh(symmetric(x))[0], "syevd_ffi"),
    "svd": (lambda _, x: jnp.linalg.svd(x, compute_uv=False), "gesvdj_ffi"),
    "qr": (lambda _, x: jnp.linalg.qr(x)[1], "geqrf_ffi"),
}


@pytest.mark.parametrize("name", LINEAR_ALGEBRA)
def test_linear_algebra_of_every_platform_may_be_called(tmp_path, name):
    fn, call = LINEAR_ALGEBRA[name]
    folder = export(tmp_path / "m", {name: fn}, {}, SQUARES)
    calls = program.custom_calls((folder / f"programs/{name}.mlir").read_bytes())
    assert {target.partition("_")[0] for target in calls if target.endswith(call)} >= {"cusolver"}
    assert calls <= program.CUSTOM_CALLS
    model = load(folder, max_batch=3)
    assert same_bits(model.infer(name, {"x": SQUARES})[name], np.asarray(jax.jit(fn)({}, SQUARES)))


def test_the_list_is_jaxs_own_less_what_brings_code():
    from jax._src.export._export import _CUSTOM_CALL_TARGETS_GUARANTEED_STABLE as STABLE

    assert program.CUSTOM_CALLS <= STABLE
    assert {"tf.call_tf_function", "tpu_custom_call", "mosaic_gpu_v2"} >= STABLE - program.CUSTOM_CALLS


def test_a_program_that_calls_something_else_is_refused(tmp_path):
    """An artifact of true sums whose module calls a library that somebody registered in the server."""
    x = np.ones((2, 3), np.float32)
    folder = export(tmp_path / "m", lambda params, x: x + 1, {}, x)
    files = dict(artifact.open_version(folder).files)
    manifest = artifact.read_manifest(folder, files)
    del files["manifest.json"]

    def evil(x):
        return (jax.ffi.ffi_call("evil_target", jax.ShapeDtypeStruct(x.shape, x.dtype))(x),)

    shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, 3"), np.float32)
    allowed = [jax.export.DisabledSafetyCheck.custom_call("evil_target")]
    made = jax.export.export(jax.jit(evil), platforms=program.PLATFORMS, disabled_checks=allowed)(shape)
    versioned, durable = bytes(made.serialize()), bytes(made.mlir_module_serialized)
    for number, (one, other) in enumerate([(versioned, durable), (versioned, files["programs/predict.mlir"])]):
        changed = files | {"programs/predict.exported": one, "programs/predict.mlir": other}
        written = artifact.write(tmp_path / f"evil{number}", manifest, changed)
        with pytest.raises(Refused, match="method 'predict': the program calls 'evil_target', which is") as told:
            load(written)
        assert "\n" not in str(told.value)
    with pytest.raises(Refused, match=r"cannot be exported: .*evil_target"):
        export(tmp_path / "n", lambda params, x: evil(x)[0], {}, x)


def test_nothing_of_the_exporting_machine_is_in_the_artifact(folder, tmp_path):
    held = dict(artifact.open_version(folder).files)
    words = {str(Path.home()), os.getcwd(), str(Path(__file__).parent), str(Path(jax.__file__).parents[1])}
    words |= {str(tmp_path.parent), socket.gethostname(), __file__, ".py", "conftest", "site-packages"}
    if len(getpass.getuser()) > 3 and getpass.getuser() != "root":
        words.add(getpass.getuser())
    for path, content in held.items():
        for word in words - {"/", ""}:
            assert word.encode() not in content, (path, word)
    # and it is there before the locations are taken out
    raw = jax.export.export(jax.jit(lambda x: x + 1))(jax.ShapeDtypeStruct((2,), np.float32)).mlir_module_serialized
    assert Path(__file__).name.encode() in raw
    assert b".py" not in program.strip_locations(raw)


def test_a_module_of_a_newer_stablehlo_is_told_apart_before_it_is_read(folder, capfd):
    durable = (folder / "programs/predict.mlir").read_bytes()
    newer = durable.replace(b"StableHLO_v1.", b"StableHLO_v9.", 1)
    with pytest.raises(Refused, match=r"it is of StableHLO 9\.[0-9.]+, and this jax reads 1\.[0-9.]+ and older$"):
        program.check_calls(newer)
    for other in (b"", b"ML", b"func.func @main() { return }", b"ML\xefR" + b"x" * 100):
        with pytest.raises(Refused, match="it is no portable StableHLO module"):
            program.check_calls(other)
    assert capfd.readouterr() == ("", "")


def test_two_exports_of_one_function_are_the_same_bytes(tmp_path):
    x = np.ones((2, 3), np.float32)
    one, other = (
        artifact.open_version(export(tmp_path / "m", lambda params, x: jnp.tanh(x @ params), np.eye(3), x)).files
        for _ in range(2)
    )
    assert {path for path in one if one[path] != other[path]} == {"manifest.json"}


def test_the_promise_is_counted_from_the_release():
    assert program.promise("0.10.0")["valid_until"] == "2026-10-16"
    assert program.promise("0.11.2") == {"version": "0.11.2", "released": "2026-09-17", "valid_until": "2027-03-17"}
    assert program.promise("99.0.0.dev1")["released"] == max(program.RELEASES.values()).isoformat()
    assert all(len(version.split(".")) == 3 for version in program.RELEASES)
    assert list(program.RELEASES.values()) == sorted(program.RELEASES.values())


def test_sizes_that_were_chosen_are_those_that_compile(tmp_path):
    x = np.ones((2, 3), np.float32)
    methods = {"few": Method(lambda _, x: x * 2, x, sizes=(8, 1)), "all": Method(lambda _, x: x * 2, x)}
    folder = export(tmp_path / "m", methods, {})
    assert artifact.read_manifest(folder, artifact.open_version(folder).files)["methods"]["few"]["sizes"] == [1, 8]
    for most, wanted in ((64, (1, 8)), (8, (1, 8)), (4, (1, 4))):
        model = load(folder, max_batch=most)
        assert model.methods["few"].sizes == wanted
        model.warm()
        assert {key[1][0] for key in model._warm if key[0] == "few"} == set(wanted)
        assert model.infer("few", {"x": np.ones((21, 3), np.float32)})["few"].sum() == 126
        assert not [key for key in model._kept if key[1][0] not in (1, 2, 8, 4)]
    assert load(folder, max_batch=6).methods["all"].sizes == (1, 2, 4, 6)
