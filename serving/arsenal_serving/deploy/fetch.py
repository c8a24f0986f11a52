"""A model by URL, brought before a server starts: `python -m arsenal_serving.deploy.fetch URL DIGEST FOLDER [-- ...]`.

The URL is that of a version, NAME/VERSION; the hash of its SHA256SUMS was known before, so that neither who serves it
nor who stands between can give another model. A command after -- takes this process's place once it is there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from arsenal_serving.deploy.description import DIGEST
from arsenal_serving.refused import Refused, report, show
from arsenal_serving.repository import remote

USAGE = "usage: python -m arsenal_serving.deploy.fetch URL sha256:DIGEST FOLDER [-- COMMAND ...]"


def main(words: Sequence[str] | None = None) -> int:
    """Fetch, and become the command if there is one: 0 when the version is there, 1 when refused, 2 for wrong usage."""
    words = list(sys.argv[1:] if words is None else words)
    given, command = words[:3], words[3:]
    if len(given) < 3 or command[:1] not in ([], ["--"]) or len(command) == 1:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    url, digest, folder = given
    try:
        if not DIGEST.fullmatch(digest):
            raise Refused(f"the digest must be sha256: and 64 hexadecimal digits; got {show(digest)}.")
        there = remote.bring(url, digest, Path(folder))
    except (Refused, OSError) as error:
        return report(error)
    sys.stdout.write(f"fetched: {there}\n")
    sys.stdout.flush()
    if command:
        os.execvp(command[1], command[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
