"""The same series of many runs, read at once: `RunSeries`, and one long table of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from notata._base import display, keys
from notata._base.notebook import page
from notata._base.terminal import quoted
from notata.errors import EncodeError, MissingError, NotataError, UnknownNameError
from notata.series.parsing import Array
from notata.series.reading import PIECE, SeriesData, check_joined, joined, kinds_of, read_series
from notata.series.summary import SCALARS
from notata.store import Entry, Store
from notata.store.prefetching import in_order

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["RunSeries", "SeriesFile", "gathered", "read_each", "series_files", "unknown_series"]

Failed: TypeAlias = "Callable[[NotataError], None]"


@dataclass(frozen=True, slots=True)
class SeriesFile:
    """The file of a series of one run.

    Attributes:
        run_id: The id of the run.
        run: The name of the run for users.
        store: The store of the run.
        key: The key of the file in it.
        size: The size in bytes, as listed.
        rank: The rank of the worker that writes the file; empty for the owner of the run.
    """

    run_id: str
    run: str
    store: Store
    key: str
    size: int
    rank: str = ""


def series_files(
    run: str, store: Store, entries: Mapping[str, Entry], name: str, *, workers: bool = False
) -> Iterator[SeriesFile]:
    """Yield the files of a series of one run, from its listing: that of the owner, and if requested those of workers.

    Args:
        run: The name of the run for users.
        store: The store of the run.
        entries: Its files by key.
        name: The name of the series.
        workers: Include the series of workers.

    Raises:
        KeyNameError: The name is no legal name of a series.
    """
    own = keys.series_file(name)
    found = {key: keys.series_name(key) or (None, "") for key in entries} if workers else {own: (None, name)}
    for key, (rank, called) in sorted(found.items()):
        if called == name and key in entries:
            yield SeriesFile(keys.run_id(store.url), run, store, key, entries[key].size, rank or "")


def unknown_series(name: str, url: str, entries: Iterable[Iterable[str]]) -> UnknownNameError:
    """Return the error for a series that none of the runs has, or only workers; the message names those that exist.

    Args:
        name: The name of the series.
        url: The place.
        entries: The keys of the files of each run.
    """
    found = {known for run in entries for key in run if (known := keys.series_name(key)) is not None}
    if any(series == name for _, series in found):
        message = f"no run at {url} has a series {quoted(name)} of its owner; only workers have it. Pass workers=True "
        return UnknownNameError(f"{message}(in the terminal, --workers)", url=url, key=name)
    there = display.listed(sorted({quoted(series) for _, series in found}), 20)
    message = f"no run at {url} has a series {quoted(name)}; they have {there or 'none'}"
    if there and name == SCALARS:  # the default
        message += ". Name one of them (in the terminal, with --series)"
    return UnknownNameError(message, url=url, key=name)


def read_each(
    files: Iterable[SeriesFile],
    name: str,
    *,
    columns: Collection[str] | None = None,
    repeated: bool = False,
    failed: Failed | None = None,
    held: Callable[[], int] = int,
) -> Generator[tuple[SeriesFile, SeriesData], None, None]:
    """Yield the rows of each file, in order, while the next files are being read. At most 32 MiB are prefetched.

    Args:
        files: The files.
        name: The name of the series.
        columns: Keep only columns that match one of these patterns.
        repeated: Include rows of earlier attempts that a later attempt repeated.
        failed: Called with the error of each file that cannot be read; by default, it is raised. A file that was
            removed is skipped.
        held: Returns how many values of the files before are still in use. Together with those of the next file they
            are at most `limits.SERIES_VALUES`.
    """
    wanted = (
        (file, file.size if file.size >= 0 else PIECE, partial(file.store.start_fetch, file.key, 0, PIECE))
        for file in files
    )
    with closing(in_order(wanted)) as coming:
        for file, future in coming:
            try:
                first = None if future is None else future.result()
                data = read_series(
                    file.store, file.key, name, columns=columns, repeated=repeated, first=first, before=held()
                )
            except MissingError:
                continue
            except NotataError as error:
                if failed is None:
                    raise
                failed(error)
                continue
            yield file, data


class RunSeries:
    """The rows of one series of many runs. Iteration yields the id of each run with its rows.

    Attributes:
        name: The name of the series.
        files: The file of each run.
        data: The rows of each file.

    >>> from notata import Experiment
    >>> experiment = Experiment("many", "memory://run-series")
    >>> for dt in (0.1, 0.2):
    ...     with experiment.add(dt=dt) as run:
    ...         run.scalars(step=3, loss=dt)
    >>> found = experiment.reader.series("scalars")
    >>> for run_id, data in found:
    ...     print(run_id, data["loss"])
    many_dt_0.1 [0.1]
    many_dt_0.2 [0.2]
    >>> found.to_pandas()[["run_id", "step", "loss"]]
            run_id  step  loss
    0  many_dt_0.1     3   0.1
    1  many_dt_0.2     3   0.2
    """

    def __init__(self, name: str, read: Iterable[tuple[SeriesFile, SeriesData]]) -> None:
        read = list(read)
        self.name = name
        self.files = [file for file, _ in read]
        self.data = [data for _, data in read]

    def __iter__(self) -> Iterator[tuple[str, SeriesData]]:
        return ((file.run_id, data) for file, data in zip(self.files, self.data, strict=True))

    def __len__(self) -> int:
        """Return the number of files: one for each run, and one for each of its workers if they were requested."""
        return len(self.files)

    def __repr__(self) -> str:
        return f"RunSeries({self.name!r}, {display.counted(self.rows, 'row')} of {len({*self._runs})} runs)"

    def _repr_html_(self) -> str:
        """Return a table of the last values and curves of the first runs, as HTML for a notebook. No request."""
        from notata.series.labels import Named
        from notata.series.pictures import rows_html

        runs = [
            (Named(file.run_id, file.run, {}), file.rank, data)
            for file, data in zip(self.files, self.data, strict=True)
        ]
        return page(f"series {self.name}: {self.rows:,} rows", rows_html(self.name, runs))

    @property
    def rows(self) -> int:
        """The number of rows of all runs."""
        return sum(data.rows for data in self.data)

    @property
    def _runs(self) -> list[str]:
        return [file.store.url for file in self.files]

    def to_pandas(self) -> pd.DataFrame:
        """Return one long DataFrame: `run_id`, `step`, `time` and the columns of the series, a row for each row.

        If several runs have the same id, the first column is `name`, the name of the run (`run` if the series has a
        column `name`). With workers, the column `rank` is empty for rows of the owner.

        Raises:
            PackageMissingError: pandas is not installed.
            TooLargeError: The frame would have more than `limits.SERIES_VALUES` values, gaps included.
        """
        rows, first = self._labelled()
        frame = rows.to_pandas()
        return frame[[*first, *(name for name in frame.columns if name not in first)]]

    def to_arrow(self) -> pa.Table:
        """Return one long `pyarrow.Table` with the columns of `to_pandas`; gaps are null.

        Raises:
            EncodeError: A column has values of several types, such as texts in one run and numbers in another.
            PackageMissingError: pyarrow is not installed.
            TooLargeError: The table would have more than `limits.SERIES_VALUES` values, gaps included.
        """
        rows, first = self._labelled()
        try:
            table = rows.to_arrow()
        except EncodeError as error:
            examples: dict[str, str] = {}
            for file, values in self._with(error.where):
                for kind in kinds_of(values):
                    examples.setdefault(kind, f"{kind} in {quoted(file.run)}")
            where = ", ".join(examples.values())
            raise EncodeError(f"{error}. There are {where}", where=error.where, key=self.name) from error
        return table.select([*first, *(name for name in table.column_names if name not in first)])

    def _with(self, column: str) -> Iterator[tuple[SeriesFile, Array]]:
        """Yield the files that have a column, and the column."""
        for file, data in zip(self.files, self.data, strict=True):
            if column in data:
                yield file, data[column]

    def _labelled(self) -> tuple[SeriesData, list[str]]:
        """Return the rows of all runs with columns that name the run, and the names of these columns.

        Raises:
            TooLargeError: They have too many values, as each run has other columns.
        """
        check_joined(self.name, self.data)
        ids = {file.store.url: file.run_id for file in self.files}
        repeats = len({*ids.values()}) < len(ids)
        label = "run" if any("name" in data for data in self.data) else "name"
        has_ranks = any(file.rank for file in self.files)
        parts = []
        for file, data in zip(self.files, self.data, strict=True):
            ranked = data.with_column("rank", file.rank) if has_ranks else data
            named = ranked.with_column("run_id", file.run_id)
            parts.append(named.with_column(label, file.run) if repeats else named)
        rows = joined(parts) if parts else joined(()).with_column("run_id", "")
        return rows, [label] * repeats + ["run_id"] + ["rank"] * has_ranks


def gathered(
    files: Iterable[SeriesFile],
    name: str,
    *,
    columns: Collection[str] | None = None,
    repeated: bool = False,
    failed: Failed | None = None,
) -> RunSeries:
    """Return the rows of all files; the arguments are those of `read_each`.

    Raises:
        TooLargeError: The files have more than `limits.SERIES_VALUES` values. With `failed`, it is called with this
            error for each file that exceeds the limit.
    """
    read: list[tuple[SeriesFile, SeriesData]] = []
    values = 0
    each = read_each(files, name, columns=columns, repeated=repeated, failed=failed, held=lambda: values)
    with closing(each) as coming:
        for file, data in coming:
            read.append((file, data))
            values += data.rows * max(1, len(data))
    return RunSeries(name, read)
