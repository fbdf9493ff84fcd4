"""The parts that all commands share: help, options, exit codes, errors, output and registration."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import pytest
from rich.cells import cell_len

from notata import Logbook
from notata.cli import frame, main, output
from notata.errors import (
    BatchError,
    ConfigurationError,
    ContainerMissingError,
    KeyNameError,
    MissingError,
    NotataError,
    PackageMissingError,
    StorageError,
)
from tests.command import fresh_process, notata, terminal
from tests.servers import CLOUD_ENVIRONMENT

COMMANDS: dict[str, click.Command] = {}
for _name, _command in sorted(main.commands.items()):
    COMMANDS |= {f"{_name} {name}": one for name, one in getattr(_command, "commands", {"": _command}).items()}
COMMANDS = {name.strip(): one for name, one in COMMANDS.items()}
NO_DATA = {"completion", "demo", "put", "run", "view"}
"""Commands that print no run data, and therefore have no JSON output."""
NO_STORAGE = {"completion"}
SECRET = "hunter2+never/shown"
LATE = {"numpy", "rich", "s3fs", "gcsfs", "fsspec", "yaml", "aiohttp", "upath"}


def run(folder: Path, run_id: str = "a") -> None:
    with Logbook(run_id, folder, params={"dt": 0.1}) as log:
        log.text("n", "whole")


# -- every command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_how_it_is_used(name: str, tmp_path: Path) -> None:
    command = COMMANDS[name]
    words = name.split()
    done = notata(*words, "--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert isinstance(command, frame.Command)
    examples = [line.strip() for line in done.stdout.splitlines() if re.match(rf"  .*notata {name}\b", line)]
    assert len(examples) >= 2
    assert "Exit codes: " in done.stdout
    listed = notata(*words[:-1], "--help", folder=tmp_path).stdout
    assert command.get_short_help_str() in re.sub(r"\n {10,}", " ", listed)
    assert max(map(len, done.stdout.splitlines())) <= 100
    for example in examples:
        given = shlex.split(example, comments=True)
        if given[0] == "notata":  # not within another one
            given = given[1 + len(words) : given.index("|")] if "|" in given else given[1 + len(words) :]
            given = given[: given.index(">")] if ">" in given else given
            command.make_context(name, list(given), resilient_parsing=False)  # it parses


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_options_of_all(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert "--debug" in options
    assert ("--json" in options) or name in NO_DATA
    assert any(option.endswith("-option") for option in options) or name in NO_STORAGE


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_page_with_all_its_options(name: str) -> None:
    page = (Path(__file__).parents[2] / f"docs/reference/commands/{name.split()[0]}.md").read_text()
    assert page.startswith(f"# notata {name.split()[0]}\n")
    assert f"notata {name} " in page
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option) and parameter.name != "debug":
            assert any(re.search(f"`{option}[` ]", page) for option in parameter.opts), parameter.opts


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_an_unknown_option_for_usage(name: str, tmp_path: Path) -> None:
    done = notata(*name.split(), "--no-such-option", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    told, advice = done.stderr.splitlines()
    assert told.startswith("Error: No such option")
    assert advice == f"Try 'notata {name} --help'"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - NO_STORAGE))
def test_a_storage_option_that_is_none_is_reported_without_it(name: str, tmp_path: Path) -> None:
    option = next(
        option for parameter in COMMANDS[name].params for option in parameter.opts if option.endswith("-option")
    )
    for given in (SECRET, f"={SECRET}"):
        done = notata(*name.split(), option, given, folder=tmp_path)
        assert done.returncode == 2
        assert "write key=value" in done.stderr
        assert SECRET not in done.stdout + done.stderr


def test_help_loads_no_library_that_it_does_not_need(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from notata.cli import main\n"
        "try: main(['compare', '--help'], prog_name='notata')\n"
        f"finally: print(sorted({LATE!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    loaded = set(re.findall(r"'(\w+)'", done.stderr))
    assert loaded <= {"fsspec", "upath"}, loaded  # `import notata` loads these two


# -- errors --------------------------------------------------------------------------------------------------


def failing(error: BaseException) -> click.Group:
    """A realistic command that fails."""

    @click.command(cls=frame.Command)
    @frame.urls_argument
    @frame.storage_option()
    def fail(urls: list[str] | None, storage_options: dict[str, str]) -> None:
        raise error

    group = frame.Group("notata")
    group.add_command(fail)
    return group


def ended(group: click.Group, *arguments: str) -> tuple[int, str]:
    from click.testing import CliRunner

    done = CliRunner().invoke(group, ["fail", *arguments], prog_name="notata")
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert done.stdout == ""
    return done.exit_code, done.stderr


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (StorageError("no\n  good"), 3, "Error: no good\n"),
        (MissingError("nothing"), 1, "Error: nothing\n"),
        (
            BatchError("x", [MissingError(f"{n}") for n in range(4)]),
            1,
            "Error: 0\nError: 1\nError: 2\nError: and 1 more\n",
        ),
        (
            BatchError("x", [MissingError("0"), StorageError("1"), MissingError("2")]),
            3,
            "Error: 0\nError: 1\nError: 2\n",
        ),
        (ContainerMissingError("no bucket"), 3, "Error: no bucket\n"),
        (ConfigurationError("odd"), 2, "Error: odd\n"),
        (KeyNameError("odd"), 2, "Error: odd\n"),
        (PackageMissingError("none"), 2, "Error: none\n"),
        (
            MemoryError(),
            3,
            "Error: not enough memory for this request. Name fewer runs or files\n",
        ),
        (
            RecursionError("deep"),
            3,
            "Error: a file of these runs is nested too deeply. Name fewer runs to find the file.\n",
        ),
        (
            KeyError(SECRET),
            3,
            "Error: KeyError: this is a bug in notata. Report it with the traceback that --debug shows\n",
        ),
        (OSError(28, "No space left on device"), 3, "Error: cannot write the output: No space left on device\n"),
        (KeyboardInterrupt(), 130, "Interrupted\n"),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
        (click.UsageError("odd"), 2, "Error: odd\nTry 'notata fail --help'\n"),
        (StorageError("\x1b[31mred"), 3, "Error: \\x1b[31mred\n"),
    ],
)
def test_an_error_is_a_line_or_two_and_an_exit_code(error: BaseException, code: int, told: str) -> None:
    assert ended(failing(error)) == (code, told)


@pytest.mark.parametrize(("error", "code"), [(StorageError("no"), 3), (KeyError("x"), 3), (MissingError("no"), 1)])
def test_debug_shows_the_traceback_and_keeps_the_code(error: Exception, code: int) -> None:
    for arguments in (["--debug"], ["--debug", "-o", "a=b"], ["-o", "a=b", "--debug"]):
        found, told = ended(failing(error), *arguments)
        assert found == code
        assert "Traceback (most recent call last)" in told
        assert "in fail" in told
        assert "--debug" not in told


def test_no_traceback_shows_a_storage_option() -> None:
    options = [f"-osecret={SECRET}", f'-oclient_kwargs={{"token": "{SECRET}too"}}', "-oendpoint_url=http://h:1"]
    _, told = ended(
        failing(ValueError(f"cannot sign with {SECRET}too and {SECRET} for http://h:1")), *options, "--debug"
    )
    assert SECRET not in told
    assert "cannot sign with *** and *** for http://h:1" in told


def test_no_traceback_shows_credentials_of_an_address_nor_a_storage_option_however_it_is_written() -> None:
    odd = f"it's \"{SECRET}\\"
    given = [f"-osecret={odd}", f'-otokens=["{SECRET}ab"]', f"-oproxy=http://me:{SECRET}cd@host:1"]
    address = f"s3://key1:{SECRET}ef@bucket/x?signature={SECRET}gh"
    parts = f"{quote(odd, safe='')} {SECRET}ef key1"
    _, told = ended(failing(ValueError(f"{given!r} {odd!r} {address} {parts}")), *given, address, "--debug")
    assert "hunter2" not in told
    assert "key1" not in told
    assert "s3://***@bucket/x?signature=*** *** *** ***" in told


def test_a_traceback_controls_no_terminal() -> None:
    code, told = ended(failing(ValueError("\x1b[31mred\x07")), "--debug")
    assert (code, "\x1b" in told, "\x07" in told) == (3, False, False)
    assert "ValueError: \\x1b[31mred\\x07\n" in told


def test_an_error_does_not_stop_a_command_and_the_worst_one_sets_the_exit_code(tmp_path: Path) -> None:
    @click.command(cls=frame.Command)
    def fail() -> None:
        trouble = frame.ErrorCollector()
        for error in (MissingError("one"), StorageError("two"), MissingError("three")):
            trouble(error)
        trouble.end()

    group = frame.Group("notata")
    group.add_command(fail)
    assert ended(group) == (3, "Error: one\nError: two\nError: three\n")
    code, told = ended(group, "--debug")
    assert (code, told.splitlines()[0], told.splitlines()[-1]) == (
        1, "Traceback (most recent call last):", "notata.errors.MissingError: one",
    )  # fmt: skip


def test_the_default_place_is_named_only_when_it_is_missing() -> None:
    @click.command(cls=frame.Command)
    @frame.urls_argument
    def fail(urls: list[str] | None) -> None:
        trouble = frame.ErrorCollector()
        for error in (StorageError("two"), ConfigurationError("three")):
            trouble(error)
        trouble.end()

    group = frame.Group("notata")
    group.add_command(fail)
    assert ended(group) == (3, "Error: two\nError: three\n")


def test_warnings_are_lines(tmp_path: Path) -> None:
    import warnings

    @click.command(cls=frame.Command)
    def fail() -> None:
        warnings.warn("odd\nthing", UserWarning, stacklevel=1)

    group = frame.Group("notata")
    group.add_command(fail)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert ended(group) == (0, "Warning: odd thing\n")


# -- outputs -------------------------------------------------------------------------------------------------


def test_colours_only_where_they_are_wanted(tmp_path: Path) -> None:
    run(tmp_path)
    colour = re.compile(rb"\x1b\[[0-9;]*3[0-9]m")
    assert colour.search(terminal("doctor", ".", folder=tmp_path, NO_COLOR="")[1])  # https://no-color.org: not empty
    assert not colour.search(terminal("doctor", ".", folder=tmp_path, NO_COLOR="1")[1])
    assert b"\x1b" not in terminal("doctor", ".", folder=tmp_path, TERM="dumb")[1]


def test_a_bar_is_drawn_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert [frame.wanted(said) for said in (None, True, False)] == [True, True, False]
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert [frame.wanted(said) for said in (None, True, False)] == [False, True, False]


def test_click_s_colours_too() -> None:
    from click.testing import CliRunner

    @click.command(cls=frame.Command)
    def colourful() -> None:
        output.line("red", fg="red")

    group = frame.Group("notata")
    group.add_command(colourful)
    for name, value, shown in (
        ("TERM", "xterm", "\x1b[31mred\x1b[0m\n"),
        ("TERM", "dumb", "red\n"),
        ("TERM", "unknown", "red\n"),
        ("NO_COLOR", "1", "red\n"),
    ):
        environment = {"TERM": "xterm", "NO_COLOR": "", name: value}
        assert CliRunner().invoke(group, ["colourful"], env=environment, color=True).stdout == shown


def printed(capsys: pytest.CaptureFixture[str], *arguments: Any, columns: int = 80, **options: Any) -> list[str]:
    """Return the lines of a table on a terminal with this many columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "is_terminal", lambda: True)
        patch.setenv("COLUMNS", str(columns))
        left_out = output.rows(*arguments, **options)
        told = [*capsys.readouterr().out.splitlines(), *left_out]
        assert output.fits(*arguments) is (max(map(wcswidth, told)) <= columns and not left_out)
    return [re.sub("\x1b\\[[0-9;]*m", "", line) for line in told]


