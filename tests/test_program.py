"""Programs recorded by `notata run`: arguments, signals, files, memory, and what happens if something fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from notata import ConfigurationError, LogReader, StorageError, search
from notata.program import StartError, pipes, record
from notata.program.arguments import fill, parse_values
from notata.program.exit import Exit
from notata.program.keep import Keeper
from notata.program.screen import Terminals
from notata.program.session import Session
from notata.program.signals import PASSED_ON, Signals
from notata.program.start import Streams, find_program, start
from notata.program.usage import TreeUsage
from notata.run.inherited import child_variables, inherited_rank, open_options
from notata.store import open_store
from notata.testing import FaultyBackend
from tests.children import WAKES
from tests.command import notata
from tests.nursery import Script

PYTHON = [sys.executable, "-IS", "-c"]
NOWHERE = Terminals(None, None, False)


def recorded(*command: str, base: str = "memory://programs", **options: Any) -> tuple[int, LogReader]:
    """Record a program as the run ``a``, and return its exit code and a reader of the run."""
    code = record(command, base, run_id="a", **{"echo": False, **options})
    return code, LogReader(f"{base}/log_a")


def output(reader: LogReader) -> str:
    return reader["output.txt"].read_text()


def test_a_used_id_is_refused_with_the_options_of_the_command(tmp_path: Path) -> None:
    for code in (0, 3):
        done = notata("run", "--id", "a", "--", *PYTHON, "print(1)", folder=tmp_path)
        assert done.returncode == code, done.stderr
    assert "with notata run: --resume" in done.stderr
    log = LogReader(tmp_path / "outputs/log_a")["log.txt"].read_text()
    assert re.search(r"The program ended: exit code 0, \d+ m?s of processor time", log) or os.name == "nt"


# -- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "filled"),
    [
        ("{re}", "1000"),
        ("--re={re},{name}", "--re=1000,cavity"),
        ("{{re}}", "{re}"),
        ("{ {re} }", "{ 1000 }"),
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        ("{}", "{}"),
        ("${{{re}}}", "${{re}}"),
    ],
)
def test_placeholders_are_filled_in_and_other_braces_stay(argument: str, filled: str) -> None:
    assert fill([argument], {"re": "1000", "name": "cavity"}) == [filled]


def test_parameters_have_the_types_of_yaml() -> None:
    values, texts = parse_values(
        ["n=1000", "dt=1e-3", "on=true", "name=cavity", "mesh=[64, 32]", "none=", "t='1'"], "-p"
    )
    assert values == {
        "n": 1000, "dt": 0.001, "on": True, "name": "cavity", "mesh": [64, 32], "none": None, "t": "1"
    }  # fmt: skip
    assert texts["dt"] == "1e-3"


@pytest.mark.parametrize("pairs", [["re"], ["=1"], ["re=1", "re=2"], ["re=[1"], ["re=!!python/object:os.system x"]])
def test_an_invalid_parameter_is_refused(pairs: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        parse_values(pairs, "-p")


def test_an_unknown_placeholder_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done = notata("run", "-d", "outputs", "-p", "re=1", "--", "touch", "{ra}", folder=tmp_path)
    assert done.returncode == 2
    assert "unknown placeholder {ra}" in done.stderr
    assert "Known names: re, run_id" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_records_parameters_with_their_text_in_the_arguments(tmp_path: Path) -> None:
    arguments = ["-d", "outputs", "--id", "a", "-p", "dt=1e-3", "--meta", "cells=[1, 2]", "-q"]
    done = notata("run", *arguments, "sh", "-c", "echo {dt} {run_id} $1", "-p", "x=1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    reader = LogReader(tmp_path / "outputs" / "log_a")
    assert output(reader) == "1e-3 a x=1\n"
    assert (dict(reader.params), reader.meta["cells"]) == ({"dt": 0.001}, [1, 2])
    assert reader.meta["command"]["argv"][:3] == ["sh", "-c", "echo {dt} {run_id} $1"]


@pytest.mark.parametrize("arguments", [["--meta", "status=complete"], ["--meta", "exit=1"], ["-p", "run_id=1"]])
def test_reserved_names_are_refused(arguments: list[str], tmp_path: Path) -> None:
    done = notata("run", "-d", "outputs", *arguments, "--", "true", folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert not (tmp_path / "outputs").exists()


def test_secrets_in_the_command_are_redacted() -> None:
    _, reader = recorded("true", "--password", "hunter2", "s3://ada:hunter2@host/x")
    stored = json.dumps(reader.meta) + reader.path.joinpath("log.txt").read_text()
    assert "hunter2" not in stored
    assert "--password" in stored


# -- start -------------------------------------------------------------------------------------------------


def test_a_program_that_cannot_start_is_refused_and_not_recorded(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("no program")
    (tmp_path / "folder").mkdir()
    for name, code, why in (
        ("./missing", 127, "no such program"),
        ("surely-not-in-path", 127, "no such program"),
        ("./data.txt", 126, "not executable"),
        ("./folder", 126, "is a folder"),
    ):
        done = notata("run", "-d", "outputs", "--", name, folder=tmp_path)
        assert (done.returncode, why in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_file_that_is_no_program_fails_its_run(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo no first line\n")
    script.chmod(0o755)
    done = notata("run", "-d", "outputs", "--id", "a", "--", "./script", folder=tmp_path)
    assert done.returncode == 126
    assert "#!/bin/sh" in done.stderr
    reader = LogReader(tmp_path / "outputs" / "log_a")
    assert reader.state.status == "failed"
    assert "cannot start './script'" in reader.meta["failure_reason"]


def test_the_working_folder_and_environment_are_those_given(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho $0 $GREETING; pwd\n")
    (tmp_path / "tool").chmod(0o755)
    _, reader = recorded("./tool", cwd=str(tmp_path), environ={"GREETING": "hello", "PATH": os.defpath})
    assert output(reader).splitlines() == [f"{tmp_path}/tool hello", str(tmp_path)]
    environment = reader.meta["environment"]
    assert (environment["cwd"], environment["argv"]) == (str(tmp_path), ["./tool"])
    assert "python" not in environment


def test_the_changes_of_the_checkout_are_recorded_but_not_the_packages_of_notata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTATA_CODE", raising=False)
    identity = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
    (tmp_path / "solve.sh").write_text("echo first\n")
    for arguments in (["init", "-q", "."], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    (tmp_path / "solve.sh").write_text("echo second\n")
    _, reader = recorded("sh", "solve.sh", cwd=str(tmp_path))
    git = reader.meta["environment"]["git"]
    assert (len(git["commit"]), git["dirty"]) == (40, True)
    assert "+echo second" in reader["code/diff.patch"].read_text()
    assert not reader["code/packages.txt"].exists()


# -- output ------------------------------------------------------------------------------------------------


def test_both_streams_are_kept_in_their_order_and_shown(tmp_path: Path) -> None:
    done = Script("notata", ["run", "-d", "o", "--id", "a", "--", "sh", "-c", "echo 1; echo 2 >&2; echo 3"],
                  folder=tmp_path).communicate()  # fmt: skip
    assert done[0] == "1\n2\n3\n"
    assert "notata: run 'a' at " in done[1]
    assert (tmp_path / "o/log_a/output.txt").read_text() == "1\n2\n3\n"


def test_the_program_runs_on_after_its_reader_has_gone(tmp_path: Path) -> None:
    script = "echo first; read line; echo second; echo third"
    started = Script("notata", ["run", "-d", "o", "--id", "a", "--", "sh", "-c", script], folder=tmp_path)
    assert started.stdout.readline() == "first\n"
    started.stdout.close()  # as after `| head -1`
    started.stdin.write("\n")
    started.stdin.close()
    started.stderr.read()
    started.stderr.close()
    assert started.wait() == 0
    assert (tmp_path / "o/log_a/output.txt").read_text() == "first\nsecond\nthird\n"


def test_values_in_the_output_become_series() -> None:
    script = "echo 'it 1 res = 1.5D-3'; echo other; echo 'it 2 res = 2.5e-4'; echo 'dt = 0.1'"
    _, reader = recorded("sh", "-c", script, series=[r"it (?P<step>\d+) res = (?P<r>\S+)", r"time:: dt = (?P<dt>\S+)"])
    assert list(reader.series("output")["r"]) == [0.0015, 0.00025]
    assert list(reader.series("output").step) == [1, 2]
    assert list(reader.series("time")["dt"]) == [0.1]
    assert reader.meta["command"]["series"] == {
        "output": [r"it (?P<step>\d+) res = (?P<r>\S+)"],
        "time": [r"dt = (?P<dt>\S+)"],
    }


def test_a_pattern_that_no_line_matches_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    patterns = [r"res = (?P<r>\S+)", "time:: dt=(?P<dt>.+)"]
    _, reader = recorded("sh", "-c", "echo res = 1; printf 'dt = 0.1'", series=patterns, echo=True)
    (warning,) = (line for line in reader["log.txt"].read_text().splitlines() if "WARNING" in line)
    assert warning.endswith("WARNING No line of the output matches the pattern 'dt=(?P<dt>.+)'")
    assert capsys.readouterr().err.count("notata: No line of the output matches --series 'dt=(?P<dt>.+)'\n") == 1
    _, reader = recorded("printf", "dt=1", series=patterns[1:], base="memory://unfinished")  # a line without an end
    assert "WARNING" not in reader["log.txt"].read_text()


def test_a_pseudo_terminal_makes_a_program_print_lines_at_once() -> None:
    code, reader = recorded(*PYTHON, "import os; print(os.isatty(1), *os.get_terminal_size())", terminal=True)
    assert (code, output(reader)) == (0, "True 80 24\n")


def test_a_process_that_keeps_the_output_open_is_waited_for_a_bounded_time(tmp_path: Path) -> None:
    said: list[bytes] = []
    program = (
        "import os, signal\n"
        "begin, go = os.pipe()\n"
        "if os.fork(): os.read(begin, 1); os._exit(0)\n"
        "print(os.getpid(), flush=True); os.write(go, b'x')\n"
        "while True: signal.pause()"
    )
    with Signals() as signals:
        child = start([*PYTHON, program], sys.executable, str(tmp_path), os.environ, Streams.pipe())
        session = Session(child, said.append, TreeUsage(child.pid), signals, None, linger=0.2)
        status, _ = session.run()
    assert (status, session.is_held_open) == (0, True)
    os.kill(int(b"".join(said)), signal.SIGKILL)


def test_output_that_comes_after_the_end_of_the_program_is_recorded(tmp_path: Path) -> None:
    said: list[bytes] = []
    program = "import os\nparent = os.getpid()\nif os.fork(): os._exit(0)\n"
    waits = "while os.getppid() == parent: os.sched_yield()\nprint('late')"
    with Signals() as signals:
        child = start([*PYTHON, program + waits], sys.executable, str(tmp_path), os.environ, Streams.pipe())
        session = Session(child, said.append, TreeUsage(child.pid), signals, None, linger=100)
        status, _ = session.run()
    assert (status, session.is_held_open, b"".join(said)) == (0, False, b"late\n")


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
def test_output_that_notata_is_late_to_read_is_recorded(is_held: bool, terminal: bool, tmp_path: Path) -> None:
    """While notata is busy, the program prints more, and ends; then no time is left to wait for further output."""
    said: list[bytes] = []
    program = (
        "import os, sys\n"
        "os.write(1, b'first\\n')\n"
        "line = open('line', 'rb', buffering=0); line.read(1)\n"
        "os.write(1, b'second\\n')\n"
        "if sys.argv[1] == 'True' and not os.fork(): line.read()\n"
    )
    os.mkfifo(tmp_path / "line")

    def take(data: bytes) -> None:
        if not said:
            lines.append(open(tmp_path / "line", "wb", buffering=0))
            lines[0].write(b"x")
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        said.append(data)

    lines: list[IO[bytes]] = []
    with Signals() as signals:
        streams = Streams.terminal(None, is_input=False) if terminal else Streams.pipe()
        child = start([*PYTHON, program, str(is_held)], sys.executable, str(tmp_path), os.environ, streams)
        session = Session(child, take, TreeUsage(child.pid), signals, None, linger=0.0)
        status, _ = session.run()
    lines[0].close()  # ends the process that held the output open
    assert (status, session.is_held_open, b"".join(said)) == (0, is_held, b"first\nsecond\n")


# -- signals -----------------------------------------------------------------------------------------------

COUNTS = f"""
{WAKES}
import sys
got = []
def handle(number, frame):
    got.append(signal.Signals(number).name)
    print(*got, flush=True)
    if number == signal.SIGTERM:
        sys.exit(5)
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT"):
    signal.signal(getattr(signal, name), handle)
