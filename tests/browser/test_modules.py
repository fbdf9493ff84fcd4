"""The page's modules can be joined to one script, and build elements only from texts: no markup, no evaluation."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.browser.modules import IMPORT, MODULES, exports, imports, top_level

FORBIDDEN = (
    r"\b(innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|DOMParser|srcdoc|setHTMLUnsafe|parseHTMLUnsafe)\b",
    r"\bdocument\s*\.\s*write(ln)?\b",
    r"\beval\s*\(",
    r"\bFunction\s*\(",
    r"\bset(Timeout|Interval)\s*\(\s*[\"'`]",
    r"\bsetAttribute(NS)?\s*\(\s*[\"'`](style|on)",
    r"\bcssText\b",
    r"\bjavascript:",
    r"\bimport\s*\*",
    r"\bimport\s*\(",
    r"\bexport\s+(default|\*|\{)",
    r"\b(localStorage|sessionStorage|document\s*\.\s*cookie|indexedDB|sendBeacon|WebSocket|XMLHttpRequest)\b",
    r"[\"'`](https?|wss?)://(?!www\.w3\.org/)",
)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_nothing_that_turns_text_into_markup_or_code(module: str) -> None:
    text = MODULES[module]
    found = {match[0] for pattern in FORBIDDEN for match in re.finditer(pattern, without_comments(text))}
    assert found == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_names_that_are_exported_in_lines_of_the_one_form(module: str) -> None:
    text = without_comments(MODULES[module])
    lines = re.findall(r"^import\b.*", text, re.MULTILINE)
    assert [line for line in lines if not IMPORT.fullmatch(line)] == []
    assert re.findall(r"^export (?!(?:async )?(?:const|let|class|function)\b).*", text, re.MULTILINE) == []
    for other, names in imports(module).items():
        assert other in MODULES
        assert set(names) - set(exports(other)) == set()
        body = IMPORT.sub("", text)
        assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", body)] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_each_name_of_another_one_that_it_calls(module: str) -> None:
    """In a report all modules are one, so only the live page would notice."""
    own = {*top_level(module), *(name for names in imports(module).values() for name in names)}
    text = IMPORT.sub("", without_comments(MODULES[module]))
    called = set(re.findall(r"(?<![.\w$])(?:new )?([A-Za-z_$][\w$]*)\(", text))
    others = {name for other in MODULES for name in exports(other)}
    methods = set(re.findall(r"^  (?:async |get )?([\w$]+)\(.*\{$", text, re.MULTILINE))
    assert (called & others) - own - methods == set()


def test_names_at_the_top_of_modules_are_unique() -> None:
    names = Counter(name for module in MODULES for name in top_level(module))
    assert [name for name, count in names.items() if count > 1] == []


def test_each_module_is_used_and_none_needs_itself() -> None:
    needed: list[str] = []

    def need(module: str, within: tuple[str, ...] = ()) -> None:
        assert module not in within, f"{' → '.join(within)} → {module}"
        for other in imports(module):
            need(other, (*within, module))
        needed.append(module)

    need("main.js")
    assert set(needed) == set(MODULES)


def test_only_the_first_module_waits() -> None:
    waiting = {
        name for name, text in MODULES.items() if re.search(r"^(await|(export )?\w+ .*= await)\b", text, re.MULTILINE)
    }
    assert waiting == {"main.js"}


def without_comments(text: str) -> str:
    """Return a module without the comments that take whole lines."""
    return re.sub(r"^\s*//.*", "", text, flags=re.MULTILINE)
