"""Store and verify the manifest of a run: each file with its size and SHA-256.

`LedgerStore` records sizes and hashes during writes, `Keeper` stores ``manifest.json``, and `verify` reads the files
again and compares them.
"""

from notata.manifest.document import Document, Receipt, merge
from notata.manifest.keeper import Keeper
from notata.manifest.ledger import Ledger, LedgerStore
from notata.manifest.shared import SharedKeeper
from notata.manifest.verifying import VerifyReport, verify

__all__ = ["Document", "Keeper", "Ledger", "LedgerStore", "Receipt", "SharedKeeper", "VerifyReport", "merge", "verify"]
