"""Ed25519 signatures over an artifact's sums, and through the sums over every byte of it. RFC 8032.

The signature is its 64 raw bytes and keys are PEM files, so that OpenSSL makes and checks the same ones:

    openssl genpkey -algorithm ed25519 -out private.pem
    openssl pkey -in private.pem -pubout -out public.pem
    openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from arsenal_serving.refused import Refused

LENGTH = 64


def sign(content: bytes, private_key: bytes) -> bytes:
    """The signature of `content` by the PEM of a private key without a passphrase; raises `Refused` for another."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return _key(lambda: load_pem_private_key(private_key, None), "private").sign(content)


def check(content: bytes, signature: bytes, keys: Sequence[bytes]) -> str:
    """The fingerprint of the key, one of `keys` (PEMs), that signed `content`; raises `Refused` when none did."""
    if len(signature) != LENGTH:
        raise Refused(f"a signature is {LENGTH} bytes long; this one is not.")
    from cryptography.exceptions import InvalidSignature

    known = [public_key(pem) for pem in keys]
    for key in known:
        try:
            key.verify(signature, content)
        except InvalidSignature:
            continue
        return fingerprint(key)
    raise Refused(f"none of the known keys signed this: {', '.join(map(fingerprint, known))}.")


def public_key(pem: bytes) -> Any:
    """The key in a PEM; raises `Refused` for one of another kind, a private key above all."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return _key(lambda: load_pem_public_key(pem), "public")


def fingerprint(key: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the raw public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _key(load: Callable[[], Any], half: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        key = load()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey):
        raise Refused(f"the key must be the PEM of a {half} Ed25519 key without a passphrase.")
    return key
