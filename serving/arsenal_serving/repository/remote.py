"""A repository by URL, mirrored into a folder: https://host/models/, s3://bucket/models, whatever fsspec reads.

    index.json                    over http(s), which lists no folders: {"models": {"NAME": [1, 2]}}
    NAME/policy.json              the model's policy, if it has one
    NAME/VERSION/SHA256SUMS       the version's files and their hashes, and beside it the files

Only what the policy chooses is fetched. A version is written beside its place and renamed when all of its sums hold.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from filelock import FileLock

from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact import versions
from arsenal_serving.artifact.manifest import MODEL_NAME
from arsenal_serving.files import replace_file
from arsenal_serving.refused import Refused, show
from arsenal_serving.repository import rollout
from arsenal_serving.repository.store import first_words, open_system

INDEX = "index.json"
LARGEST_TEXT = 1 << 20  # bytes of an index, and of sums
MOST_FILES = 1000  # of a version
CHUNK = 1 << 20
SECONDS = 60  # without a byte
# The policy as it was fetched last: one that was changed here stays until it changes there.
FETCHED = ".policy.fetched"


class Absent(Exception):
    """There is no such file at the origin."""


class Unfinished(Refused):
    """A version has no sums: it is still being sent, or was cut off."""


class Origin(NamedTuple):
    """Where a repository lies: how a file is opened, by its path below the URL, and which folders are below one."""

    url: str
    open: Callable[[str], Any]
    folders: Callable[[str], list[str]]


class Mirror(NamedTuple):
    """An origin and the folder that it is mirrored to. every: as of `Repository`. most: bytes of one version.

    read: the policy that a document says, where a registry has its part in it.
    """

    origin: Origin
    folder: Path
    every: bool
    most: int
    read: Callable[[Any], rollout.Policy] = rollout.policy


def mirror(url: str, cache: Path | None, every: bool, most: int, anonymous: bool = False) -> Mirror:
    """The mirror of a URL in the cache; raises `Refused` for what cannot be read here."""
    if cache is None:
        raise Refused("a repository by URL is mirrored into the cache; name a folder that can be written with --cache.")
    parts = urlsplit(url)
    if parts.query or parts.fragment or ".." in parts.path.split("/"):
        raise Refused(f"the URL of a repository must be that of a folder; got {show(url)}.")
    url = url.rstrip("/")
    origin = _http(url) if parts.scheme in ("http", "https") else _fsspec(url, anonymous)
    folder = cache / "remote" / hashlib.sha256(url.encode()).hexdigest()[:32]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Mirror(origin, folder, every, most)


def sync(into: Mirror, known: Mapping[str, list[int]] | None = None) -> list[str]:
    """Fetch what is new of what the policies choose; returns what could not be had, one line each.

    known: models and their versions, where somebody else knows them.
    """
    told = []
    with FileLock(into.folder / ".lock"):  # several servers share a mirror
        for partial in into.folder.glob("*/.*.partial"):
            shutil.rmtree(partial, ignore_errors=True)  # of one that was killed
        try:
            models = _models(into.origin) if known is None else known
        except Refused as error:
            return [str(error)]
        for name, there in models.items():
            try:
                _model(into, name, there)
            except Refused as error:
                told.append(str(error))
    return told


def prune(into: Mirror, served: Mapping[str, list[int]]) -> None:
    """Remove versions that are neither served nor chosen by their policy: they can be fetched again."""
    with FileLock(into.folder / ".lock"):
        for name, numbers in served.items():
            there = versions.numbers(into.folder / name)
            try:
                keep = {*numbers, *rollout.choose(_policy(into, name), there, into.every)}
            except Refused:
                continue
            for number in set(there) - keep if numbers else ():
                gone = into.folder / name / f".{secrets.token_hex(8)}.partial"
                os.rename(into.folder / name / str(number), gone)
                shutil.rmtree(gone, ignore_errors=True)


def _models(origin: Origin) -> dict[str, list[int]]:
    try:
        index = _json(_read(origin, INDEX, LARGEST_TEXT), f"{origin.url}/{INDEX}")
    except Absent:
        found = {name: origin.folders(name) for name in origin.folders("") if MODEL_NAME.fullmatch(name)}
        listed = {name: [int(n) for n in names if versions.VERSION.fullmatch(n)] for name, names in found.items()}
        if not listed:
            raise Refused(f"{origin.url} holds neither {INDEX} nor a model's folder.") from None
        return {name: sorted(there) for name, there in listed.items() if there}
    models = index.get("models") if isinstance(index, dict) else None
    if not isinstance(models, dict) or not models:
        raise Refused(f'{origin.url}/{INDEX} must be {{"models": {{"NAME": [1, 2]}}}}; got {show(index)}.')
    for name, there in models.items():
        if not MODEL_NAME.fullmatch(name):
            raise Refused(f"{origin.url}/{INDEX} names the model {show(name)}, which is no name of a model.")
        if not isinstance(there, list) or not all(type(n) is int and versions.VERSION.fullmatch(str(n)) for n in there):
            raise Refused(f"{origin.url}/{INDEX}: versions of {name!r} must be a list of numbers; got {show(there)}.")
    return {name: sorted(set(there)) for name, there in models.items()}


def _model(into: Mirror, name: str, there: list[int]) -> None:
    folder = into.folder / name
    folder.mkdir(exist_ok=True)
    try:
        fetched = _read(into.origin, f"{name}/{versions.POLICY}", rollout.LONGEST)
    except Absent:
        fetched = b""
    if fetched:
        rollout.parse(fetched, into.read)
    last = folder / FETCHED
    if (last.read_bytes() if last.exists() else b"") != fetched:
        if fetched:
            replace_file(folder / versions.POLICY, fetched)
        else:
            (folder / versions.POLICY).unlink(missing_ok=True)
        replace_file(last, fetched)
    there, partial = list(there), None
    while there:
        try:
            for number in rollout.choose(_policy(into, name), there, into.every):
                if not (folder / str(number)).exists():
                    fetch_version(into, f"{name}/{number}")
            break
        except Unfinished as error:  # what is there is served meanwhile
            there.remove(number)
            partial = partial or error
    if partial:
        raise partial


def bring(url: str, digest: str, folder: Path, most: int = 16 << 30, anonymous: bool = False) -> Path:
    """One version, by the URL of NAME/VERSION, into a model's folder; returns its folder there.

    digest: "sha256:" and the hash of its SHA256SUMS, without which nothing is taken. What is there already is checked
    and not fetched. Raises `Refused` for another hash, and for a URL that is none of a version.
    """
    above, _, number = url.rstrip("/").rpartition("/")
    if not versions.VERSION.fullmatch(number) or urlsplit(url).query or urlsplit(url).fragment:
        raise Refused(f"the URL of a version must end in its number, .../NAME/1; got {show(url)}.")
    if (folder / number).exists():
        got = f"sha256:{artifact.open_version(folder / number).digest}"
        if got != digest:
            raise Refused(f"{folder / number} is another version: its hash is {got}, not {digest}.")
        return folder / number
    folder.mkdir(parents=True, exist_ok=True)
    origin = _http(above) if urlsplit(url).scheme in ("http", "https") else _fsspec(above, anonymous)
    fetch_version(Mirror(origin, folder, False, most), number, digest)
    return folder / number


def fetch_version(into: Mirror, path: str, digest: str = "") -> None:
    """Bring NAME/VERSION into the mirror, whole or not at all; raises `Refused` where a file is not as its sums say.

    digest: of the sums themselves, as of `bring`, where it was known before.
    """
    origin, target = into.origin, into.folder / path
    where = f"{origin.url}/{path}"
    try:
        sums = _read(origin, f"{path}/{versions.SUMS}", LARGEST_TEXT)
    except Absent:
        raise Unfinished(f"{where}/{versions.SUMS} is not there.") from None
    got = f"sha256:{hashlib.sha256(sums).hexdigest()}"
    if digest and got != digest:
        raise Refused(f"{where} is another version: its hash is {got}, not {digest}.")
    listed = artifact.read_sums(sums, where)
    if versions.MANIFEST not in listed:
        raise Refused(f"{where}/{versions.SUMS} does not list '{versions.MANIFEST}'.")
    if len(listed) > MOST_FILES:
        raise Refused(f"{where} has {len(listed)} files; allowed are {MOST_FILES}.")
    partial, left = target.parent / f".{secrets.token_hex(8)}.partial", into.most
    partial.mkdir()
    try:
        for file, wanted in listed.items():
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            sha = hashlib.sha256()
            with open(partial / file, "xb") as out:
                try:
                    for chunk in _chunks(origin, f"{path}/{file}", left):
                        sha.update(chunk)
                        left -= len(chunk)
                        out.write(chunk)
                except Absent:
                    raise Refused(f"{where}/{file} is not there, though {versions.SUMS} lists it.") from None
                out.flush()
                os.fsync(out.fileno())
            if sha.hexdigest() != wanted:
                got = f"{sha.hexdigest()[:12]}..., not {wanted[:12]}..."
                raise Refused(f"{where}: {show(file)} is not what {versions.SUMS} lists: its hash is {got}")
        replace_file(partial / versions.SUMS, sums)
        with suppress(Absent):  # whether it must be signed is the server's --key
            replace_file(partial / artifact.SIGNATURE, _read(origin, f"{path}/{artifact.SIGNATURE}", CHUNK))
        os.rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _policy(into: Mirror, name: str) -> rollout.Policy:
    path = into.folder / name / versions.POLICY
    return rollout.parse(path.read_bytes() if path.exists() else b"{}", into.read)


def _read(origin: Origin, path: str, most: int) -> bytes:
    return b"".join(_chunks(origin, path, most))


def _chunks(origin: Origin, path: str, most: int) -> Iterator[bytes]:
    """The bytes of a file at the origin; raises `Absent`, or `Refused` for more than `most` of them."""
    where, left = f"{origin.url}/{path}", most
    try:
        with closing(origin.open(path)) as file:
            while chunk := file.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise Refused(f"{where} is longer than the {most} bytes that are allowed.")
                yield chunk
    except (Refused, Absent, GeneratorExit):
        raise
    except FileNotFoundError as error:
        raise Absent(where) from error
    except Exception as error:  # each library's own: no such host, no rights, cut off
        raise Refused(f"{where} cannot be read: {first_words(error)}.") from error


def _json(content: bytes, what: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{what} is not JSON: {str(error).splitlines()[0]}.") from error


def _http(url: str) -> Origin:
    def open_path(path: str) -> Any:
        try:
            return urllib.request.urlopen(f"{url}/{quote(path)}", timeout=SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in (404, 410):
                    raise FileNotFoundError(path) from error
            raise

    return Origin(url, open_path, lambda path: [])


def _fsspec(url: str, anonymous: bool) -> Origin:
    system, root = open_system(url, anonymous)

    def folders(path: str) -> list[str]:
        system.invalidate_cache()
        try:
            rows = system.ls(f"{root}/{path}".rstrip("/"), detail=True)
        except FileNotFoundError:
            return []
        except Exception as error:  # each library's own
            raise Refused(f"{url}/{path} cannot be listed: {first_words(error)}.") from error
        return sorted(row["name"].rstrip("/").rpartition("/")[2] for row in rows if row["type"] == "directory")

    return Origin(url, lambda path: system.open(f"{root}/{path}", "rb"), folders)
