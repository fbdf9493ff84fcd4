"""(j) The command at a distance: `ls`, `table` and `grep` of many runs of no experiment on S3."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

from notata import UnprotectedWarning
from tests import servers
from tests.children import ChildError
from tests.tools.benchmarks.contest import MISSING, Bench
from tests.tools.benchmarks.environments import S5CMD
from tests.tools.benchmarks.processes import Command, Ran, run, take_turns
from tests.tools.benchmarks.proxy import Proxy
from tests.tools.benchmarks.results import Budget, Column, Result, median_of
from tests.tools.benchmarks.runs import copy_runs, write_large_runs
from tests.tools.benchmarks.sites import BUCKET, Site, serving

LS, WHERE, TABLE = "`notata ls`", "`notata ls --where 'omega > 500'`", "`notata table`"
GREP = "`notata grep --logs ERROR`"
NOTATAS = {
    LS: ["ls"],
    WHERE: ["ls", "--where", "omega > 500"],
    TABLE: ["table"],
    GREP: ["grep", "--logs", "ERROR"],
}
OBSTORE = ", engine obstore"
S5CMDS = {"s5cmd: `cat` of metadata.json": "metadata.json", "s5cmd: `cat` of log.txt": "log.txt"}
TIME, PROCESSOR, REQUESTS, RECEIVED, LINES = "time", "processor", "requests", "received", "lines"
LIMITS = ((LS, 2.0), (WHERE, 2.0), (TABLE, 2.0), (GREP, 2.5))
DISTANCE = 20

BARE = """
import re, sys, json, s3fs
url, options, name, found = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
fs = s3fs.S3FileSystem(use_listings_cache=False, **options)
files = [path for path in fs.find(url) if path.endswith("/" + name)]
pattern = re.compile(found.encode())
for path, data in fs.cat(files).items():
    for line in data.splitlines():
        if pattern.search(line):
            sys.stdout.buffer.write(path.encode() + b":" + line + b"\\n")
"""


def measure(bench: Bench) -> list[Result]:
    """Measure each command from its start to its end, beside the least that other programs need for it."""
    sizes, folder = bench.sizes, bench.sites.folder()
    what = f"Commands for {sizes.command_runs} runs of ten files on S3, {DISTANCE} ms round trip"
    title = f"{what}; {median_of(sizes.command_rounds)}"
    units = {TIME: "s", PROCESSOR: "s", REQUESTS: "", RECEIVED: "MB", LINES: ""}
    result = Result("j", title, [Column(name, unit, ratio=False) for name, unit in units.items()])
    _fill(folder, sizes.command_runs)
    with serving(folder, DISTANCE) as (site, proxy):
        for name, command in _bare(site).items():
            run(command)  # fills the caches of the server
            bench.say(f"(j) {name}")
        for commands, times in ((_notata(site) | _bare(site), sizes.command_rounds), (_s5cmd(bench, site), 1)):
            first = _counted(result, commands, proxy)
            again = {name: command for name, command in commands.items() if name in first}
            samples, failed = take_turns(again, times - 1, warm=0)
            for name in commands:
                found = first.get(name, []) + samples.get(name, [])
                result.add(name, TIME, (sample.seconds for sample in found))
                result.add(name, PROCESSOR, (sample.processor for sample in found))
            result.refuse(failed)
    if S5CMD not in bench.pythons:
        result.refuse({"s5cmd": MISSING})
    result.notes.append("s5cmd reads all files one after the other, and was measured once.")
    result.notes.append("The proxy counts requests and bytes, including the headers of the replies.")
    for name, limit in LIMITS:
        what = f"{name} of {sizes.command_runs} runs on S3, {DISTANCE} ms round trip"
        result.budgets.append(Budget(what, limit, result.median(name, TIME), "s"))
    result.budgets.append(Budget(f"the same {LS}, processor time", 1.2, result.median(LS, PROCESSOR), "s"))
    return [result]


def _fill(folder: Path, runs: int) -> None:
    """Write some runs through the server, as on S3, and copy them in its folder."""
    with servers.rclone(folder) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore", UnprotectedWarning)  # accept the fast server, which is measured and not chosen
        write_large_runs(Site(f"{server.url}/outputs", server.options))
    copy_runs(folder / BUCKET / "outputs", runs)


def _notata(site: Site) -> dict[str, Command]:
    url = f"{site.url}/outputs"
    storage = [f"--storage-option={name}={value}" for name, value in site.options.items()]
    found = {}
    for more, engine in (("", []), (OBSTORE, ["--storage-option=engine=obstore"])):
        for name, (verb, *arguments) in NOTATAS.items():
            found[f"{name}{more}"] = Command([sys.executable, "-m", "notata", verb, *arguments, url, *storage, *engine])
    return found


def _bare(site: Site) -> dict[str, Command]:
    found = {}
    wide = site.options | {"config_kwargs": {"max_pool_connections": 64}}
    for name, pattern in (("metadata.json", '"status"'), ("log.txt", "ERROR")):
        program = [sys.executable, "-c", BARE, f"{site.url}/outputs", json.dumps(wide), name, pattern]
        found[f"s3fs alone, 64 connections: list, `cat` of {name}"] = Command(program)
    return found


def _s5cmd(bench: Bench, site: Site) -> dict[str, Command]:
    program = bench.program(S5CMD, "s5cmd")
    if program is None:
        return {}
    endpoint = ["--endpoint-url", site.options["endpoint_url"]]
    keys = {"AWS_ACCESS_KEY_ID": site.options["key"], "AWS_SECRET_ACCESS_KEY": site.options["secret"]}
    return {
        name: Command([program, *endpoint, "cat", f"{site.url}/outputs/*/{file}"], keys)
        for name, file in S5CMDS.items()
    }


def _counted(result: Result, commands: dict[str, Command], proxy: Proxy) -> dict[str, list[Ran]]:
    """Run each command once, and count what passes the proxy."""
    found: dict[str, list[Ran]] = {}
    for name, command in commands.items():
        before = proxy.passed()
        try:
            ran = run(command)
        except ChildError as error:
            result.refuse({name: f"failed: {error}"})
            continue
        passed = proxy.passed() - before
        result.add(name, REQUESTS, [passed.requests])
        result.add(name, RECEIVED, [passed.received / 1e6])
        result.add(name, LINES, [ran.output.count("\n")])
        found[name] = [ran]
    return found
