"""A folder at an fsspec URL, such as a bucket's prefix, with every failure of it as a sentence."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from service.errors import BundlesUnavailable, BundlesUrlRefused

S3 = {"s3", "s3a"}
CREDENTIALS = re.compile(r"(?<=//)[^/@\s]*@")
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "file": {"auto_mkdir": True},
    "s3": {"config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 1}}},
}
"""By protocol; beside them s3fs reads the environment, `AWS_ENDPOINT_URL` and the keys among it, as every AWS tool."""


class RemoteFolder:
    """Files below one URL, by paths relative to it. Every method raises BundlesUnavailable where it cannot be reached.

    The connection is made anew in a forked process, since its event loop's thread is not there.
    """

    def __init__(self, url: str) -> None:
        """Look at the URL and load what speaks its protocol; nothing is connected. Raises BundlesUrlRefused."""
        self.url = url.rstrip("/")
        self._protocol = urlsplit(url).scheme
        self._kind, self._troubles = _speaking(self._protocol, url)
        self._root = str(self._kind._strip_protocol(url)).rstrip("/")
        if not self._root:
            raise BundlesUrlRefused(url, "it names no bucket or folder; it looks like s3://bucket/prefix")
        self._connected: tuple[int, Any] | None = None

    def read(self, path: str) -> bytes | None:
        """A file's bytes, None where there is none."""
        with suppress(FileNotFoundError), self._sentences(may_be_absent=True):
            content: bytes = self._files().cat_file(f"{self._root}/{path}")
            return content
        return None

    def write(self, path: str, content: bytes) -> None:
        """Put a file as a whole."""
        with self._sentences():
            self._files().pipe_file(f"{self._root}/{path}", content)

    def upload(self, source: Path, path: str) -> None:
        """Put a file of this machine."""
        with self._sentences():
            self._files().put_file(str(source), f"{self._root}/{path}")

    def download(self, path: str, target: Path) -> bool:
        """Get a file onto this machine; False where there is none."""
        with suppress(FileNotFoundError), self._sentences(may_be_absent=True):
            self._files().get_file(f"{self._root}/{path}", str(target))
            return True
        return False

    def names(self) -> list[str]:
        """The names directly below the URL."""
        with suppress(FileNotFoundError), self._sentences(may_be_absent=True):
            found = self._files().ls(self._root, detail=False)
            return sorted({str(one).rstrip("/").rsplit("/", 1)[-1] for one in found})
        return []

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all in it; nothing where there is none."""
        with suppress(FileNotFoundError), self._sentences(may_be_absent=True):
            self._files().rm(f"{self._root}/{path}", recursive=True)

    def _files(self) -> Any:  # noqa: ANN401  # fsspec has no types
        if self._connected is None or self._connected[0] != os.getpid():
            options = OPTIONS.get("s3" if self._protocol in S3 else self._protocol, {})
            files = self._kind(**options, use_listings_cache=False, skip_instance_cache=True)
            files.retries = 2  # where there is an outage a copy on this machine is better than patience
            self._connected = os.getpid(), files
        return self._connected[1]

    @contextmanager
    def _sentences(self, *, may_be_absent: bool = False) -> Iterator[None]:
        """Raise BundlesUnavailable for what goes wrong; where a file may be absent, that as FileNotFoundError."""
        try:
            yield
        except self._troubles as error:
            absent = may_be_absent and isinstance(error, FileNotFoundError)
            if absent and not _of_missing_bucket(error):
                raise
            raise self._sentence(error) from error

    def _sentence(self, error: Exception) -> BundlesUnavailable:
        reason = CREDENTIALS.sub("", str(error) or type(error).__name__).strip().splitlines()[0]
        if _of_missing_bucket(error):
            advice = "make the bucket, or set APPSHELF_BUNDLES_URL to one that is there"
        elif isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError":
            advice = "give the process credentials that may list, read, write and delete there, then try again"
        elif getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            advice = "make room on the disk, then try again"
        else:
            advice = "check the address and the network between, then try again"
        return BundlesUnavailable(self.url, reason, advice=advice)


def _of_missing_bucket(error: Exception) -> bool:
    response = getattr(error.__cause__, "response", None) or {}
    return bool(response.get("Error", {}).get("Code") == "NoSuchBucket")


def _speaking(protocol: str, url: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """The file system of a protocol, and what it raises where it fails."""
    if "@" in urlsplit(url).netloc:
        shown = CREDENTIALS.sub("***@", url)
        raise BundlesUrlRefused(shown, "an address is no place for credentials; AWS_ACCESS_KEY_ID and its like are")
    if not protocol:
        raise BundlesUrlRefused(url, "it names no protocol; it looks like s3://bucket/prefix or file:///folder")
    from fsspec import get_filesystem_class  # here, as most homes keep their bundles in a folder

    try:
        kind = get_filesystem_class(protocol)
    except ValueError as error:
        raise BundlesUrlRefused(url, f"{protocol} is no protocol known here; s3 and file are") from error
    except ImportError as error:
        extra = "pip install 'appshelf[s3]'" if protocol in S3 else f"install what fsspec needs for {protocol}"
        raise BundlesUrlRefused(url, f"{protocol} needs a library that is not installed; {extra}") from error
    return kind, (OSError, *(_of_s3() if protocol in S3 else ()))


def _of_s3() -> tuple[type[Exception], ...]:
    from aiohttp import ClientError as StreamBroken
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError, StreamBroken