for name in sys.argv[1:]:
    os.kill(os.getppid(), getattr(signal, name))
    os.read(woken, 1)
os.read(woken, 1)
"""


@pytest.fixture
def default_signals() -> Iterator[None]:
    """Handle signals as in a foreground job: a shell makes jobs in the background ignore SIGINT and SIGQUIT."""
    before = {number: signal.getsignal(number) for number in PASSED_ON}
    for number in PASSED_ON:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("default_signals")
def test_each_signal_reaches_the_program_once_and_the_program_decides() -> None:
    sent = ["SIGUSR1", "SIGINT", "SIGHUP", "SIGUSR2", "SIGQUIT", "SIGINT", "SIGTERM"]
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    code, reader = recorded(*PYTHON, COUNTS, *sent)
    assert code == 5
    assert output(reader).splitlines()[-1].split() == sent
    assert reader.meta["failure_reason"] == "exit code 5"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)] == before


def test_a_signal_reaches_all_processes_of_a_pipeline() -> None:
    pipeline = 'trap \'\' HUP TERM; "$0" -IS -c "$1" {pid} SIGHUP SIGTERM | cat; exit 4'
    program = COUNTS.replace("os.getppid()", "int(sys.argv[1])").replace("sys.argv[1:]", "sys.argv[2:]")
    code, reader = recorded("sh", "-c", pipeline, sys.executable, program, params={"pid": os.getpid()})
    assert (code, output(reader).splitlines()[-1]) == (4, "SIGHUP SIGTERM")


def test_a_program_that_handles_its_end_by_a_signal_is_complete() -> None:
    program = f"{WAKES}import sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
    code, reader = recorded(*PYTHON, program + "os.kill(os.getppid(), signal.SIGTERM); os.read(woken, 1)")
    assert (code, reader.state.status) == (0, "complete")


def test_a_program_is_recorded_outside_of_the_main_thread() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(recorded("sh", "-c", "echo x; exit 3")[0]))
    thread.start()
    thread.join()
    assert codes == [3]


def test_notata_ends_by_sigint_after_the_program_did_so_that_loops_of_a_shell_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "notata", "run", "-d", "o", "--id", "a", "--"]
    done = subprocess.run([*command, "sh", "-c", "kill -INT $$"], cwd=tmp_path, check=False, capture_output=True)
    assert done.returncode == -signal.SIGINT
    assert LogReader(tmp_path / "o/log_a").meta["failure_reason"] == "interrupted (SIGINT)"


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is a call of Linux")
def test_a_program_gets_sigterm_if_notata_is_killed(tmp_path: Path) -> None:
    program = (
        f"{WAKES}import sys\n"
        "line = open('line', 'w')\n"
        "def handle(*_): line.write('SIGTERM'); line.close(); os._exit(0)\n"
        "signal.signal(signal.SIGTERM, handle)\n"
        "print('ready', flush=True)\n"
        "while True: os.read(woken, 1)\n"
    )
    os.mkfifo(tmp_path / "line")
    started = Script("notata", ["run", "-d", "o", "--id", "a", "--", *PYTHON, program], folder=tmp_path)
    with open(tmp_path / "line") as line:
        assert started.stdout.readline() == "ready\n"
        started.send_signal(signal.SIGKILL)
        assert line.read() == "SIGTERM"
    started.communicate()
    assert LogReader(tmp_path / "o/log_a").state.status == "died"


# -- memory and processor time -----------------------------------------------------------------------------


def test_the_peak_is_the_memory_of_all_processes_at_once(tmp_path: Path) -> None:
    def process(pid: int, children: list[int], rss: int, high: int) -> None:
        folder = tmp_path / str(pid)
        (folder / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        (folder / "task" / str(pid) / "children").write_text(" ".join(map(str, children)))
        (folder / "status").write_text(f"Name:\tx y\nVmHWM:\t{high} kB\nVmRSS:\t{rss} kB\n")

    process(1, [2, 3], 10, 10)
    process(2, [4], 20, 20)
    process(4, [1], 30, 30)  # a forged loop
    usage = TreeUsage(1, str(tmp_path))
    usage.sample()
    assert (usage.peak_bytes, usage.processes) == (60 * 1024, 3)
    assert usage.peak(0) is None  # the program may not have got its memory yet
    process(2, [], 1, 90)
    process(1, [2], 1, 10)
    usage.sample()
    assert (usage.peak_bytes, usage.processes) == (90 * 1024, 3)
    assert usage.peak(100 * 1024) == 100 * 1024


@pytest.mark.parametrize(("cost", "left"), [(0.002, 0.0), (0.06, 1.0)])
def test_samples_take_a_hundredth_of_a_processor_however_busy_the_machine_is(
    cost: float, left: float, tmp_path: Path
) -> None:
    (tmp_path / "self").mkdir()
    times, costs = iter([0.0, 0.0, 0.0, 5.0]), iter([1.0, 1.0 + cost])  # the sample takes five seconds
    usage = TreeUsage(1, str(tmp_path), times.__next__, costs.__next__)
    usage.sample_if_due()
    assert usage.seconds_left() == pytest.approx(left)


def test_the_memory_of_a_tree_of_processes_is_measured(tmp_path: Path) -> None:
    size = 48 * 2**20
    program = (
        "import os, signal\n"
        f"pid = os.fork(); memory = bytearray({size})\n"
        "if pid: os.write(1, b'a'); os.wait()\n"
        "else: os.write(1, b'b'); signal.pause()\n"
    )
    said = bytearray()
    with Signals() as signals:
        child = start([*PYTHON, program], sys.executable, str(tmp_path), os.environ, Streams.pipe())
        usage = TreeUsage(child.pid)

        def take(data: bytes) -> None:
            said.extend(data)
            if len(said) == 2 and data:  # both have their memory
                usage.sample()
                os.killpg(child.pid, signal.SIGKILL)

        status, used = Session(child, take, usage, signals, None).run()
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert usage.processes == 2
    assert 2 * size < usage.peak_bytes < 4 * size
    assert 0 < used.ru_utime + used.ru_stime < 10


def test_the_reason_of_sigkill_says_whether_memory_was_short() -> None:
    gib = 2**30
    killed = Exit(None, signal.SIGKILL, peak_memory_bytes=7 * gib, memory_limit_bytes=8 * gib)
    assert (
        killed.reason == "SIGKILL (perhaps out of memory: its peak was 7.0 GiB, the limit is 8.0 GiB)"
        or re.fullmatch(r"SIGKILL \(perhaps out of memory: its peak was \S+ \S+, the limit is \S+ \S+\)", killed.reason)
    )
    assert Exit(None, signal.SIGKILL, peak_memory_bytes=gib, memory_limit_bytes=8 * gib).reason == "SIGKILL"
    assert Exit(None, signal.SIGKILL, out_of_memory=True).reason == "SIGKILL (out of memory)"
    assert Exit(137).reason == "exit code 137 (SIGKILL)"
    assert Exit(200).reason == "exit code 200"


def test_searches_show_and_filter_by_the_exit_code(tmp_path: Path) -> None:
    base = str(tmp_path)
    for run_id, script in (("good", "exit 0"), ("bad", "exit 3"), ("killed", "kill -KILL $$")):
        record(["sh", "-c", script], base, run_id=run_id, echo=False)
    assert [run.run_id for run in search.runs(base, where="exit_code != 0")] == ["bad", "killed"]
    found = notata("ls", base, "--where", "exit_code == 137 and cpu_seconds < 60", folder=tmp_path)
    assert "log_killed" in found.stdout
    table = notata("table", base, "--columns", "run_id,exit_code", folder=tmp_path).stdout
    assert sorted(line.split()[-1] for line in table.splitlines()[-3:]) == ["0", "137", "3"]
    shown = notata("show", f"{base}/log_bad", folder=tmp_path).stdout
    assert re.search(r"exit +code 3, .* of processor time", shown)
    assert "exit code 3" in shown
    fields = json.loads(notata("show", f"{base}/log_bad", "--json", folder=tmp_path).stdout)
    assert (fields["exit"]["code"], fields["command"]["argv"], fields["fields"]) == (3, ["sh", "-c", "exit 3"], {})


# -- files -------------------------------------------------------------------------------------------------


def test_kept_files_follow_no_links_unless_they_are_named(tmp_path: Path) -> None:
    work, other = tmp_path / "work", tmp_path / "other"
    for folder in (work / "out", work / "outputs" / "log_x", other):
        folder.mkdir(parents=True)
    (work / "outputs" / "log_x" / "metadata.json").write_text("{}")
    keeper = Keeper(["out", "**/*.dat", "link.dat", str(other / "named.dat"), "nothing*"], str(work))
    for path in (work / "out" / "a.txt", work / "out" / "b.dat", work / "outputs" / "log_x" / "c.dat"):
        path.write_text("x")
    for name in ("named.dat", "secret.dat"):
        (other / name).write_text("x")
    (work / "link.dat").symlink_to(other / "secret.dat")
    (work / "out" / "again.dat").symlink_to(other / "secret.dat")
    (work / "linked").symlink_to(other)
    found = keeper.find()
    expected = {"artifacts/out/a.txt", "artifacts/out/b.dat", "artifacts/link.dat", "artifacts/other/named.dat"}
    assert set(found.files) == expected
    assert found.missed == ("nothing*",)


@pytest.mark.parametrize("pattern", ["", "../*.dat", "/tmp/*.dat"])
def test_a_pattern_that_leaves_the_folder_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="invalid --keep"):
        recorded("true", keep=[pattern])


def test_the_number_of_kept_files_is_bounded(tmp_path: Path) -> None:
    keeper = Keeper(["*.txt"], str(tmp_path), most=3)
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("x")
    found = keeper.find()
    assert (len(found.files), found.is_cut) == (3, True)


def test_a_file_of_the_same_size_and_time_but_new_content_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    path.write_text("before")
    times = path.stat()
    keeper = Keeper(["a.dat"], str(tmp_path))
    assert keeper.find().files == {}
    path.write_text("after!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert list(keeper.find().files) == ["artifacts/a.dat"]


# -- failures of the storage -------------------------------------------------------------------------------


def test_the_program_is_not_started_if_the_run_cannot_be_created(tmp_path: Path) -> None:
    storage = FaultyBackend(open_store("memory://faulty"))
    storage.fail(1, error=PermissionError)
    with pytest.raises(StorageError):
        record(["touch", str(tmp_path / "started")], storage, echo=False)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(("end", "code"), [("", 3), ("; exit 7", 7)])
def test_a_status_that_cannot_be_stored_is_reported_by_the_exit_code(
    end: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = FaultyBackend(open_store("memory://faulty"))
    storage.fail(2, key="metadata.json", error=PermissionError)  # the first one is the claim
    assert record(["sh", "-c", f"echo x{end}"], storage, run_id="a", echo=False) == code
    assert "the record of the program is incomplete" in capsys.readouterr().err
    assert open_store("memory://faulty/log_a").read("output.txt") == b"x\n"


def test_the_program_runs_on_while_the_storage_fails(tmp_path: Path) -> None:
    storage = FaultyBackend(open_store("memory://faulty"))
    storage.fail(1, key="output.txt")
    storage.fail(1, key="series/output.jsonl")
    script = f"echo v = 1; echo v = 2; touch {tmp_path}/ended"
    assert record(["sh", "-c", script], storage, run_id="a", series=[r"v = (?P<v>\d)"], echo=False) == 0
    assert (tmp_path / "ended").exists()
    assert open_store("memory://faulty/log_a").read("output.txt") == b"v = 1\nv = 2\n"


def test_a_kept_file_that_cannot_be_stored_fails_the_run(tmp_path: Path) -> None:
    storage = FaultyBackend(open_store("memory://faulty"))
    storage.fail(1, key="artifacts/a.txt", error=PermissionError)
    code = record(["sh", "-c", "echo x > a.txt"], storage, run_id="a", keep=["a.txt"], cwd=str(tmp_path), echo=False)
    reader = LogReader("memory://faulty/log_a")
    assert (code, reader.state.status, reader.meta["exit"]["code"]) == (3, "failed", 0)
    assert "files of --keep were not stored" in reader.meta["failure_reason"]


def test_one_of_several_kept_files_that_cannot_be_stored_is_named_with_the_reason(tmp_path: Path) -> None:
    storage = FaultyBackend(open_store("memory://faulty"))
    storage.fail(1, key="artifacts/b.txt", error=PermissionError)
    script = ["sh", "-c", "touch a.txt b.txt c.txt"]
    assert record(script, storage, run_id="a", keep=["*.txt"], cwd=str(tmp_path), echo=False) == 3
    reader = LogReader("memory://faulty/log_a")
    assert reader["artifacts/c.txt"].read_bytes() == b""
    for text in (reader.meta["failure_reason"], reader["log.txt"].read_text()):
        assert "artifacts/b.txt: permission denied" in text
        assert "sub-exception" not in text


# -- child processes ---------------------------------------------------------------------------------------


def test_secrets_are_not_passed_on_to_child_processes() -> None:
    options = {
        "key": "AKIA", "secret": "hidden", "token": "hidden", "endpoint_url": "http://h:9000", "anon": False,
        "client_kwargs": {"region_name": "eu", "aws_secret_access_key": "hidden"}, "account_key": "hidden",
        "session": object(), "url": "https://ada:hidden@host",
    }  # fmt: skip
    variables = child_variables("s3://b/log_a", options, {})
    assert "hidden" not in json.dumps(variables)
    assert open_options(variables) == {
        "endpoint_url": "http://h:9000", "anon": False, "client_kwargs": {"region_name": "eu"}
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "[1]", "{", "null", '"x"', "[" * 5000])
def test_forged_options_of_a_parent_are_ignored(text: str) -> None:
    assert open_options({"NOTATA_RUN_OPTIONS": text}) == {}


def test_the_rank_is_that_within_the_run() -> None:
    assert inherited_rank({"OMPI_COMM_WORLD_RANK": "3", "SLURM_PROCID": "0"}, 1) == "3"
    within = child_variables("file:///log_a", None, {"SLURM_PROCID": "5"})
    assert inherited_rank({**within, "SLURM_PROCID": "5"}, 77).endswith("-77")
    assert inherited_rank({**within, "SLURM_PROCID": "5", "PMI_RANK": "2"}, 77) == "2"
    assert inherited_rank({"PMI_RANK": "../x"}, 77).endswith("-77")


# -- systems without terminals -----------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "expected"), [("exit 3", Exit(3)), ("kill -KILL $$", Exit(None, 9))])
def test_a_program_runs_with_pipes_alone(script: str, expected: Exit, tmp_path: Path) -> None:
    said: list[bytes] = []
    path = find_program("sh", str(tmp_path), os.environ)
    began: Callable[[int], object] = bool
    done = pipes.run_program(
        ["sh", "-c", f"echo out; echo err >&2; {script}"], path, str(tmp_path), os.environ, NOWHERE, said.append, began
    )
    assert (done.exit, done.is_held_open, b"".join(said)) == (expected, False, b"out\nerr\n")


def test_a_missing_interpreter_is_an_error_of_the_start(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/no/such/interpreter\n")
    (tmp_path / "tool").chmod(0o755)
    with pytest.raises(StartError) as error:
        recorded("./tool", cwd=str(tmp_path))
    assert error.value.exit_code == 127


# -- the page ----------------------------------------------------------------------------------------------


def test_the_first_steps_of_the_page_work_as_typed(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs/how-to/programs.md").read_text()
    script, commands = re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[:2]
    (tmp_path / "solve.sh").write_text(script)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", commands], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"step 3 res = 1.0e-3" in done.stdout
    reader = LogReader(tmp_path / "outputs/log_cavity")
    assert (dict(reader.params), reader.load_json("metrics")) == ({"cells": 64}, {"cells": 64})
    assert reader.path.joinpath("artifacts/mesh.dat").read_text() == "nodes: 64\n"
    assert list(reader.series("output")["res"]) == [0.1, 0.01, 0.001]


def test_files_are_kept_where_the_runs_are_in_the_working_folder(tmp_path: Path) -> None:
    options: dict[str, Any] = {"run_id": "a", "keep": ["**/*.txt"], "cwd": str(tmp_path), "echo": False}
    code = record(["sh", "-c", "echo x > a.txt"], str(tmp_path), **options)
    assert (code, [path.name for path in (tmp_path / "log_a/artifacts").rglob("*")]) == (0, ["a.txt"])
