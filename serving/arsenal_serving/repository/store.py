"""Files below a root, a folder here or a bucket by URL: read, listed, made exclusively, replaced and removed.

Exclusively: of several who make one file, one does and the others are told; by a hard link here, on a bucket by a
write that asks for it not to be there (fsspec's `mode="create"`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from arsenal_serving.files import replace_file, sync_folder, write_file
from arsenal_serving.refused import Refused, show

PART = 16 << 20
"""Bytes of a part of what is sent in parts."""
LONGEST = 1 << 24
"""Bytes of a text that `read` takes."""
LINKLESS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


class Store(NamedTuple):
    """Paths are relative to the root, with slashes. A bucket's errors are `Refused`, a folder's `OSError`.

    open: bytes to read; raises `FileNotFoundError`. names: of files and folders in a folder, none where there is none.
    create: raises `FileExistsError` where somebody was first. send: as replace, of much; goes on with what was cut off,
    and says how many bytes of it were there. remove: a file, or a folder with all in it. folder: where it lies here,
    None for a bucket.
    """

    root: str
    open: Callable[[str], Any]
    exists: Callable[[str], bool]
    names: Callable[[str], list[str]]
    create: Callable[[str, bytes], None]
    replace: Callable[[str, bytes], None]
    send: Callable[[str, bytes], int]
    remove: Callable[[str], None]
    folder: Path | None

    def place(self, path: str) -> str:
        """A path as a person would type it."""
        return f"{self.root}/{path}".rstrip("/")


def open_store(root: str, anonymous: bool = False) -> Store:
    """The store at a path or URL; nothing is looked for there yet. Raises `Refused` for a URL that nothing here reads.

    anonymous: read a bucket without credentials.
    """
    if "://" not in root:
        return _folder(Path(root))
    if root.startswith("file://"):
        return _folder(Path(urlsplit(root).path))
    return _bucket(root.rstrip("/"), anonymous)


def read(store: Store, path: str, most: int = LONGEST) -> bytes:
    """A short file; raises `FileNotFoundError`, and `Refused` for one that is longer."""
    with _in_words(store.root, path, "read"), closing(store.open(path)) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise Refused(f"{store.place(path)} is longer than the {most} bytes that are allowed.")
    return content


def open_system(url: str, anonymous: bool = False) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it; raises `Refused`."""
    try:
        import fsspec

        # Credentials are given or there are none: a server asks no cloud's metadata address who it is.
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
        return fsspec.core.url_to_fs(url, **({"anon": True} if anonymous else {}))
    except (ImportError, ValueError) as error:
        raise Refused(f"{show(url)} needs fsspec: pip install 'ml-arsenal-serving[remote]' ({error}).") from error
    except Exception as error:  # each library's own: no such host, no rights
        raise Refused(f"{show(url)} cannot be opened: {first_words(error)}.") from error


