"""Figures of matplotlib as pictures."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from notata._base.packages import needed
from notata.errors import EncodeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawing", "current_figure"]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture of a matplotlib figure, cropped to its content.

    Attributes:
        kind: A file type of matplotlib: ``png``, ``pdf``, ``svg``, …
        dpi: Dots per inch of raster pictures.

    >>> from matplotlib.figure import Figure
    >>> file = io.BytesIO()
    >>> Drawing("svg").write(Figure(), file)
    >>> b"<svg" in file.getvalue()
    True
    """

    kind: str = "png"
    dpi: float = 200

    @property
    def suffix(self) -> str:
        """The kind, with a dot."""
        return f".{self.kind}"

    def write(self, value: Any, file: IO[bytes]) -> None:
        """Draw a figure, or the figure of the given axes.

        Raises:
            EncodeError: The value is neither, or matplotlib cannot draw this kind.
        """
        figure = _figure(value)
        known = figure.canvas.get_supported_filetypes()
        if self.kind not in known:
            raise EncodeError(f"matplotlib cannot draw {self.kind!r}; use one of {', '.join(sorted(known))}")
        picture = io.BytesIO()  # some kinds need to seek
        figure.savefig(picture, format=self.kind, dpi=self.dpi, bbox_inches="tight")
        file.write(picture.getbuffer())


def current_figure() -> Figure:
    """Return the current figure of pyplot.

    Raises:
        PackageMissingError: matplotlib is not installed.
        EncodeError: There is no current figure; pyplot's `gcf` would create an empty one.
    """
    with needed("plots need matplotlib", "matplotlib", "plot"):
        import matplotlib as mpl  # noqa: F401
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or not getattr(pyplot, "get_fignums", list)():  # missing while another thread imports pyplot
        raise EncodeError(
            "there is no current figure: draw one first, or pass one as fig= (a notebook closes figures at the end "
            "of each cell)"
        )
    figure: Figure = pyplot.gcf()
    return figure


def _figure(value: Any) -> Any:
    """Return the figure of a figure, of axes, or of an object that has one."""
    for candidate in (value, getattr(value, "figure", None), getattr(value, "fig", None)):
        if callable(getattr(candidate, "savefig", None)) and hasattr(candidate, "canvas"):
            return candidate
    raise EncodeError(f"plot takes a matplotlib figure or axes, not {type(value).__name__}")
