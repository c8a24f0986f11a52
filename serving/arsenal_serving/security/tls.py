"""The certificate that the server shows, for HTTP and for gRPC; TLS 1.2 is the least that is spoken."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from arsenal_serving.refused import Refused


class Tls(NamedTuple):
    """A certificate's chain and its private key as PEMs, and the context made of them."""

    context: ssl.SSLContext
    chain: bytes
    key: bytes


def read(certificate: str, key: str) -> Tls:
    """What is in two PEM files; raises `Refused`, or `OSError` where one cannot be read."""
    chain, secret = Path(certificate).read_bytes(), Path(key).read_bytes()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])

    def refuse_passphrase() -> str:
        raise Refused(f"--tls-key {key} has a passphrase; nobody is here to type it.")

    try:
        context.load_cert_chain(certificate, key, refuse_passphrase)
    except ssl.SSLError as error:
        apart = error.reason == "KEY_VALUES_MISMATCH"
        why = "they do not belong together" if apart else "they are not a certificate and a key as PEM"
        raise Refused(f"--tls-cert {certificate} and --tls-key {key} cannot be used: {why}.") from error
    return Tls(context, chain, secret)
