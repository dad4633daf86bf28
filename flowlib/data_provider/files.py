"""``File``: a name for data that tasks read and write, wherever it lies.

It holds a URL and, where staging has brought the data here, the path of the local copy.  It is small and travels with
every task that uses it.
"""

from __future__ import annotations

import os
import re
from typing import Any

# A local name may hold any character, so "#", "?", ";" and ":" mean something only where "//" says that this is a URL,
# or where the scheme is one that is known to go without.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(.*)", re.DOTALL)
_SHORT = re.compile(r"(file|zip):(.*)", re.DOTALL)


class File:
    """A file, local or remote, as an argument or output of apps.

    Two files are equal if they name the same thing.

    Args:
        url: A path (``str`` or ``os.PathLike``), or a URL such as ``file:///data/x``, ``https://host/x``.

    Attributes:
        url: As given.
        scheme: "file" for local ones, else what the URL says.
        netloc: Host of the URL, "" if none.
        path: Path, without the query and fragment of a remote URL.
        filename: Last part of the path.
        local_path: Where staging put it on this machine; None if it did not.

    Raises:
        TypeError: It is neither text nor a path.
        ValueError: It is empty or contains a null character.

    Example:
        >>> file = File("results/run #3; final?.txt")
        >>> file.scheme, file.filename, str(file)
        ('file', 'run #3; final?.txt', 'results/run #3; final?.txt')
    """

    __slots__ = ("filename", "local_path", "netloc", "path", "scheme", "url")

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.local_path: str | None = None
        if isinstance(url, File):
            self._take(url)
            return
        if isinstance(url, str):
            text = url
            scheme, netloc, path = _split(url)
        elif hasattr(url, "__fspath__"):
            # What is a path already is none of a URL, whatever it looks like.
            path = text = os.fspath(url)
            scheme, netloc = "file", ""
        else:
            raise TypeError(f"a File is made of a path or URL (str or os.PathLike), not of {url!r}")
        if not isinstance(text, str):
            raise TypeError(f"a File is made of text, not of {text!r}: decode it with os.fsdecode()")
        if not path and not netloc:
            raise ValueError(f"a File needs a path or URL, {text!r} names nothing")
        if "\0" in text:
            raise ValueError(f"{text!r} contains a null character, which no file name can")
        self.url = text
        self.scheme = scheme
        self.netloc = netloc
        self.path = path
        self.filename = path.rstrip("/").rpartition("/")[2]

    def _take(self, other: File) -> None:
        self.url, self.scheme, self.netloc = other.url, other.scheme, other.netloc
        self.path, self.filename = other.path, other.filename

    @property
    def filepath(self) -> str:
        """Path on this machine: the staged copy's if there is one, else a local file's own.

        Raises:
            ValueError: A remote file that has not been staged.
        """
        if self.local_path is not None:
            return self.local_path
        if self.scheme == "file":
            return self.path
        raise ValueError(
            f"{self!r} has no local path here: it is remote and was not staged; give it to an app as an argument, "
            f"input or output, on an executor that stages {self.scheme!r}"
        )

    def cleancopy(self) -> File:
        """A new File of the same URL, without a local path."""
        return File(self)

    def __fspath__(self) -> str:
        return self.filepath

    def __str__(self) -> str:
        if self.local_path is not None:
            return self.local_path
        return self.path if self.scheme == "file" else self.url

    def __repr__(self) -> str:
        staged = f", staged to {self.local_path!r}" if self.local_path is not None else ""
        return f"File({self.url!r}{staged})" if not staged else f"<File {self.url!r}{staged}>"

    def _key(self) -> tuple[str, ...]:
        return (self.scheme, self.netloc, self.path) if self.scheme == "file" else (self.url,)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, File) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        if self.local_path is None and self.url is self.path:
            return _local, (self.path,)
        return _rebuild, (self.url, self.scheme, self.netloc, self.path, self.local_path)


def _split(url: str) -> tuple[str, str, str]:
    """Scheme, host and path of a path or URL."""
    match = _URL.fullmatch(url)
    if match is None:
        short = _SHORT.fullmatch(url)
        return (short[1], "", short[2]) if short is not None else ("file", "", url)
    scheme, netloc, path = match[1].lower(), match[2], match[3]
    if scheme != "file":
        netloc = re.split("[?#]", netloc, maxsplit=1)[0]
        path = re.split("[?#]", path, maxsplit=1)[0]
    return scheme, netloc, path


def _local(path: str) -> File:
    """A local file, unpickled."""
    return _rebuild(path, "file", "", path, None)


def _rebuild(url: str, scheme: str, netloc: str, path: str, local_path: str | None) -> File:
    """A file, unpickled: nothing is parsed again."""
    file = File.__new__(File)
    file.url, file.scheme, file.netloc, file.path, file.local_path = url, scheme, netloc, path, local_path
    file.filename = path.rstrip("/").rpartition("/")[2]
    return file
