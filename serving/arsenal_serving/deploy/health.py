"""The verb `health`: what an image's health check asks, without jax and without a shell."""

from __future__ import annotations

import argparse
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

from arsenal_serving.refused import Refused, report, show

LOCAL = ("127.0.0.1", "::1", "localhost")
SECONDS = 3.0
PAUSE = 0.1
CA = "certificates of the only authorities to trust, in PEM"


def trust(url: str, ca: str) -> ssl.SSLContext:
    """Who may answer at a URL: whom the system trusts, or only whom a file of authorities' certificates names."""
    if ca and urlsplit(url).scheme != "https":
        raise Refused(f"`--ca` is for https://HOST:PORT; got {show(url)}.")
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise Refused(f"`--ca` must be a file of certificates in PEM; got {show(ca)}.") from error


def check(url: str, ca: str = "") -> None:
    """Raise `Refused` unless the server at a URL is ready.

    ca: a file of authorities' certificates. Without one a server of this machine is asked whatever its certificate
    says: it is for another name.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused(f"a URL must be like http://HOST:PORT; got {show(url)}.")
    context = trust(url, ca)
    if parts.hostname in LOCAL and not ca:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/v2/health/ready", timeout=SECONDS, context=context):
            return
    except urllib.error.HTTPError as error:
        with error:
            raise Refused(f"{url} is not ready: it answers {error.code}.") from error
    except OSError as error:
        raise Refused(f"{url} does not answer: {getattr(error, 'reason', error)}.") from error


def wait(url: str, seconds: float) -> None:
    """Return once the server at a URL is ready; raise `Refused` where it is not within so many seconds."""
    until = time.monotonic() + seconds
    while True:
        try:
            return check(url)
        except Refused as error:
            if time.monotonic() > until:
                raise Refused(f"not ready within {seconds:g} s: {error}") from error
        time.sleep(PAUSE)


def main(words: Sequence[str], about: str) -> int:
    """The verb: 0 where the server is ready, 1 where it is not."""
    parser = argparse.ArgumentParser(prog="arsenal-serve health", description=about)
    parser.add_argument("url", metavar="URL", nargs="?", default="http://127.0.0.1:8000", help="default: %(default)s")
    parser.add_argument("--ca", default="", metavar="FILE", help=CA)
    given = parser.parse_args(words)
    try:
        check(given.url, given.ca)
    except Refused as error:
        return report(error)
    sys.stdout.write("ready\n")
    return 0
