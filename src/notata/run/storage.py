"""The stores of one run, built once from its options: each writer and reader of the run takes one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from notata.errors import ConfigurationError, NotataError
from notata.manifest import FileRecords, HashingBackend
from notata.store import Location, Store, open_base

if TYPE_CHECKING:
    from notata.background import BackgroundBackend

__all__ = ["RunStorage"]

_PENDING: Final = 64 * 2**20
"""Maximum number of pending bytes of a run in the background."""


@dataclass(frozen=True)
class RunStorage:
    """The stores of one run, from the outside in.

    Attributes:
        store: What the writers of the run use. In background mode, it queues what they write.
        direct: The same without a queue, for writes that must not wait for others: the claim, the log, the manifest.
        plain: The same without records for the manifest, for workers and copies.
        records: Size and hash of each stored file; without a manifest only of those that metadata.json repeats.
        queue: The pending writes; None if writes are not in the background.
    """

    store: Store
    direct: Store
    plain: Store
    records: FileRecords
    queue: BackgroundBackend | None

    @classmethod
    def of(
        cls,
        base: Location | None,
        options: Mapping[str, Any] | None,
        folder: str,
        *,
        manifest: bool,
        background: bool | int,
        check: Callable[[], None],
        lost: Callable[[str, NotataError], None],
    ) -> RunStorage:
        """Build the stores. No request.

        Args:
            base: The folder that contains the run.
            options: `storage_options` for fsspec.
            folder: The name of the run's folder.
            manifest: Record size and hash of each file, for the manifest.
            background: Queue the writes: True, or the maximum number of pending bytes.
            check: Called before a queued write starts; if it raises an exception, the write fails with it.
            lost: Called for each failed queued write.

        Raises:
            ConfigurationError: An argument is invalid.
        """
        if background is not True and background is not False and (not isinstance(background, int) or background < 1):
            raise ConfigurationError(f"invalid background {background!r}: pass True, False or a number of bytes")
        plain = open_base(base, options).below(folder)
        plain.path_for()  # imports path objects now: a signal handler cannot use a module whose import it interrupts
        queue = None
        hashing = HashingBackend(plain.backend, every=manifest)
        store = direct = Store(hashing, plain.progress)
        if background:
            from notata.background import BackgroundBackend

            most = _PENDING if background is True else background
            queue = BackgroundBackend(direct.backend, most, check=check, lost=lost)
            store = Store(queue, plain.progress)
        return cls(store, direct, plain, hashing.records, queue)
