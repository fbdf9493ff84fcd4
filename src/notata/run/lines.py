"""Log methods of a run: `note`, `debug`, `info`, `warning`, `error`, `exception`, `flush`."""

from __future__ import annotations

import logging
from typing import Any

from notata.run.journal import Journal, RunLogger, level_of

__all__ = ["LogMethods"]


class LogMethods:
    """Methods that write a line to log.txt.

    Attributes:
        logger: The `logging.Logger` that they use. It is in no registry of `logging`.
        handler: The `logging.Handler` that writes log.txt. Add it to your own loggers.
    """

    logger: RunLogger
    handler: Journal

    def note(self, message: object, level: int | str = logging.INFO) -> None:
        """Write a line to log.txt: ``[YYYY-MM-DDTHH:MM:SS] LEVEL message``, in local time.

        On a local disk and in memory, the line is stored when the call returns. In a bucket, lines are stored within
        seconds, less often as the log grows, and one second after a warning or an error. `flush`, the end of the run
        and the end of the interpreter store all lines. A call never waits for a bucket and never raises a storage
        error; a line that cannot be stored stays pending and is retried.

        Args:
            message: Any object, logged as its text. Continuation lines are indented.
            level: A level of `logging`, by number or name.

        >>> log.note("grid refined")
        >>> log.log_path.read_text().splitlines()[-1].partition("] ")[2]
        'INFO grid refined'
        """
        self._log(level_of(level), message, (), {})

    def debug(self, msg: object, *args: object, **options: Any) -> None:
        """Log a line of level DEBUG. By default, log.txt does not include this level.

        Args:
            msg: The message: any object, logged as its text. With `args`, a format string for the ``%`` operator.
            *args: Values for the format string, which is formatted only if the line is written.
            **options: `exc_info`, `stack_info`, `stacklevel` and `extra` of `logging`.

        >>> log.debug("residual %.1e", 3e-9)
        """
        self._log(logging.DEBUG, msg, args, options)

    def info(self, msg: object, *args: object, **options: Any) -> None:
        """Log a line of level INFO.

        Args:
            msg: The message: any object, logged as its text. With `args`, a format string for the ``%`` operator.
            *args: Values for the format string.
            **options: `exc_info`, `stack_info`, `stacklevel` and `extra` of `logging`.

        >>> log.info("step %d of %d", 10, 100)
        """
        self._log(logging.INFO, msg, args, options)

    def warning(self, msg: object, *args: object, **options: Any) -> None:
        """Log a line of level WARNING.

        Args:
            msg: The message: any object, logged as its text. With `args`, a format string for the ``%`` operator.
            *args: Values for the format string.
            **options: `exc_info`, `stack_info`, `stacklevel` and `extra` of `logging`.

        >>> log.warning("step size %g is at its minimum", 1e-12)
        """
        self._log(logging.WARNING, msg, args, options)

    def error(self, msg: object, *args: object, **options: Any) -> None:
        """Log a line of level ERROR.

        Args:
            msg: The message: any object, logged as its text. With `args`, a format string for the ``%`` operator.
            *args: Values for the format string.
            **options: `exc_info`, `stack_info`, `stacklevel` and `extra` of `logging`.

        >>> log.error("solver did not converge")
        """
        self._log(logging.ERROR, msg, args, options)

    def exception(self, msg: object, *args: object, **options: Any) -> None:
        """Log a line of level ERROR with the traceback of the exception that is being handled.

        Args:
            msg: The message: any object, logged as its text. With `args`, a format string for the ``%`` operator.
            *args: Values for the format string.
            **options: `exc_info`, `stack_info`, `stacklevel` and `extra` of `logging`.

        >>> try:
        ...     1 / 0
        ... except ZeroDivisionError:
        ...     log.exception("no mean flow")
        >>> log.log_path.read_text().splitlines()[-1]
        '  ZeroDivisionError: division by zero'
        """
        self._log(logging.ERROR, msg, args, {"exc_info": True, **options})

    def _log(self, level: int, msg: object, args: tuple[object, ...], options: dict[str, Any]) -> None:
        if not options and type(self.logger) is RunLogger and self.logger.write_line(level, msg, args):
            return
        above = options.pop("stacklevel", 1) + 2  # the line of the caller, for formatters that show it
        self.logger.log(level, msg, *args, stacklevel=above, **options)

    def flush(self) -> None:
        """Store the pending lines of log.txt. In a bucket, one request for a small log, some for a large one.

        Raises:
            StorageError: The storage refused. The lines stay pending and are retried.

        >>> log.flush()
        """
        self.handler.flush()
