"""One HTML file of modules and data, parsed by the standard library."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from notata.errors import NotataError
from notata.page.bundle import MARKER, ChartLibrary, chart_library, data_block, html_of, joined_script
from notata.page.values import encoded

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<!-- notata: policy -->
<title><!-- notata: title --></title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="static/uPlot.min.css">
<link rel="stylesheet" href="static/page.css">
</head>
<body>
<main id="page"></main>
<!-- notata: data -->
<script src="static/uPlot.iife.js"></script>
<script type="module" src="static/main.js"></script>
</body>
</html>
"""
FILES = {
    "page.html": PAGE,
    "page.css": "body { color: red }\n",
    "main.js": 'import {h} from "./dom.js";\nimport {\n  one,\n  two,\n} from "./b.js";\nh(one, two);\n',
    "dom.js": "export function h(...all) {}\n",
    "b.js": 'import {h} from "./dom.js";\nexport const one = 1;\nexport const two = "import x";\n',
}


class Page(HTMLParser):
    """The elements of a page: scripts with their attributes, styles, other tags, and texts outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag == "style":
            self.styles.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._inside == "style":
            self.styles[-1] += data
        else:
            self.texts.append(data)

    @property
    def data(self) -> dict[str, object]:
        return {
            str(attributes["data-key"]): json.loads(text)
            for attributes, text in self.scripts
            if attributes.get("type") == "application/json"
        }

    @property
    def code(self) -> list[str]:
        return [text for attributes, text in self.scripts if attributes.get("type") != "application/json"]

    @property
    def policy(self) -> dict[str, list[str]]:
        (content,) = [
            str(one["content"]) for tag, one in self.tags if one.get("http-equiv") == "Content-Security-Policy"
        ]
        parts = [part.split() for part in content.split(";")]
        return {name: rest for name, *rest in parts}

    @property
    def links(self) -> list[str]:
        """All addresses that the page could request."""
        names = ("src", "href", "action", "data", "poster", "srcset")
        return [str(one[name]) for _, one in self.tags for name in names if name in one]


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_modules_become_one_script_in_the_order_of_their_imports() -> None:
    script = joined_script(FILES)
    assert script.index("function h") < script.index("const one") < script.index("h(one, two)")
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    assert 'const two = "import x";' in script


def test_modules_may_import_each_other() -> None:
    script = joined_script(
        {
            "main.js": 'import {a} from "./a.js";\na();\n',
            "a.js": 'import {b} from "./b.js";\nexport function a() { b(); }\n',
            "b.js": 'import {a} from "./a.js";\nexport async function b() { a(); }\n',
        }
    )
    assert script.count("function a()") == script.count("async function b()") == 1


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ('import * as d from "./dom.js";\n', "cannot join: import"),
        ('import d from "./dom.js";\n', "cannot join: import"),
        ('import {h as k} from "./dom.js";\n', "renames an import"),
        ("export default 1;\n", "cannot join: export default"),
        ('import {x} from "./missing.js";\n', "no module missing.js"),
    ],
)
def test_modules_that_cannot_be_joined(source: str, problem: str) -> None:
    with pytest.raises(NotataError, match=re.escape(problem)):
        joined_script({"main.js": source, "dom.js": ""})


@pytest.mark.parametrize("chart", [None, ChartLibrary("var uPlot = 1;\r\n", ".u { }")])
def test_a_page_is_complete_and_allows_only_its_own_scripts(chart: ChartLibrary | None) -> None:
    title = "</title><script>alert(1)</script>\udc80"
    blocks = [("runs", encoded({"title": title})), ("run/a'b", encoded([1]))]
    text = b"".join(html_of(title, blocks, files=FILES, chart=chart))
    assert text.startswith(MARKER)
    page = Page(text.decode())
    assert page.links == ["data:,"]
    assert page.data == {"runs": {"title": title}, "run/a'b": [1]}
    assert page.texts[page.texts.index("</title><script>alert(1)</script>\\udc80")]
    assert page.policy == {
        "default-src": ["'none'"],
        "script-src": [digest(code) for code in page.code],
        "style-src": [digest(style) for style in page.styles],
        "img-src": ["data:"],
        "connect-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    assert len(page.code) == (2 if chart else 1)
    assert page.code[-1] == joined_script(FILES)
    order = [tag for tag, _ in page.tags]
    assert order.index("meta") < order.index("style") < order.index("main") < order.index("script")


def test_a_script_that_would_end_itself_is_refused() -> None:
    for bad in ('x = "</script>"', "<!-- "):
        with pytest.raises(NotataError, match="cannot stand in a report"):
            b"".join(html_of("t", [], files=FILES | {"dom.js": f"export function h() {{}}\n{bad}\n"}))
    with pytest.raises(ValueError, match="must not contain"):
        data_block("a", b'"<"')


def test_the_chart_library_comes_from_its_package() -> None:
    library = chart_library()
    if library is not None:
        assert "uPlot" in library.script
        assert ".uplot" in library.styles


def test_the_installed_page_is_complete() -> None:
    page = Page(b"".join(html_of("t", [("runs", b"{}")], chart=chart_library())).decode())
    assert page.links == ["data:,"]
    assert page.policy["script-src"] == [digest(code) for code in page.code]
    assert page.policy["style-src"] == [digest(style) for style in page.styles]
    assert not re.search(r"^(import|export)\b", page.code[-1], re.MULTILINE)


@pytest.mark.parametrize("mark", ["policy", "title", "data"])
def test_a_page_without_a_mark_is_refused(mark: str) -> None:
    files = FILES | {"page.html": PAGE.replace(f"<!-- notata: {mark} -->", "")}
    with pytest.raises(NotataError, match=f"does not have <!-- notata: {mark} --> once"):
        b"".join(html_of("t", [], files=files))