def first_words(error: BaseException) -> str:
    """What a library's error says, in a line that is not too long."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def _folder(root: Path) -> Store:
    def names(path: str) -> list[str]:
        try:
            return sorted(name for name in os.listdir(root / path) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def create(path: str, content: bytes) -> None:
        target = root / path
        partial = target.parent / f".{secrets.token_hex(8)}.partial"
        try:
            write_file(partial, content)
            try:
                os.link(partial, target)
            except FileExistsError:
                raise
            except OSError as error:
                if error.errno not in LINKLESS:
                    raise
                write_file(target, content)  # whoever looks in this moment may see a part of it
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(target.parent)

    def replace(path: str, content: bytes) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        replace_file(root / path, content)

    def remove(path: str) -> None:
        target = root / path
        if not target.is_dir():
            target.unlink(missing_ok=True)
            return
        # By one rename: nobody sees half of it, also if this is killed.
        gone = target.parent / f".{secrets.token_hex(8)}.partial"
        os.rename(target, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def exists(path: str) -> bool:
        return os.path.exists(root / path)

    def send(path: str, content: bytes) -> int:
        replace(path, content)
        return 0

    return Store(str(root), lambda path: open(root / path, "rb"), exists, names, create, replace, send, remove, root)


def _bucket(url: str, anonymous: bool) -> Store:
    system, root = open_system(url, anonymous)
    root = root.rstrip("/")

    def at(path: str) -> str:
        system.invalidate_cache()  # others write there
        return f"{root}/{path}".rstrip("/")

    def open_path(path: str) -> Any:
        with _in_words(url, path, "read"):
            return system.open(at(path), "rb")

    def exists(path: str) -> bool:
        with _in_words(url, path, "looked for"):
            return bool(system.exists(at(path)))

    def names(path: str) -> list[str]:
        with suppress(FileNotFoundError), _in_words(url, path, "listed"):
            rows = (row["name"].rstrip("/").rpartition("/")[2] for row in system.ls(at(path), detail=True))
            return sorted(name for name in rows if name and not name.startswith("."))
        return []

    def create(path: str, content: bytes) -> None:
        with _in_words(url, path, "written"):
            try:
                system.pipe_file(at(path), content, mode="create")
            except Exception:
                # A write that was cut off and repeated finds itself there.
                if not system.exists(at(path)):
                    raise
                if system.cat_file(at(path)) != content:
                    raise FileExistsError(f"{url}/{path}") from None

    def replace(path: str, content: bytes) -> None:
        with _in_words(url, path, "written"):
            system.pipe_file(at(path), content)

    def send(path: str, content: bytes) -> int:
        with _in_words(url, path, "written"):
            if len(content) > PART and hasattr(system, "call_s3"):
                return _send_parts(system, at(path), content)
            system.pipe_file(at(path), content)
        return 0

    def remove(path: str) -> None:
        with suppress(FileNotFoundError), _in_words(url, path, "removed"):
            system.rm(at(path), recursive=True)

    return Store(url, open_path, exists, names, create, replace, send, remove, None)


def _send_parts(system: Any, path: str, content: bytes) -> int:
    """An S3 object in parts, those left out that an upload that was cut off has sent: how many bytes these were.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html: at most 10,000 parts; a part's tag is its
    MD5, or, where the bucket encrypts by a key of its own, something else, and then it is sent again.
    """
    bucket, key, _ = system.split_path(path)
    where = {"Bucket": bucket, "Key": key}
    size = max(PART, -(-len(content) // 10_000))
    pieces = {number: content[start : start + size] for number, start in enumerate(range(0, len(content), size), 1)}
    begun = system.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key).get("Uploads") or []
    uploads = [one["UploadId"] for one in begun if one["Key"] == key]
    upload = uploads[-1] if uploads else system.call_s3("create_multipart_upload", **where)["UploadId"]
    there: dict[int, str] = {}
    while uploads:
        told = system.call_s3("list_parts", **where, UploadId=upload, PartNumberMarker=max(there, default=0))
        there |= {one["PartNumber"]: one["ETag"] for one in told.get("Parts") or []}
        if not told.get("IsTruncated"):
            break

    def put(number: int) -> str:
        if there.get(number, "").strip('"') == hashlib.md5(pieces[number], usedforsecurity=False).hexdigest():
            return there[number]
        body = {"UploadId": upload, "PartNumber": number, "Body": pieces[number]}
        there.pop(number, None)
        return system.call_s3("upload_part", **where, **body)["ETag"]

    with ThreadPoolExecutor(4) as pool:
        tags = list(pool.map(put, pieces))
    parts = [{"PartNumber": number, "ETag": tag} for number, tag in zip(pieces, tags, strict=True)]
    system.call_s3("complete_multipart_upload", **where, UploadId=upload, MultipartUpload={"Parts": parts})
    return sum(len(pieces[number]) for number in there if number in pieces)


@contextmanager
def _in_words(root: str, path: str, done: str) -> Iterator[None]:
    try:
        yield
    except (Refused, FileNotFoundError, FileExistsError):
        raise
    except Exception as error:
        if "://" not in root:
            raise
        raise Refused(f"{root}/{path} cannot be {done}: {first_words(error)}.") from error
