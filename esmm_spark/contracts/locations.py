"""Paths and URIs: which forms are supported, what they resolve to, and secrets kept out of messages.

    /data/x  data/x  file:///data/x          this host; only file: URIs are percent-decoded
    hdfs://host:8020/x  viewfs://cluster/x   as Hadoop takes them: as they are written
    s3://bucket/x  s3a://bucket/x            the same place
    gs://bucket/x

An input may be a glob of Hadoop's: `*`, `?`, `[a-c]`, `[^a]`, `{a,b}`; a backslash before a character takes
its meaning away.
"""

import os
import posixpath
import re
from typing import NamedTuple
from urllib.parse import unquote

SUPPORTED = "a plain path, file:///, hdfs://, s3a:// (or s3://) or gs://"
GLOB_CHARACTERS = frozenset("*?[]{}\\")

_SCHEMES = ("file", "hdfs", "viewfs", "s3", "s3a", "gs")
# There a colon begins a port.
_OF_HADOOP = ("hdfs", "viewfs")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
# A secret key may hold slashes, so it ends where its @ stands. In the schemes of the first half a name before
# the @ is no secret, one with a colon in it is.
_CREDENTIALS = re.compile(
    r"((?:hdfs|viewfs|abfss?|wasbs?)://)[^/@\s'\"]+@|(?<![A-Za-z])((?!(?:hdfs|viewfs|abfss?|wasbs?):)[A-Za-z][A-Za-z0-9+.-]*://)"
    r"[^/@\s'\"]+(?::[^@\s'\"]*)?@",
    re.IGNORECASE,
)
_QUERY = re.compile(r"(://[^\s'\"?]*\?)[\w.%-]+=[^\s'\"]*")
_SECRET_REMEDY = "name keys, regions and endpoints in the environment (AWS_*) or in Spark's own settings"
_DEFAULT_PORTS = {"hdfs": ":8020"}
_EXAMPLES = {
    "hdfs": "host/x, or hdfs:///x for the cluster's own",
    "viewfs": "cluster/x",
    **dict.fromkeys(("s3", "s3a", "gs"), "bucket/x"),
}


class Place(NamedTuple):
    """Where a location leads.

    Attributes:
        store: what only equal places can share: `local`, `s3`, `hdfs`, ...
        authority: bucket or host; empty in `hdfs:///x`, which the cluster's settings complete.
        parts: the names of the folders down to it and its own; globs where it is one.
    """

    store: str
    authority: str
    parts: tuple[str, ...]


def redacted(text: str) -> str:
    """Returns `text` without the credentials and queries of the URIs in it.

    Example: `no file at s3a://KEY:SECRET@bucket/x` gives `no file at s3a://***@bucket/x`.
    """
    if "://" not in text:
        return text
    return _QUERY.sub(r"\1***", _CREDENTIALS.sub(lambda found: f"{found[1] or found[2]}***@", text))


def require_no_secret(text: str) -> None:
    """Raises ValueError if a URI in `text` carries what may be neither stored nor shown."""
    found = _CREDENTIALS.search(text)
    is_secret = found is not None and (found[2] is not None or ":" in found[0].removeprefix(found[1]))
    if is_secret or _QUERY.search(text):
        what = "credentials" if is_secret else "a query"
        raise ValueError(f"{redacted(text)} carries {what}, which would be stored: {_SECRET_REMEDY}")


def split_location(location: str) -> tuple[str, str, str]:
    """Returns scheme (lower case), host or bucket, and path; for this host two empty texts and a plain path.

    Example: `S3A://bucket/a b/c` gives `("s3a", "bucket", "a b/c")`, `file:///data/a%20b` gives
    `("", "", "/data/a b")`.

    Raises:
        ValueError: the scheme is not supported, or the host or bucket is missing or can't be one.
    """
    match = _SCHEME.match(location)
    if match is None or (match[2] is None and match[1].lower() not in _SCHEMES):
        return "", "", location
    scheme, rest = match[1].lower(), location[match.end() :]
    if scheme not in _SCHEMES:
        raise ValueError(f"the scheme {match[1]} is not supported: use {SUPPORTED}")
    if scheme == "file":
        return "", "", _local_path(rest, has_authority=match[2] is not None)
    authority, _, path = rest.partition("/")
    if match[2] is None or (not authority and scheme != "hdfs"):
        raise ValueError(f"it names no host or bucket: write {scheme}://{_EXAMPLES[scheme]}")
    if ":" in authority and not (scheme in _OF_HADOOP and authority.rpartition(":")[2].isdigit()):
        raise ValueError(f"{authority} is no host or bucket")
    return scheme, authority, path


def normal_location(location: str) -> str:
    """Returns a location as this package writes it: a plain path on this host, else a URI in lower case.

    Example: `file:///data/a%20b/` gives `/data/a b`, `S3A://bucket/x` gives `s3a://bucket/x`.

    Raises:
        ValueError: it can't be what its author means: empty, with a secret, or as `split_location` raises.
    """
    if not location.strip() or any(ord(character) < 32 for character in location):
        raise ValueError("a path must not be empty or hold control characters")
    if location == "~" or location.startswith("~/"):
        raise ValueError("~ is the shell's, here it would be a folder of that name: write the whole path")
    require_no_secret(location)
    scheme, authority, path = split_location(location)
    if not scheme:
        return path.rstrip("/") or "/"
    return f"{scheme}://{authority}/{path}".rstrip("/") if authority else f"{scheme}:///{path.rstrip('/')}"


