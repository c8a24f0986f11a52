"""The verb `image`: the build context of a server of one model, and the image where it can be built."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact import versions
from arsenal_serving.deploy import grammar, image
from arsenal_serving.deploy.description import check_model_url, describe, image_name
from arsenal_serving.refused import Refused, report, show


def main(words: Sequence[str], about: str) -> int:
    """The verb: 0 when the context is written and built as asked, 1 when that is refused."""
    parser = argparse.ArgumentParser(prog="arsenal-serve image", description=about)
    parser.add_argument("model", metavar="MODEL", help="a model's folder, one version in it, or a run folder")
    parser.add_argument("--into", metavar="FOLDER", help="for the context (default: one that goes when it is built)")
    parser.add_argument("--name", metavar="REFERENCE", help="[REGISTRY/]NAME[:TAG] (default: arsenal-MODEL:VERSION)")
    builders = ("auto", "never", *image.BUILDERS)
    parser.add_argument("--build", choices=builders, default="auto", help="default: %(default)s")
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    where = "inside the image, mounted at /models/NAME, or fetched at the start (default: %(default)s)"
    parser.add_argument("--source", choices=("inside", "mounted", "fetched"), default="inside", help=where)
    parser.add_argument("--url", default="", help="of the version, where it is fetched from")
    parser.add_argument("--digest", default="", metavar="sha256:...", help="that the model must have")
    parser.add_argument("--max-batch", type=int, default=64, help="rows run at once (default: %(default)s)")
    parser.add_argument("--base", default="", metavar="IMAGE@DIGEST", help="another image with this Python, and pip")
    parser.add_argument("--base-by-tag", action="store_true", help="the base may have no digest, and change")
    parser.add_argument("--wheels", default="", metavar="FOLDER", help="of the dependencies: the build asks no index")
    more = "a further word for the builder, as --isolation=chroot; repeatable"
    parser.add_argument("--builder-option", action="append", default=[], metavar="WORD", help=more)
    given = parser.parse_args(words)
    try:
        said = _make(given)
    except (Refused, OSError) as error:
        return report(error)
    sys.stdout.write(f"{said}\n")
    return 0


def _make(given: argparse.Namespace) -> str:
    by = image.builder(given.build)
    if by is None and not given.into:
        why = "`--build never`" if given.build == "never" else "no builder is installed (buildah, docker, podman)"
        raise Refused(f"{why}: `--into FOLDER` writes the context only.")
    if by is None and given.builder_option:
        got = show(given.builder_option)
        raise Refused(f"`--builder-option` is a word for a builder, and none is asked; got {got}.")
    if given.base_by_tag and not given.base:
        raise Refused("`--base-by-tag` is said of `--base`, which is not given.")
    folder = versions.locate(given.model)
    held = artifact.open_version(folder)
    manifest = artifact.read_manifest(folder, held.files)
    named: dict[str, Any] = {"name": image_name(manifest["name"]), "tag": str(manifest["version"])}
    if given.name is not None:
        if not given.name:
            raise Refused(f"`--name` must be {grammar.TAGGED.said}; got ''.")
        grammar.check("--name", given.name, grammar.TAGGED)
        place, _, tag = given.name.rpartition(":") if ":" in given.name.rpartition("/")[2] else (given.name, "", "")
        registry, _, name = place.rpartition("/")
        named = {"registry": registry, "name": name, "tag": tag or named["tag"]}
    digest = given.digest or f"sha256:{held.digest}"
    check_model_url("--url", given.url, manifest["version"])
    model = {"name": manifest["name"], "version": manifest["version"], "digest": digest}
    made = describe(
        {
            "model": model | {"source": given.source, "url": given.url},
            "image": named | {"accelerator": given.accelerator},
            "server": {"monitor": False, "max_batch": given.max_batch},
        }
    )
    with tempfile.TemporaryDirectory() as passing:
        into = Path(given.into or f"{passing}/context")
        made = image.context(made, folder, into, given.base, given.wheels, given.base_by_tag)
        if by is None:
            return f"context: {into}, of {made.image.reference}; no builder is asked"
        try:
            image.build(into, made.image.reference, by, tuple(given.builder_option), lambda text: None)
        except Refused as error:
            raise Refused(f"{error}; what was to be built is in {into}") if given.into else error from None
        kept = f", from {into}" if given.into else ""
    return f"image: {made.image.reference}, by {by}{kept}"