def wcswidth(line: str) -> int:
    return cell_len(re.sub("\x1b\\[[0-9;]*m", "", line))


def test_columns_of_a_table_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    table = [("日本", "1", "z"), ("abc", "234", "complete")]
    assert printed(capsys, ("name", "n", "s"), table, right=("n",)) == [
        "name    n  s", "日本    1  z", "abc   234  complete",
    ]  # fmt: skip
    assert printed(capsys, ("name", "n", "s"), table, last="name", columns=19)[0] == "name  n    s"
    assert printed(capsys, ("name", "n", "s"), table, last="name", columns=18)[0] == "n    s         name"
    assert printed(capsys, ("name", "n", "s"), table, columns=18)[0] == "name  n    s"


def test_columns_that_do_not_fit_are_left_out_those_that_can_be_spared_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = [("aaaa", "bbbb", "cccc", "dddd")]
    for columns, told in ((22, "abcd"), (21, "abd"), (16, "abd"), (15, "ad"), (10, "ad"), (9, "d"), (3, "d")):
        head, _, *left_out = printed(capsys, tuple("abcd"), table, fit=("d",), columns=columns)
        shown = "".join(head.split())
        assert (shown, "".join(left_out)) == (told, "".join(name for name in "abcd" if name not in told))
    head, _, *left_out = printed(capsys, tuple("abcd"), table, fit=("d",), spare=("a",), columns=16)
    assert (head.split(), left_out) == (["b", "c", "d"], ["a"])