def check_glob(location: str) -> None:
    """Raises ValueError where a glob is none, as with a bracket that is never closed: Spark would fail."""
    text = re.sub(r"\\.", "", location)
    for opening, closing in ("[]", "{}"):
        if text.count(opening) > text.count(closing):
            raise ValueError(
                f"it is taken as a glob, in which {opening} is never closed: write \\{opening} for the "
                "character itself"
            )
    try:
        re.compile(glob_regex(location))
    except re.error as error:
        raise ValueError(f"it is taken as a glob, and is none: {error.msg}") from error


def escape_glob(path: str) -> str:
    """Returns the glob that matches `path` alone."""
    return re.sub(r"([*?\[\]{}\\])", r"\\\1", path)


def glob_characters(location: str) -> str:
    """Returns the characters of a location that have a meaning in a glob, in the order of their codes."""
    return "".join(sorted(GLOB_CHARACTERS.intersection(location)))


def glob_hint(location: str) -> str:
    """Returns a hint to append to an error: the location was taken as a glob; empty where it is none."""
    found = glob_characters(location)
    return f" (it is taken as a glob: write {found[0]} as \\{found[0]} to mean itself)" if found else ""


def literal_hint(location: str) -> str:
    """Returns a hint to append to an error: globs aren't taken here; empty where it can't be meant as one."""
    return " (no glob is taken here: name one file or folder)" if glob_characters(location) else ""


def place_of(location: str, is_glob: bool = False) -> Place:
    """Returns where a location that `normal_location` gave leads, links, `.` and `..` resolved."""
    scheme, authority, path = split_location(location)
    if not scheme:
        return Place("local", "", _local_parts(path, is_glob))
    authority = authority.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS.get(scheme, "\0"))
    return Place("s3" if scheme == "s3a" else scheme, authority, _parts(posixpath.normpath(f"/{path}")))


def overlap(first: Place, second: Place, are_globs: tuple[bool, bool] = (False, False)) -> bool:
    """Returns whether one place may lie inside the other, or both are one.

    Args:
        first: a place.
        second: another.
        are_globs: which of them is a glob; not both. A glob is what it matches: `/raw/*.csv` and `/raw/out`
            don't overlap, `/raw/*` and `/raw/out` do.
    """
    if first.store != second.store:
        return False
    # hdfs:///x may be any host's.
    if first.authority != second.authority and (first.authority and second.authority):
        return False
    if are_globs[1]:
        first, second = second, first
    if not any(are_globs):
        return all(a == b for a, b in zip(first.parts, second.parts, strict=False))
    for glob, name in zip(first.parts, second.parts, strict=False):
        if glob.count("{") != glob.count("}"):
            # Alternatives with slashes in them: whatever begins like this.
            return True
        if re.fullmatch(glob_regex(glob), name) is None:
            return False
    return True


def glob_regex(glob: str) -> str:
    """Returns Hadoop's glob as a regular expression over whole paths: `*` and `?` match no slash.

    By hand, because what we list must be what Spark reads, and pyarrow has no globs, while fsspec's
    (`fsspec.utils.glob_translate`, 2026.9.0) are others than Hadoop's in four of four cases: `{a,b}` and a
    backslash stand for themselves, `[^a]` matches `^` or `a`, and `**` crosses slashes.
    """
    simple = {"*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", "[": "[", "]": "]"}
    regex, in_braces, in_brackets = "", 0, False
    characters = iter(glob)
    for character in characters:
        if character == "\\":
            regex += re.escape(next(characters, "\\"))
            continue
        if character == "}" and not in_braces:
            regex += re.escape(character)
            continue
        in_braces += {"{": 1, "}": -1}.get(character, 0)
        if in_brackets and character in "-^!":
            regex += "^" if character == "!" and regex.endswith("[") else character
        elif character == "," and in_braces:
            regex += "|"
        else:
            regex += simple.get(character, re.escape(character))
        in_brackets = character == "[" or (in_brackets and character != "]")
    return regex


def _local_path(rest: str, has_authority: bool) -> str:
    authority, slash, path = rest.partition("/") if has_authority else ("", rest[:1], rest[1:])
    if authority not in ("", "localhost") or slash != "/":
        raise ValueError(
            f"{authority or rest!r} stands where a host would: write file:///folder/x, or a plain path"
        )
    return f"/{unquote(path)}"


def _local_parts(path: str, is_glob: bool) -> tuple[str, ...]:
    """Returns the parts of a local path; links are resolved in all of it, or before the glob begins."""
    path = os.path.join(os.getcwd(), path)
    if not is_glob:
        return _parts(os.path.realpath(path))
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if GLOB_CHARACTERS.intersection(part)), len(parts))
    fixed = os.path.realpath("/".join(parts[:first]) or "/")
    return (*_parts(escape_glob(fixed)), *_parts("/".join(parts[first:])))


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)
