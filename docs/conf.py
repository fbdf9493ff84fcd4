"""Settings of Sphinx; README has the command that builds the site."""

import re
from typing import Any

from notata import __version__

project = "notata"
author = "The notata developers"
copyright = "2026, The notata developers"  # noqa: A001  Sphinx wants this name
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"notata {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def _uncommented(app: object, docname: str, source: list[str]) -> None:
    """Give Sphinx the directives that stand in a comment, where Markdown readers other than Sphinx do not show them."""
    source[0] = re.sub(r"^<!-- sphinx\n(.*?)^-->$", r"\1", source[0], flags=re.MULTILINE | re.DOTALL)


def setup(app: Any) -> None:
    """Connect the hook above, as Sphinx calls this function by its name."""
    app.connect("source-read", _uncommented)
