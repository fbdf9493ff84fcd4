"""A failure as text and as structured data, compared with what Python itself prints."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata import Logbook, formats
from notata.errors import ConfigurationError
from notata.provenance import failures
from notata.store import open_store
from notata.testing import FaultyBackend

SECRET = "hunter2"


def redact(text: str) -> str:
    return text.replace(SECRET, "***")


def raised(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("it did not fail")


def encoded(told: dict[str, Any]) -> Any:
    """Return the text as files encode it."""
    return json.loads(formats.encode(formats.JSON, told))


def plain() -> None:
    raise ValueError("h = -1")


def caused() -> None:
    try:
        plain()
    except ValueError as error:
        raise KeyError("step") from error


def in_context() -> None:
    try:
        plain()
    except ValueError:
        raise KeyError("step")  # noqa: B904


def suppressed() -> None:
    try:
        plain()
    except ValueError:
        raise KeyError("step") from None


def noted() -> None:
    try:
        plain()
    except ValueError as error:
        error.add_note("at step 7\nof 10")
        error.add_note("é\udc80")
        raise


def grouped() -> None:
    members = [raised(caused), raised(plain), ExceptionGroup("inner", [KeyError("k")])]
    raise BaseExceptionGroup("outer", [*members, KeyboardInterrupt()])


def exits() -> None:
    sys.exit(3)


def bad_syntax() -> None:
    compile("a = = 1", "made.py", "exec")


def recursing() -> None:
    recursing()


def to_and(number: int = 0) -> None:
    fro(number + 1)


def fro(number: int) -> None:
    to_and(number + 1)


def several_lines() -> None:
    raise ValueError("a\nb\r\n\n  c | d\n")


CALLS = [plain, caused, in_context, suppressed, noted, grouped, exits, bad_syntax, recursing, to_and, several_lines]


# -- text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_the_text_is_what_python_prints(call: Callable[[], object]) -> None:
    error = raised(call)
    assert failures.text(error) == "".join(traceback.format_exception(error))


@given(st.text(st.characters() | st.characters(categories=["Cs"]), max_size=30))
def test_the_text_of_any_message_is_what_python_prints(message: str) -> None:
    error = raised(lambda: exec("raise ValueError(message)", {"message": message}))
    assert failures.text(error) == "".join(traceback.format_exception(error)).replace("\0", "\\x00")
    formats.encode(formats.TEXT, failures.text(error))


def test_an_exception_that_was_never_raised_has_a_text() -> None:
    assert failures.text(ValueError("x")) == "ValueError: x\n"
    assert failures.describe(ValueError("x")) == {"type": "ValueError", "message": "x", "frames": []}


def secretive() -> None:
    key = SECRET
    error = ValueError(f"denied: {key}")
    error.add_note(f"with {key}")
    raise ExceptionGroup("all", [error, KeyError("hunter2 in the code")])


def test_the_text_is_redacted_but_for_the_names_of_files() -> None:
    scope: dict[str, Any] = {}
    exec(compile("def call(then): then()", "/srv/hunter2/app.py", "exec"), scope)
    text = failures.text(raised(lambda: scope["call"](secretive)), redact)
    assert 'File "/srv/hunter2/app.py", line 1, in call' in text
    assert "denied: ***" in text
    assert "with ***" in text
    assert [line for line in text.splitlines() if SECRET in line] == [
        line for line in text.splitlines() if "/srv/hunter2/app.py" in line
    ]


def test_a_message_that_looks_like_the_name_of_a_file_is_redacted() -> None:
    error = ValueError('cannot parse\nFile "s3://bucket?token=hunter2"')
    error.add_note('File "hunter2"')
    assert SECRET not in failures.text(error, redact)


def test_a_secret_of_several_lines_is_redacted() -> None:
    """For example a private key in PEM."""
    key = "-----BEGIN-----\nabc\ndef\n-----END-----"
    text = failures.text(ValueError(f"bad key {key}"), lambda text: text.replace(key, "***"))
    assert text == "ValueError: bad key ***\n"


# -- structure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("variables", [False, True])
def test_any_description_has_a_json_form(call: Callable[[], object], variables: bool) -> None:
    told = failures.describe(raised(call), variables=variables)
    assert encoded(told) == told or call is noted


@pytest.mark.parametrize("call", [plain, caused, in_context, noted, exits, bad_syntax, several_lines])
def test_the_frames_are_python_s(call: Callable[[], object]) -> None:
    error = raised(call)
    told = failures.describe(error)
    frames = traceback.extract_tb(error.__traceback__)
    assert [(f["file"], f["line"], f["function"].rpartition(".")[2], f["code"]) for f in told["frames"]] == [
        (f.filename, f.lineno, f.name, f.line) for f in frames
    ]
    assert told["frames"][-1]["file"] == __file__
    assert "variables" not in told["frames"][-1]


def test_a_frame_has_the_qualified_name_of_its_function() -> None:
    class Solver:
        def step(self) -> None:
            raise ValueError("x")

    frame = failures.describe(raised(Solver().step))["frames"][-1]
    assert frame["function"].endswith("<locals>.Solver.step")
    lines, start = inspect.getsourcelines(Solver.step)
    assert (frame["line"], frame["code"]) == (start + 1, lines[1].strip())


def test_code_that_is_in_no_file_has_an_empty_line() -> None:
    error = raised(lambda: exec(compile("\n\nraise ValueError", "<made>", "exec")))
    frame = failures.describe(error)["frames"][-1]
    assert frame == {"file": "<made>", "line": 3, "function": "<module>", "code": ""}


def test_causes_and_contexts_are_reported_as_by_python() -> None:
    told = failures.describe(raised(caused))
    assert (told["type"], told["message"]) == ("KeyError", "'step'")
    assert (told["cause"]["type"], told["cause"]["message"]) == ("ValueError", "h = -1")
    assert "context" not in told
    told = failures.describe(raised(in_context))
    assert told["context"]["type"] == "ValueError"
    assert "cause" not in told
    told = failures.describe(raised(suppressed))
    assert {"cause", "context"}.isdisjoint(told)


def test_a_cause_may_itself_have_a_context() -> None:
    def outer() -> None:
        try:
            in_context()
        except KeyError as error:
            raise RuntimeError("run") from error

    told = failures.describe(raised(outer))
    assert (told["cause"]["type"], told["cause"]["context"]["type"]) == ("KeyError", "ValueError")


def test_notes_and_the_members_of_groups_are_reported() -> None:
    assert failures.describe(raised(noted))["notes"] == ["at step 7\nof 10", "é\udc80"]
    told = encoded(failures.describe(raised(grouped)))
    assert told["message"] == "outer (4 sub-exceptions)"
    assert [member["type"] for member in told["exceptions"]] == [
        "KeyError",
        "ValueError",
        "ExceptionGroup",
        "KeyboardInterrupt",
    ]
    assert told["exceptions"][0]["cause"]["message"] == "h = -1"
    assert told["exceptions"][2]["exceptions"][0]["message"] == "'k'"


def test_a_chain_that_comes_back_to_itself_ends() -> None:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    told = failures.describe(first)
    assert told["cause"]["type"] == "KeyError"
    assert "cause" not in told["cause"]
    member = ValueError("member")
    group = ExceptionGroup("group", [member])
    member.__context__ = group
    assert "context" not in failures.describe(group)["exceptions"][0]
    assert failures.text(first) == "".join(traceback.format_exception(first))


def test_a_long_chain_is_cut() -> None:
    error: BaseException = ValueError("0")
    for number in range(1, 5000):
        before, error = error, ValueError(str(number))
        error.__cause__ = before
    told, depth = failures.describe(error), 0
    encoded(told)
    while told:
        told, depth = told.get("cause", {}), depth + 1
    assert 2 <= depth <= 100


@pytest.mark.parametrize("call", [recursing, to_and])
def test_an_endless_recursion_is_reported_by_its_beginning_and_its_end(call: Callable[[], object]) -> None:
    error = raised(call)
    told = encoded(failures.describe(error, variables=True))
    frames = traceback.extract_tb(error.__traceback__)
    assert len(frames) > 500
    assert told["type"] == "RecursionError"
    assert len(told["frames"]) <= 300
    assert [told["frames"][n]["line"] for n in (0, -1)] == [frames[n].lineno for n in (0, -1)]


def test_the_type_is_named_as_in_a_traceback() -> None:
    class Diverged(ArithmeticError):
        pass

    for error in (Diverged("x"), json.JSONDecodeError("x", "", 0), KeyboardInterrupt()):
        last = traceback.format_exception_only(error)[-1].strip()
        assert last.partition(":")[0] == failures.kind(error)
        assert failures.describe(error)["type"] == failures.kind(error)


# -- what misbehaves ---------------------------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")

    __repr__ = __str__


class Values:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def test_a_message_that_cannot_be_shown_hides_nothing_else() -> None:
    def fail() -> None:
        raise Unprintable from ValueError("why")

    error = raised(fail)
    told = encoded(failures.describe(error))
    assert "cannot be shown" in told["message"]
    assert told["cause"]["message"] == "why"
    assert failures.text(error) == "".join(traceback.format_exception(error))
    assert failures.reason(error)


@pytest.mark.parametrize("notes", [[Values()], ["first", 7], 5, "text", {"a": 1}, [None], [Unprintable()]])
def test_notes_of_any_kind_do_not_hide_the_failure(notes: object) -> None:
    error = ValueError("x")
    error.__notes__ = notes  # type: ignore[assignment]
    expected = "".join(traceback.format_exception(error))
    assert failures.text(error) == expected
    assert encoded(failures.describe(error))["message"] == "x"


def test_variables_are_shown_shortened_whatever_they_are() -> None:
    def fail() -> None:
        broken, long, many = Values(), "x" * 10_000, list(range(10_000))
        huge, cyclic, odd = 10**10_000, [], "\udc80\n"  # type: ignore[var-annotated]
        cyclic.append(cyclic)
        raise ValueError(len(str([type(broken), long, many, type(huge), cyclic, odd])))

    frame = encoded(failures.describe(raised(fail), variables=True))["frames"][-1]
    told = frame["variables"]
    assert set(told) == {"broken", "long", "many", "huge", "cyclic", "odd"}
    assert all(isinstance(text, str) and len(text) < 300 for text in told.values())
    assert told["long"].startswith("'xxx")
    assert told["many"].startswith("[0, 1, 2")
    assert told["odd"] == repr("\udc80\n")


def test_the_frame_of_a_script_has_its_variables() -> None:
    scope = {"n": 3, "text": "x"}
    told = failures.describe(raised(lambda: exec("raise ValueError", scope)), variables=True)
    variables = encoded(told)["frames"][-1]["variables"]
    assert (variables["n"], variables["text"]) == ("3", "'x'")


# -- secrets -----------------------------------------------------------------------------------------------


def test_messages_notes_code_and_variables_are_redacted_but_not_file_names() -> None:
    scope: dict[str, Any] = {}
    exec(compile("def call(then): then()", "/srv/hunter2/app.py", "exec"), scope)
    told = failures.describe(raised(lambda: scope["call"](secretive)), redact, variables=True)
    assert [f["file"] for f in told["frames"]][-2] == "/srv/hunter2/app.py"
    text = json.dumps(told).replace("/srv/hunter2/app.py", "")
    assert SECRET not in text
    assert told["frames"][-1]["code"] == 'raise ExceptionGroup("all", [error, KeyError("*** in the code")])'
    assert told["frames"][-1]["variables"]["key"] == "'***'"
    assert [member["message"] for member in told["exceptions"]] == ["denied: ***", "'*** in the code'"]
    assert told["exceptions"][0]["notes"] == ["with ***"]


def test_a_secret_that_is_longer_than_what_is_shown_of_it_is_redacted() -> None:
    """For example an AWS session token, which has hundreds of characters."""
    secret = "".join(chr(65 + number % 26) for number in range(400))

    def fail() -> None:
        token = secret
        raise ValueError(len(token))

    told = failures.describe(raised(fail), lambda text: text.replace(secret, "***"), variables=True)
    assert secret[:20] not in told["frames"][-1]["variables"]["token"]
    assert secret[-20:] not in told["frames"][-1]["variables"]["token"]


def test_the_reason_is_the_message_or_the_type() -> None:
    assert failures.reason(ValueError("a\nb")) == "a\nb"
    assert failures.reason(ValueError()) == "ValueError"
    assert failures.reason(SystemExit(3)) == "sys.exit(3)"


# -- caught ------------------------------------------------------------------------------------------------


def catching(found: list[BaseException], *kinds: type[BaseException], reraise: bool = False) -> failures.Caught[None]:
    return failures.Caught(found.append, kinds or (Exception,), reraise)


def test_a_coroutine_is_decorated_as_a_function_is() -> None:
    found: list[BaseException] = []

    @catching(found)
    async def fails(value: int) -> int:
        await asyncio.sleep(0)
        return 1 // value

    assert asyncio.run(fails(1)) == 1
    assert asyncio.run(fails(0)) is None
    assert [type(error) for error in found] == [ZeroDivisionError]


def test_what_cannot_be_caught_is_refused_at_once() -> None:
    def generator() -> Iterator[int]:
        yield 1

    for wrong in (generator, 1):
        with pytest.raises(ConfigurationError, match="decorates functions"):
            catching([])(wrong)  # type: ignore[arg-type]
    for kind in ("ValueError", ValueError(), len, int):
        with pytest.raises(ConfigurationError, match="pass exception types"):
            catching([], kind)  # type: ignore[arg-type]


def test_a_block_that_ends_well_forgets_the_error_of_the_one_before() -> None:
    block = catching([])
    with block:
        raise ValueError
    assert isinstance(block.error, ValueError)
    with block:
        pass
    assert block.error is None


def test_an_exception_that_cannot_be_formatted_is_reported_briefly() -> None:
    made_up = SyntaxError("msg", ("f.py", 1, "not a number", "code"))  # type: ignore[arg-type]
    assert failures.text(made_up).startswith("SyntaxError: ")
    assert failures.describe(made_up)["type"] == "SyntaxError"


def test_a_reason_of_many_megabytes_is_cut_in_the_metadata_and_whole_in_the_traceback() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    text = "x" * 20_000_000
    with pytest.raises(ValueError, match="xxx"), Logbook("a", url) as log:
        raise ValueError(text)
    fields = json.loads(log["metadata.json"].read_bytes())
    assert fields["failure_reason"] == f"{'x' * 4096}… (20000000 characters)"
    assert text in log["artifacts/debug/traceback.txt"].read_text()
    assert log["log.txt"].stat().st_size < 10_000
    other = Logbook("b", url)
    other.mark_failed(text)
    assert other["metadata.json"].stat().st_size < 10_000


def test_an_error_after_the_end_keeps_the_exception_of_the_user(tmp_path: Path) -> None:
    """Each later step still runs, and the traceback that Python prints starts with the first error."""
    faults = FaultyBackend(open_store(tmp_path))
    with pytest.raises(KeyboardInterrupt) as caught, Logbook("a", faults, heartbeat=0):
        faults.fail(1, key="artifacts/debug/traceback.txt", error=KeyboardInterrupt)
        raise ValueError("the user's own error")
    assert repr(caught.value.__context__) == repr(ValueError("the user's own error"))

    def failing(log: Logbook) -> None:
        raise KeyError("callback")

    with pytest.raises(KeyError) as raised:
        try:
            raise ValueError("the user's own error")
        except ValueError as error:
            Logbook("b", tmp_path, heartbeat=0, callback=failing).mark_failed("x", error)
    assert isinstance(raised.value.__context__, ValueError)
