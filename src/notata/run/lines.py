"""What a script says to a run's log; it knows a logger and its handler, and nothing of files."""

from __future__ import annotations

import logging
from typing import Any

from notata.run.journal import Journal, RunLogger, level_of

__all__ = ["Lines"]


class Lines:
    """The calls that leave a line in log.txt.

    Attributes:
        logger: What they log to: a `logging.Logger` that no registry holds.
        handler: The `logging.Handler` that writes log.txt, for loggers of your own.
    """

    logger: RunLogger
    handler: Journal

    def note(self, message: object, level: int | str = logging.INFO) -> None:
        """Write a line to log.txt: ``[YYYY-MM-DDTHH:MM:SS] LEVEL message``, in local time.

        Local disk and memory: it is there when the call returns. Buckets: within seconds, less often as the log grows,
        soon after a warning or an error, and in any case at `flush`, at the end of the run and of the interpreter. No
        call waits for a bucket, and none raises: a line that cannot be stored yet is kept and tried again.

        Args:
            message: Anything; its text counts. One of several lines is indented from the second on.
            level: Of `logging`, by number or name.

        >>> log.note("grid refined")
        >>> log.log_path.read_text().splitlines()[-1].partition("] ")[2]
        'INFO grid refined'
        """
        self.logger.log(level_of(level), message, stacklevel=2)

    def debug(self, msg: object, *args: object, **options: Any) -> None:
        """A line of level DEBUG, which log.txt takes only where the level is set to it.

        Args:
            msg: As for `note`; with `args` it is a format, as in `logging`.
            *args: Put into the message.
            **options: As for `logging.Logger.debug`: `exc_info`, `stack_info`, `stacklevel`, `extra`.

        >>> log.debug("residual %.1e", 3e-9)
        """
        self._log(logging.DEBUG, msg, args, options)

    def info(self, msg: object, *args: object, **options: Any) -> None:
        """A line of level INFO. Arguments as for `debug`.

        >>> log.info("step %d of %d", 10, 100)
        """
        self._log(logging.INFO, msg, args, options)

    def warning(self, msg: object, *args: object, **options: Any) -> None:
        """A line of level WARNING. Arguments as for `debug`.

        >>> log.warning("step size %g is at its minimum", 1e-12)
        """
        self._log(logging.WARNING, msg, args, options)

    def error(self, msg: object, *args: object, **options: Any) -> None:
        """A line of level ERROR. Arguments as for `debug`.

        >>> log.error("solver did not converge")
        """
        self._log(logging.ERROR, msg, args, options)

    def exception(self, msg: object, *args: object, **options: Any) -> None:
        """A line of level ERROR with the traceback of the exception that is being handled. Arguments as for `debug`.

        >>> try:
        ...     1 / 0
        ... except ZeroDivisionError:
        ...     log.exception("no mean flow")
        >>> log.log_path.read_text().splitlines()[-1]
        '  ZeroDivisionError: division by zero'
        """
        self._log(logging.ERROR, msg, args, {"exc_info": True, **options})

    def _log(self, level: int, msg: object, args: tuple[object, ...], options: dict[str, Any]) -> None:
        above = options.pop("stacklevel", 1) + 2  # the caller's line, for formatters that show it
        self.logger.log(level, msg, *args, stacklevel=above, **options)

    def flush(self) -> None:
        """Store what of log.txt is not stored yet. In a bucket one request for a small log, some for a large one.

        Raises:
            StorageError: The storage refused. The lines are kept, and tried again.

        >>> log.flush()
        """
        self.handler.flush()
