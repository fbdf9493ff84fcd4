"""Store and verify the manifest of a run: each file with its size and SHA-256.

`HashingBackend` records sizes and hashes during writes, `ManifestWriter` stores ``manifest.json``, and `verify` reads
the files again and compares them. `notata.manifest.trust` has the rule of what a manifest proves.
"""

from notata.manifest.document import Document, Receipt
from notata.manifest.recording import FileRecords, HashingBackend
from notata.manifest.shared_writer import SharedManifestWriter
from notata.manifest.trust import valid_receipts
from notata.manifest.verifying import VerifyReport, verify
from notata.manifest.writer import ManifestWriter

__all__ = [
    "Document",
    "FileRecords",
    "HashingBackend",
    "ManifestWriter",
    "Receipt",
    "SharedManifestWriter",
    "VerifyReport",
    "valid_receipts",
    "verify",
]
