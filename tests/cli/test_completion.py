"""Command-line completion, through the protocol that shells use and in a real bash."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import fsspec
import pytest

from notata import Logbook
from notata.cli.completing import complete_urls, join_words
from tests.command import Done, notata
from tests.servers import Server, free_port


def complete(words: list[str], folder: Path, shell: str = "bash", **environment: str) -> Done:
    """Return the completions that a shell receives for the last of these words."""
    asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1), "_NOTATA_COMPLETE": f"{shell}_complete"}
    return notata(folder=folder, **{**asked, **environment})


def plain(done: Done) -> list[str]:
    assert done.stderr == ""
    return [line.removeprefix("plain,") for line in done.stdout.splitlines()]


@pytest.fixture
def bucket(moto_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(import_module("notata.cli.completing"), "SECONDS", 60.0)  # long enough for a busy machine
    for name in ("a", "ab", "b"):
        Logbook(
            name, f"{moto_server.url}/completed", storage_options=moto_server.options, overwrite=True
        ).mark_complete()
    return moto_server


def test_commands_options_and_local_paths(tmp_path: Path) -> None:
    assert {"compare", "doctor", "rm", "sync", "verify"} <= set(plain(complete(["notata", ""], tmp_path)))
    assert plain(complete(["notata", "comp"], tmp_path)) == ["compare", "completion"]
    assert "--tolerance" in plain(complete(["notata", "compare", "--t"], tmp_path))
    for command in ("rm", "verify", "doctor", "compare"):
        assert plain(complete(["notata", command, "out"], tmp_path)) == ["file,out"]


def test_runs_of_a_bucket_with_the_options_that_stand_before(bucket: Server, tmp_path: Path) -> None:
    options = [part for name, value in bucket.options.items() for part in ("-o", f"{name}={value}")]
    done = complete(["notata", "rm", *options, f"{bucket.url}/completed/log_a"], tmp_path)
    assert plain(done) == [f"{bucket.url}/completed/log_a/", f"{bucket.url}/completed/log_ab/"]
    inside = complete(["notata", "compare", "x", *options, f"{bucket.url}/completed/log_a/m"], tmp_path)
    assert plain(inside) == [f"{bucket.url}/completed/log_a/{name}.json" for name in ("manifest", "metadata")]


def test_words_as_bash_breaks_them_and_the_configuration(
    bucket: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", dict(bucket.options))  # fsspec reads FSSPEC_S3_… when it is imported
    path = bucket.url.removeprefix("s3:")
    done = complete(["notata", "verify", "s3", ":", f"{path}/completed/log_b"], tmp_path)
    assert plain(done) == [f"{path}/completed/log_b/"]


def test_words_are_joined_again() -> None:
    assert join_words(["ls", "s3", ":", "//b/x"]) == ["ls", "s3://b/x"]
    assert join_words(["ls", "-o", "endpoint_url", "=", "http", ":", "//h", ":", "9000", "s3", ":", "//b"]) == [
        "ls", "-o", "endpoint_url=http://h:9000", "s3://b",
    ]  # fmt: skip
    assert join_words(["ls", "s3", ":"]) == ["ls", "s3:"]
    assert join_words(["ls", "simplecache", "::", "s3", ":", "//b"]) == ["ls", "simplecache::s3://b"]


def test_some_names_of_a_folder_that_are_no_secret_and_no_control(tmp_path: Path) -> None:
    names = ["b\x1b[31m", ".hidden", "other", "log_x/metadata.json", *(f"log_{number:03}" for number in range(300))]
    fs = fsspec.filesystem("memory")
    for name in names:
        fs.pipe_file(f"/completed/{name}", b"")
    context = click.Context(click.Command("ls"))
    found = [item.value for item in complete_urls(context, click.Argument(["url"]), "memory://completed/log_")]
    assert found == [f"memory://completed/log_{number:03}" for number in range(200)]
    found = [item.value for item in complete_urls(context, click.Argument(["url"]), "memory://completed/")]
    assert found == [f"memory://completed/log_{number:03}" for number in range(200)]
    narrow = [item.value for item in complete_urls(context, click.Argument(["url"]), "memory://completed/log_x")]
    assert narrow == ["memory://completed/log_x/"]
    few = [item.value for item in complete_urls(context, click.Argument(["url"]), "memory://completed/o")]
    assert few == ["memory://completed/other"]
    for begun in ("memory://completed/.", "memory://completed/b"):
        assert complete_urls(context, click.Argument(["url"]), begun) == []
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize("url", ["s3://", "nothing://x/y", "memory://x/", "http://["])
def test_errors_are_silent(url: str, tmp_path: Path) -> None:
    done = complete(["notata", "rm", url], tmp_path)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_completion_ends_silently_without_a_server(tmp_path: Path) -> None:
    done = complete(["notata", "rm", "-o", f"endpoint_url=http://127.0.0.1:{free_port()}", "s3://bucket/x"], tmp_path)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("shell", "expected"), [("zsh", "plain\nsync\nCopy runs to"), ("fish", "plain\nsync\nCopy runs to")]
)
def test_zsh_and_fish(shell: str, expected: str, tmp_path: Path) -> None:
    asked = {"COMP_WORDS": "notata sy", "COMP_CWORD": "1" if shell == "zsh" else "sy"}
    done = complete([], tmp_path, shell, **asked)
    assert done.stderr == ""
    assert done.stdout.startswith((expected, expected.replace("\n", ",", 1).replace("\n", "\t")))


def test_names_in_a_bucket_are_never_more_than_text(tmp_path: Path) -> None:
    names = ["$(touch made)", "`touch made`", "a b", "ünï", "x;touch made", "'q'", "*", "b,c=1"]
    for name in (*names, "evil\x1b[31m", "two\nplain,lines"):
        fsspec.filesystem("memory").pipe_file(f"/names/log_{name}/metadata.json", b"{}")
    found = plain(complete(["notata", "ls", "memory", ":", "//names/log_"], tmp_path))
    script = notata("completion", "bash", folder=tmp_path).stdout
    taken = subprocess.run(
        ["bash", "-c", "echo\n" + "\n".join(f"printf '%s\\n' {name}" for name in found)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(taken.stdout.split("\n")[1:-1]) == sorted(f"//names/log_{name}/" for name in names)
    assert not (tmp_path / "made").exists()
    assert "read -r type value" in script
    fish = complete([], tmp_path, "fish", COMP_WORDS="notata ls ", COMP_CWORD="memory://names/log_").stdout
    assert sorted(fish.splitlines()) == sorted(f"plain,memory://names/log_{name}/" for name in names)


def test_bash_completes_by_the_script_that_is_printed(tmp_path: Path) -> None:
    for name in ("a", "ab", "b"):
        Logbook(name, tmp_path / "runs").mark_complete()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/notata").write_text(f'#!/bin/sh\nexec {sys.executable} -m notata "$@"\n')
    (tmp_path / "bin/notata").chmod(0o755)
    (tmp_path / "script").write_text(notata("completion", "bash", folder=tmp_path).stdout)
    asks = f"""
    compopt() {{ local IFS=" "; echo "compopt $*"; }}
    source ./script
    COMP_WORDS=(notata rm file : //{tmp_path}/runs/log_a); COMP_CWORD=4
    _notata_completion notata
    echo "${{COMPREPLY[@]}}"
    complete -p notata
    """
    done = subprocess.run(
        ["bash", "-c", asks],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "compopt -o nospace",
        "compopt -o nospace",
        f"//{tmp_path}/runs/log_a/ //{tmp_path}/runs/log_ab/",
        "complete -o nosort -F _notata_completion notata",
    ]


def test_each_completion_script_names_notata(tmp_path: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        done = notata("completion", shell, folder=tmp_path)
        assert done.returncode == 0
        assert f"_NOTATA_COMPLETE={shell}_complete" in done.stdout
    assert notata("completion", "tcsh", folder=tmp_path).returncode == 2
    told = notata("completion", "--help", folder=tmp_path).stdout
    assert 'eval "$(notata completion bash)"' in told
