"""What a run consists of: each file with its size and SHA-256, noted while it is stored; it knows no run's life.

`LedgerStore` notes, `Keeper` stores ``manifest.json``, `verify` reads the files again and compares.
"""

from notata.manifest.document import Document, Receipt, merge
from notata.manifest.keeper import Keeper
from notata.manifest.ledger import Ledger, LedgerStore
from notata.manifest.shared import SharedKeeper
from notata.manifest.verifying import VerifyReport, verify

__all__ = ["Document", "Keeper", "Ledger", "LedgerStore", "Receipt", "SharedKeeper", "VerifyReport", "merge", "verify"]
