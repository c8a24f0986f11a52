"""Signatures: ours hold for OpenSSL and OpenSSL's for us; a stranger's do not."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from arsenal_serving.__main__ import main
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.model import load
from arsenal_serving.refused import Refused


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with NAME.pem and NAME.pub of three Ed25519 pairs, and of one of another kind, made by OpenSSL."""
    folder = tmp_path_factory.mktemp("keys")
    for name, kind in (("ours", "ed25519"), ("theirs", "ed25519"), ("stranger", "ed25519"), ("odd", "x25519")):
        openssl("genpkey", "-algorithm", kind, "-out", folder / f"{name}.pem")
        openssl("pkey", "-in", folder / f"{name}.pem", "-pubout", "-out", folder / f"{name}.pub")
    return folder


def openssl(*words) -> int:
    return subprocess.run(["openssl", *words], capture_output=True, check=True).returncode


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def pems(keys, *names) -> list[bytes]:
    return [(keys / f"{name}.pub").read_bytes() for name in names]


def test_openssl_checks_what_we_sign(copy, keys):
    path = artifact.sign(copy, (keys / "ours.pem").read_bytes())
    assert path == copy / "SHA256SUMS.sig" and path.stat().st_size == 64
    check = ("pkeyutl", "-verify", "-rawin", "-in", copy / "SHA256SUMS", "-sigfile", path, "-pubin", "-inkey")
    assert openssl(*check, keys / "ours.pub") == 0
    with pytest.raises(subprocess.CalledProcessError):
        openssl(*check, keys / "stranger.pub")


def test_we_check_what_openssl_signs(copy, keys):
    sign = ("pkeyutl", "-sign", "-rawin", "-in", copy / "SHA256SUMS", "-out", copy / "SHA256SUMS.sig", "-inkey")
    openssl(*sign, keys / "theirs.pem")
    held = artifact.open_version(copy, pems(keys, "ours", "theirs"))
    assert held.signer and held.signer != artifact.open_version(copy).signer
    assert load(copy, max_batch=1, keys=pems(keys, "theirs")).name == "zoo"
    with pytest.raises(Refused, match=r"SHA256SUMS.sig: none of the known keys signed this: [0-9a-f]{16}\.$"):
        load(copy, keys=pems(keys, "ours"))


def test_with_keys_the_unsigned_is_refused_and_without_them_it_is_not(copy, keys):
    with pytest.raises(Refused, match=r"SHA256SUMS.sig is missing; only artifacts signed by a known key are taken"):
        load(copy, keys=pems(keys, "ours"))
    assert load(copy, max_batch=1).name == "zoo"


@pytest.mark.parametrize("signature", [b"", b"\0" * 63, b"\0" * 64, b"\xff" * 64, b"\0" * 65, b"-----BEGIN"])
def test_a_signature_that_is_none(copy, keys, signature):
    (copy / "SHA256SUMS.sig").write_bytes(signature)
    with pytest.raises(Refused, match=r"copy: SHA256SUMS.sig: (a signature is 64 bytes|none of the known keys)"):
        load(copy, keys=pems(keys, "ours"))


def test_what_was_signed_cannot_change(copy, keys):
    artifact.sign(copy, (keys / "ours.pem").read_bytes())
    sums = (copy / "SHA256SUMS").read_text()
    (copy / "note").write_text("")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (copy / "SHA256SUMS").write_text(f"{sums}{empty}  note\n")
    artifact.open_version(copy)  # the sums are true, only not those that were signed
    with pytest.raises(Refused, match="none of the known keys signed this"):
        artifact.open_version(copy, pems(keys, "ours"))
    (copy / "SHA256SUMS").write_text(sums)
    with pytest.raises(Refused, match="'note' is not listed"):
        artifact.open_version(copy, pems(keys, "ours"))
    (copy / "note").unlink()
    (copy / "programs/predict.mlir").write_bytes(b"")
    with pytest.raises(Refused, match=r"'programs/predict.mlir' has changed"):
        artifact.open_version(copy, pems(keys, "ours"))


def test_another_versions_signature_does_not_fit(folder, keys, tmp_path):
    """Rolling back by renaming: the number is in what was signed."""
    shutil.copytree(folder, tmp_path / "m" / "1")
    artifact.sign(tmp_path / "m" / "1", (keys / "ours.pem").read_bytes())
    shutil.copytree(tmp_path / "m" / "1", tmp_path / "m" / "9")
    with pytest.raises(Refused, match="is of version 1, but its folder is called 9"):
        load(tmp_path / "m", keys=pems(keys, "ours"))


def test_only_what_holds_is_signed_and_only_once(copy, keys):
    sound = (copy / "golden.safetensors").read_bytes()
    (copy / "golden.safetensors").write_bytes(b"")
    with pytest.raises(Refused, match=r"golden.safetensors' has changed"):
        artifact.sign(copy, (keys / "ours.pem").read_bytes())
    (copy / "golden.safetensors").write_bytes(sound)
    artifact.sign(copy, (keys / "ours.pem").read_bytes())
    with pytest.raises(Refused, match=r"is signed already; remove SHA256SUMS.sig first"):
        artifact.sign(copy, (keys / "theirs.pem").read_bytes())
    assert artifact.open_version(copy, pems(keys, "ours")).signer


def test_keys_of_another_kind(copy, keys):
    for name in ("ours.pub", "odd.pem"):
        with pytest.raises(Refused, match="must be the PEM of a private Ed25519 key without a passphrase"):
            artifact.sign(copy, (keys / name).read_bytes())
    artifact.sign(copy, (keys / "ours.pem").read_bytes())
    for pem in ((keys / "ours.pem").read_bytes(), (keys / "odd.pub").read_bytes(), b"", b"\xff"):
        with pytest.raises(Refused, match="must be the PEM of a public Ed25519 key"):
            artifact.open_version(copy, [pem])


def test_by_commands(copy, keys, capsys):
    assert main(["sign", str(copy), "--key", str(keys / "ours.pem")]) == 0
    assert capsys.readouterr().out == f"signed: {copy}/SHA256SUMS.sig\n"
    allowed = [word for name in ("theirs", "ours") for word in ("--key", str(keys / f"{name}.pub"))]
    assert main(["inspect", str(copy), *allowed]) == 0
    assert "signature   by the known key " in capsys.readouterr().out
    assert main(["inspect", str(copy)]) == 0
    assert "signature   there is one, not checked: no --key was given" in capsys.readouterr().out
    for verb in ("inspect", "verify", "renew"):
        assert main([verb, str(copy), "--key", str(keys / "stranger.pub")]) == 1
        error = capsys.readouterr().err
        assert "none of the known keys signed this" in error and error.count("\n") == 1
    assert main(["inspect", str(copy), "--key", str(keys / "ours.pem")]) == 1
    assert f"{keys}/ours.pem: the key must be the PEM of a public Ed25519 key" in capsys.readouterr().err
