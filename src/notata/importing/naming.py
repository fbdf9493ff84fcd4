"""Turn names of other tools into run ids, folders of experiments, keys and names of columns that are legal here."""

from __future__ import annotations

import re
from typing import Final
from zlib import crc32

from notata._base import keys
from notata.errors import KeyNameError
from notata.series.rows import RESERVED

__all__ = ["IMPORTED", "artifact_key", "column_name", "is_legal", "legal_name"]

IMPORTED: Final = "artifacts/imported"
"""Folder of a run for what its importer keeps beside the usual files, and for files whose own key is taken."""

_TAKEN: Final = (keys.METRICS, "artifacts/debug/", f"{IMPORTED}/")
_ILLEGAL: Final = re.compile(r"[^\w.=+@(),:~ -]")
_LONGEST: Final = 180  # bytes of a name; with `log_` and a checksum it stays below the 255 of file systems


def legal_name(name: str) -> str:
    """Return a name as a run id or the folder of an experiment, one segment of a key.

    Folders are joined by ``--``. If other characters had to be replaced, a checksum of the name is added. So the same
    name always gives the same result, and different names give different results.

    >>> legal_name("4231b66e"), legal_name("lr_0.1/train"), legal_name("/Users/me/pendulum")
    ('4231b66e', 'lr_0.1--train', 'Users--me--pendulum-3525fa08')
    """
    text = _ILLEGAL.sub("_", name.replace("/", "--")).strip(" ")
    text = text.strip("-.") if text.startswith(("-", ".")) else text
    text = text.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")
    if text.replace("--", "/") == name and not _is_special(text):
        return text
    return f"{text or 'run'}-{crc32(name.encode('utf-8', 'surrogatepass')):08x}"


def _is_special(text: str) -> bool:
    """Check whether a name has a meaning in a folder of runs, or is illegal on some backend."""
    if text in (keys.RUNS, keys.INDEX, "index", "sweeps") or text.startswith(("log_", keys.RESERVED)):
        return True
    return not keys.is_run_id(text)


def artifact_key(path: str) -> str:
    """Return the key of a copied artifact; one that would be a file of notata goes below `IMPORTED`.

    Raises:
        KeyNameError: The path cannot be a key.

    >>> artifact_key("model/weights.bin"), artifact_key("metrics.json")
    ('artifacts/model/weights.bin', 'artifacts/imported/metrics.json')
    """
    key = keys.check(f"{keys.ARTIFACTS}/{path}")
    return keys.check(f"{IMPORTED}/{path}") if key.startswith(_TAKEN) else key


def column_name(name: str) -> str:
    """Return the name of a column of a series; a name that rows use themselves gets an underscore.

    >>> column_name("loss"), column_name("time")
    ('loss', 'time_')
    """
    return f"{name}_" if name in RESERVED or not name else name


def is_legal(path: str) -> bool:
    """Check whether a path can be a key."""
    try:
        return bool(keys.check(path))
    except KeyNameError:
        return False