def test_colours_of_a_status_are_for_that_column_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setattr(click.utils, "should_strip_ansi", lambda *_: False)
    output.rows(("name", "status"), [("failed", "failed")])
    output.rows(("name", "state"), [("failed", "x")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "failed  \x1b[31mfailed\x1b[0m"
    assert lines[3] == "\x1b[31mfailed\x1b[0m  x"


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A bash command line in which $N is the command."""
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "N": f"{sys.executable} -m notata", **environment},
        timeout=120,
        check=False,
    )


def test_a_pipe_without_a_reader_a_closed_output_and_a_full_output(tmp_path: Path) -> None:
    for number in range(3):
        run(tmp_path, f"{number}")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "notata", "verify", "."]
    broken = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (broken.returncode, broken.stderr) == (141, b"")
    closed = shell("$N verify . >&-", tmp_path)
    assert (closed.returncode, closed.stderr) == (0, "")
    silent = shell("$N verify nowhere 2>&- >&-", tmp_path)
    assert silent.returncode == 3
    full = shell("$N verify . > /dev/full", tmp_path)
    assert (full.returncode, full.stderr) == (3, "Error: cannot write the output: No space left on device\n")


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"LC_ALL": "C"}, "ünï→".encode()),  # Python uses UTF-8 with this locale
        ({"PYTHONIOENCODING": "ascii"}, "ünï→".encode()),  # click uses UTF-8 too
        ({"PYTHONIOENCODING": "latin-1:strict"}, b"\xfcn\xef\\u2192"),
    ],
)
def test_any_encoding_takes_any_name(environment: dict[str, str], name: bytes, tmp_path: Path) -> None:
    run(tmp_path, "ünï→")
    done = subprocess.run(
        [sys.executable, "-m", "notata", "verify", "."],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"./log_" + name + b": ok;")


def test_help_in_an_encoding_without_its_signs(tmp_path: Path) -> None:
    done = fresh_process("sync", "--help", folder=tmp_path, PYTHONIOENCODING="cp437:strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert "log_\\u2026" in done.stdout


def test_ctrl_c_ends_what_waits_for_a_storage(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = [f"endpoint_url=http://127.0.0.1:{silent.getsockname()[1]}", "key=k123", "secret=s123"]
        command = [sys.executable, "-m", "notata", "verify", "s3://bucket/x", *[f"-o{option}" for option in options]]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **CLOUD_ENVIRONMENT},
        ) as waiting:
            connection, _ = silent.accept()
            connection.recv(1)  # the command has sent its request
            waiting.send_signal(signal.SIGINT)
            out, error = waiting.communicate(timeout=120)
            connection.close()
    assert (waiting.returncode, out, error) == (130, b"", b"Interrupted\n")


# -- the rest ------------------------------------------------------------------------------------------------


def test_the_base_folder_of_the_environment(tmp_path: Path) -> None:
    run(tmp_path / "base")
    done = notata("verify", folder=tmp_path, NOTATA_BASE_DIR=str(tmp_path / "base"))
    assert (done.returncode, done.stdout.partition(": ")[0]) == (0, str(tmp_path / "base/log_a"))


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = fresh_process("nonsense", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: No such command 'nonsense'.\nTry 'notata --help'\n"


def test_it_imports_where_there_is_neither_posix_nor_a_terminal(tmp_path: Path) -> None:
    """Simulate Windows: the modules that only POSIX has are missing."""
    code = (
        "import sys\n"
        "import notata  # whose own rooms know of both\n"
        "for name in ('fcntl', 'pwd', 'termios', 'tty', 'pty', 'resource', 'readline'):\n"
        "    sys.modules[name] = None\n"
        "from notata.cli import main\n"
        "import notata.search\n"
        "main(['doctor', '--help'], prog_name='notata')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_failed_is_what_search_takes() -> None:
    taken: Callable[[NotataError], None]
    with click.Context(click.Command("x")):
        taken = frame.ErrorCollector()
        taken(MissingError("x"))
