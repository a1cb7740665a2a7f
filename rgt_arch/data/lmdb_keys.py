"""LMDB keys from file names: legal for LMDB, read back unchanged by BasicSR, and equal for HR and LR."""

from __future__ import annotations

import hashlib
import string
import urllib.parse
from collections.abc import Sequence
from pathlib import Path, PurePath

from rgt_arch.errors import UsageError, UserError

MAX_KEY_BYTES = 511  # LMDB's own limit
# `quote` never encodes letters, digits and "_.-~"; of the rest, all that is visible ASCII stays, "%" excepted.
_KEPT = "".join(sorted(set(string.punctuation) - set("%.")))
_SHORTENED = "%~"  # occurs in no other key: there two hexadecimal digits follow every "%"


def lmdb_key(name: PurePath, ending: str = "") -> str:
    """The key of an image: its path in its folder without suffix, parts joined by "/" as in BasicSR's Vimeo keys.

    Visible ASCII stays as it is, so that 0001_s001.png has the key 0001_s001. Dots, at which BasicSR ends a key
    (data/data_util.py:142), spaces, "%", control characters and all beyond ASCII become "%" and two hexadecimal digits
    per UTF-8 byte. Different names have different keys; keys above 511 bytes are cut and end with a SHA-256.
    ending: what the stem ends with and is no part of the key, such as "x2".
    Raises UserError if the stem does not end so, or nothing is left.
    """
    if not name.stem.endswith(ending) or name.stem == ending:
        raise UserError(f"{name}: its name does not end with {ending!r} after a name, as --ending asks")
    text = "/".join((*name.parent.parts, name.stem.removesuffix(ending)))
    encoded = text.encode("utf-8", "surrogateescape")  # names that are no UTF-8 come as surrogates
    key = urllib.parse.quote(encoded, safe=_KEPT).replace(".", "%2E")
    if len(key) <= MAX_KEY_BYTES:
        return key
    digest = _SHORTENED + hashlib.sha256(encoded).hexdigest()
    return key[: MAX_KEY_BYTES - len(digest)] + digest


def check_keys(images: Sequence[Path], keys: Sequence[str]) -> None:
    """Raises UsageError unless there is one legal key for each image, and no two are equal."""
    if len(images) != len(keys):
        raise UsageError(f"{len(images)} images were given with {len(keys)} keys; each image needs one")
    owners: dict[str, Path] = {}
    for image, key in zip(images, keys, strict=True):
        if not key or not key.isascii() or not key.isprintable() or "." in key or " " in key:
            raise UsageError(f"{image}: LMDB key {key!r} must be ASCII without dots and spaces; rename the file")
        if len(key) > MAX_KEY_BYTES:
            raise UsageError(
                f"{image}: LMDB key has {len(key)} characters, at most {MAX_KEY_BYTES} fit; rename the file"
            )
        if key in owners:
            raise UsageError(f"{image} and {owners[key]} have the same LMDB key {key!r}; rename one of them")
        owners[key] = image
