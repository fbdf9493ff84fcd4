"""Event files of TensorBoard: equal to what its own EventAccumulator reports; damaged files are errors."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from notata import LogReader
from notata.errors import BatchError
from notata.importing import ImportReport, import_runs
from tests.importing.sources import metadata, names, on_disk, points, put


def reported(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Return step, time and value of each scalar, as TensorBoard reports them: of both versions."""
    accumulator = EventAccumulator(str(folder), {"scalars": 0, "tensors": 0})
    accumulator.Reload()
    found = {
        tag: [(e.step, e.wall_time, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }
    for tag in accumulator.Tags()["tensors"]:
        if accumulator.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            events = accumulator.Tensors(tag)
            found[tag] = [(e.step, e.wall_time, tensor_util.make_ndarray(e.tensor_proto).item()) for e in events]
    return found


def same_curves(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Check that all curves are equal; times to the millisecond, values as bits."""
    renamed = {"time_" if name == "time" else name: values for name, values in wanted.items()}
    if found.keys() != renamed.keys():
        return False
    for name, values in renamed.items():
        mine = [(step, float(word) if isinstance(word, str) else word) for step, _, word in found[name]]
        if repr(mine) != repr([(step, float(value)) for step, _, value in values]):
            return False
        if any(abs(one[1] - other[1]) > 0.00051 for one, other in zip(found[name], values, strict=True)):
            return False
    return True


@pytest.fixture
def imported(tmp_path: Path) -> tuple[Path, Path, ImportReport]:
    source = on_disk("tensorboard", tmp_path / "from") / "tensorboard"
    return source, tmp_path / "to", import_runs("tensorboard", source, tmp_path / "to")


def test_the_curves_are_those_of_tensorboard(imported: tuple[Path, Path, ImportReport]) -> None:
    source, to, report = imported
    folders = sorted({path.parent for path in source.rglob("*tfevents*")})
    assert len(folders) == len(report.new) == 3
    for folder in folders:
        run_id = str(folder.relative_to(source)).replace("/", "--")
        assert same_curves(points(str(to / f"runs/log_{run_id}")), reported(folder)), folder
    train = points(str(to / "runs/log_lr_0.1--train"))
    assert [(step, value) for step, _, value in train["loss"]][:3] == [(0, 1.0), (1, 0.5), (2, pytest.approx(0.5 / 3))]


def test_pictures_texts_histograms_and_hyperparameters_are_kept(imported: tuple[Path, Path, ImportReport]) -> None:
    source, to, _ = imported
    run = to / "runs/log_lr_0.1--train"
    accumulator = EventAccumulator(str(source / "lr_0.1/train"), {"images": 0, "histograms": 0, "tensors": 0})
    accumulator.Reload()
    assert (run / "plots/picture/1.png").read_bytes() == accumulator.Images("picture")[0].encoded_image_string
    assert (run / "artifacts/text/note/text_summary/1.txt").read_text() == "hello **you**"
    stored = np.load(run / "data/histograms/weights.npz")
    wanted = accumulator.Histograms("weights")[0].histogram_value
    assert stored["step"].tolist() == [1]
    assert stored["buckets"][:, 2].sum() == wanted.num == 10
    second = np.load(to / "runs/log_second/data/histograms/weights.npz")
    assert second["buckets"][:, 2].sum() == 10
    params = LogReader(to / "runs/log_lr_0.1--train--hparams").params
    assert dict(params) == {"lr": 0.1, "depth": 3, "optimizer": "adam", "flag": True}
    assert LogReader(run).verify().ok
    fields = metadata(str(run))
    first, last = (min if end == "start" else max for end in ("start", "end"))
    times = [time for values in reported(source / "lr_0.1/train").values() for _, time, _ in values]
    assert fields["runtime_sec"] >= last(times) - first(times) - 0.001


def test_a_source_in_memory_gives_the_same(imported: tuple[Path, Path, ImportReport]) -> None:
    _, to, report = imported
    put("tensorboard", "memory://importers")
    other = import_runs("tensorboard", "memory://importers/tensorboard", "memory://importers-to")
    assert len(other.new) == len(report.new)
    for url in other.new:
        mine = to / "runs" / url.rpartition("/")[2]
        assert points(url) == points(str(mine))
        assert names(url) == names(str(mine))


def test_a_second_import_does_nothing_and_new_events_are_a_change(imported: tuple[Path, Path, ImportReport]) -> None:
    from tensorboardX import SummaryWriter

    source, to, report = imported
    assert import_runs("tensorboard", source, to).equal == report.new
    log = SummaryWriter(str(source / "second"))
    log.add_scalar("late", 1.0, 9)
    log.close()
    again = import_runs("tensorboard", source, to, update=True)
    assert again.updated == [str(to / "runs/log_second")]
    assert same_curves(points(str(to / "runs/log_second")), reported(source / "second"))


@pytest.mark.parametrize("at", [0, 1, 8, 11, 12, 30, 200, -1])
def test_a_damaged_file_is_an_error_of_its_run(
    imported: tuple[Path, Path, ImportReport], at: int, tmp_path: Path
) -> None:
    source, _, _ = imported
    (file,) = (source / "second").iterdir()
    data = bytearray(file.read_bytes())
    data[at] ^= 0x40
    file.write_bytes(data)
    with pytest.raises(BatchError, match="a checksum is wrong"):
        import_runs("tensorboard", source, tmp_path / "damaged")
    assert len([*(tmp_path / "damaged/runs").glob("*/manifest.json")]) == 2


def test_a_file_that_is_being_written_gives_its_whole_events(
    imported: tuple[Path, Path, ImportReport], tmp_path: Path
) -> None:
    source, _, _ = imported
    (file,) = (source / "second").iterdir()
    data = file.read_bytes()
    for end in range(len(data) - 1, 20, -97):
        file.write_bytes(data[:end])
        report = import_runs("tensorboard", source / "second", tmp_path / "torn")
        (url,) = report.new
        found = points(url) if "series/scalars.jsonl" in names(url) else {}
        assert same_curves(found, reported(source / "second"))
        shutil.rmtree(tmp_path / "torn")


def test_random_bytes_never_end_an_import(imported: tuple[Path, Path, ImportReport], tmp_path: Path) -> None:
    from google_crc32c import value

    source, _, _ = imported
    (file,) = (source / "second").iterdir()
    chance = random.Random(1)
    for number in range(60):
        body = bytes(chance.randrange(256) for _ in range(chance.randrange(80)))
        frame = len(body).to_bytes(8, "little")
        masked = [((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF for crc in (value(frame), value(body))]
        file.write_bytes(frame + masked[0].to_bytes(4, "little") + body + masked[1].to_bytes(4, "little"))
        errors: list[Exception] = []
        report = import_runs("tensorboard", source / "second", tmp_path / f"r{number}", failed=errors.append)
        assert len(report.new) + len(errors) == 1
