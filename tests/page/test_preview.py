"""Previews of files, compared with the files; hostile ones are bounded."""

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notata import Logbook, search
from notata.page.images import image_of
from notata.page.preview import file_page, kind_of
from notata.page.values import encoded


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Logbook("a", tmp_path, environment=False, heartbeat=None):
        pass
    return tmp_path / "log_a"


def preview(run: Path, key: str, data: bytes, most: int = 2**20) -> dict[str, Any]:
    path = run / key
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(data)
    (found,) = search.runs(run)
    page = file_page(found.file(key), most=most)
    json.loads(encoded(page))
    assert (page["key"], page["size"], page["kind"]) == (key, len(data), kind_of(key))
    return page


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")
    )


JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\0" + bytes(9) + b"\xff\xc0\x00\x11\x08\x00\x02\x00\x03" + bytes(20)
WEBP = b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + (99).to_bytes(3, "little") * 2 + bytes(8)
DOCTYPE = b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x">'
SVG = b'<?xml version="1.0"?>\n' + DOCTYPE + b'\n<!-- a --><svg xmlns="x"><script>x</script></svg>'


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.png", png(3, 2), "png"), ("a.gif", b"GIF89a\x01\0\x01\0" + bytes(9), "gif"), ("a.JPG", JPEG, "jpeg"),
        ("a.webp", WEBP, "webp"), ("a.svg", SVG, "svg+xml"),
        ("really_a_gif.png", b"GIF87a\x01\0\x01\0" + bytes(9), "gif"),
    ],
)  # fmt: skip
def test_a_picture_is_a_data_url_of_its_bytes(name: str, data: bytes, kind: str, run: Path) -> None:
    page = preview(run, f"plots/{name}", data)
    start, _, rest = page["image"].partition(",")
    assert start == f"data:image/{kind};base64"
    assert base64.b64decode(rest) == data


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        (
            "bomb.png",
            png(100_000, 100_000),
            "It has 100,000 x 100,000 pixels, which a browser may not be able to show.",
        ),
        ("wide.png", png(2**31, 1), "It has 2,147,483,648 x 1 pixels"),
        ("none.png", png(0, 5), "It has 0 x 5 pixels"),
        ("page.png", b"<html><script>alert(1)</script>", "It is not a PNG"),
        ("entities.svg", b'<!DOCTYPE svg [<!ENTITY a "b">]><svg>&a;</svg>', "It is not a PNG"),
        ("utf16.svg", "<svg/>".encode("utf-16"), "It is not a PNG"),
        ("xhtml.svg", b'<html xmlns="http://www.w3.org/1999/xhtml"><svg/></html>', "It is not a PNG"),
        ("cut.jpg", b"\xff\xd8\xff\xe0\xff", "It is not a PNG"),
        ("large.png", png(3, 2) + bytes(2000), "Its size is 2.1 kB, more than the 1.0 kB that fit here."),
    ],
)
def test_a_picture_that_is_left_out(name: str, data: bytes, reason: str, run: Path) -> None:
    page = preview(run, f"plots/{name}", data, most=1000)
    assert page["left_out"].startswith(reason)
    assert "image" not in page


def repeated(levels: int, *, element: str = '<use href="#{}"/>') -> bytes:
    """Return an SVG of levels of ten references each to the level below."""
    groups = [f"<g id='l{level}'>{element.format(f'l{level - 1}') * 10}</g>" for level in range(1, levels)]
    return f"<svg xmlns='x'><path id='l0'/>{''.join(groups)}<use href='#l{levels - 1}'/></svg>".encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (repeated(10), "Its parts refer to others so often that a browser would draw more than 101,020."),
        (repeated(10, element='<path mask="url(#{})"/>'), "Its parts refer to others so often"),
        (repeated(10, element="<path style='fill: u\\72l( \\23 {})'/>"), "Its parts refer to others so often"),
        (repeated(10, element='<use href="%23#%6c"/><use xl:href="#{}"/>'), "Its parts refer to others so often"),
        (b"<svg ><g id='a'><use href='#b'/></g><g id='b'><use href='#a'/></g></svg>", "Its parts refer to each other"),
        (b"<svg ><image href='DATA:image/&#10;svg+xml,x'/></svg>", "It contains another SVG"),
        (b"<svg ><style>@import url(data:text/css,x)</style></svg>", "It contains another SVG"),
        (b"<svg ><a></svg>", "It is damaged at line 1: mismatched tag."),
    ],
)
def test_a_small_drawing_that_would_be_endless_is_left_out(data: bytes, reason: str) -> None:
    url, why = image_of(data)
    assert not url
    assert why.startswith(reason)


def test_styles_that_refer_to_nested_parts_are_left_out() -> None:
    masks = [f"<mask id='m{at}'>" + f"<path class='c{at + 1}'/>" * 9 + "</mask>" for at in range(9)]
    rules = "".join(f".c{at}{{mask:url(#m{at})}}" for at in range(9))
    assert image_of(f"<svg ><style>{rules}</style>{''.join(masks)}<g class='c0'/></svg>".encode())[0] == ""
    stops = "".join(f"<linearGradient id='g{at}'><stop/><stop/></linearGradient>" for at in range(20))
    fills = "".join(f".c{at}{{fill:url(#g{at})}}" for at in range(20))
    assert image_of(f"<svg ><style>{fills}</style>{stops}<g class='c0'/></svg>".encode())[1] == ""


def test_a_plot_with_many_markers_is_shown() -> None:
    marks = "<g clip-path='url(#c)'><use href='#m' style='fill: #1f77b4'/></g>" * 60_000
    plot = (
        f"<svg ><defs><path id='m'/><clipPath id='c'><rect/></clipPath></defs><a href='#top'/><g id='top'>{marks}</g>"
    )
    assert image_of(f"{plot}</svg>".encode())[1] == ""


def test_endless_headers_of_pictures_end() -> None:
    for data in (b"\xff\xd8\xff" + b"\xff" * 100_000, b"\xff\xd8" + b"\xff\xe1\x00\x02" * 50_000, b"<svg" * 10_000):
        image_of(data)
    assert image_of(b"<?xml" + b"<!-- -->" * 50_000)[0] == ""


def test_text_is_cut_at_a_character(run: Path) -> None:
    page = preview(run, "artifacts/notes.txt", "é".encode() * 600, most=999)
    assert page["text"] == "é" * 499
    assert page["truncated"]
    whole = preview(run, "artifacts/notes.md", b"a\r\nb\x1b[31m</script>")
    assert (whole["text"], whole["truncated"]) == ("a\r\nb\x1b[31m</script>", False)
    assert preview(run, "artifacts/empty.txt", b"")["text"] == ""


def test_json_is_parsed_within_limits(run: Path) -> None:
    assert preview(run, "artifacts/a.json", b'{"a": [1, NaN, "</script>", 1e999]}')["json"] == {
        "a": [1, "NaN", "</script>", "Infinity"]
    }
    assert preview(run, "artifacts/a.json", b"null")["json"] is None
    assert preview(run, "artifacts/broken.json", b'{"a": ')["text"] == '{"a": '
    deep = preview(run, "artifacts/deep.json", b"[" * 100_000 + b"]" * 100_000)
    assert deep["text"].startswith("[[[") or "…" in json.dumps(deep["json"], ensure_ascii=False)
    many = preview(run, "artifacts/many.json", json.dumps([{"a": 1}] * 50_000).encode())
    assert len(encoded(many)) < 2**20
    large = preview(run, "artifacts/large.json", json.dumps(["x" * 100] * 100).encode(), most=1000)
    assert large["truncated"]
    assert len(large["text"]) == 1000
    digits = preview(run, "artifacts/digits.json", b"[" + b"1" * 6000 + b"]")
    assert "json" not in digits or isinstance(digits["json"][0], str)


def test_a_table_has_its_first_rows(run: Path) -> None:
    lines = ["a,b", *(f'{number},"x, {number}"' for number in range(1000))]
    page = preview(run, "artifacts/t.csv", "\r\n".join(lines).encode())
    assert page["table"]["columns"] == ["a", "b"]
    assert page["table"]["rows"][:2] == [["0", "x, 0"], ["1", "x, 1"]]
    assert (len(page["table"]["rows"]), page["table"]["total"], page["truncated"]) == (200, 1000, True)
    cut = preview(run, "artifacts/t.tsv", b"a\tb\n1\t2\n33333\t4444", most=12)
    assert cut["table"] == {"columns": ["a", "b"], "rows": [["1", "2"]], "total": None}
    wide = preview(run, "artifacts/wide.csv", b",".join([b"y" * 300] * 2000))
    assert len(wide["table"]["columns"]) == 200
    assert {len(name) for name in wide["table"]["columns"]} == {200}
    huge = preview(run, "artifacts/huge.csv", b'"' + b"x" * 300_000)
    assert "text" in huge


def npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def pixels(url: str) -> Any:
    """Return the pixels of a PNG with a palette, by a way of its own."""
    data = base64.b64decode(url.partition(",")[2])
    at, chunks = 8, {}
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        chunks[data[at + 4 : at + 8]] = data[at + 8 : at + 8 + length]
        at += 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:]


def test_an_array_has_statistics_and_a_picture(run: Path) -> None:
    values = np.arange(12.0).reshape(3, 4)
    values[1, 1] = np.nan
    page = preview(run, "data/x.npy", npy(values))["array"]
    assert (page["shape"], page["dtype"], page["nan"]) == ([3, 4], "float64", 1)
    assert page["mean"] == np.nanmean(values)
    assert page["std"] == pytest.approx(np.nanstd(values))
    assert (page["min"], page["max"]) == (0, 11)
    assert page["head"][:6] == [0, 1, 2, 3, 4, "NaN"]
    seen = pixels(page["image"])
    assert seen.shape == (3, 4)
    assert (seen[0, 0], seen[2, 3], seen[1, 1]) == (0, 254, 255)
    large = np.zeros((1000, 30))
    large[500:] = 1
    turned = pixels(preview(run, "data/l.npy", npy(np.asfortranarray(large)))["array"]["image"])
    assert turned.shape == (256, 30)
    assert (turned[:127] == 0).all()
    assert (turned[129:] == 254).all()
    page = preview(run, "data/big.npy", npy(np.arange(1000.0)), most=1000)
    assert page["array"]["head"][:3] == [0, 1, 2]
    assert "mean" not in page["array"]
    assert page["left_out"] == "Its statistics: to compute them, notata would have to read 8.1 kB, more than 1.0 kB."
    for odd in (
        np.full((4, 4), 1e308),
        np.array([[-1e308, 1e308]] * 2),
        np.full((3, 3), np.inf),
        np.eye(3, dtype=bool),
    ):
        pixels(preview(run, "data/odd.npy", npy(odd))["array"]["image"])
    assert preview(run, "data/c.npy", npy(np.array([1 + 2j])))["array"]["head"] == ["(1+2j)"]
    assert preview(run, "data/s.npy", npy(np.array([("a", 1.5)], "U2, f8")))["array"]["fields"]


def test_damaged_and_forged_arrays(run: Path) -> None:
    assert "left_out" in preview(run, "data/x.npy", b"no array")
    forged = npy(np.zeros(1)).replace(b"(1,)", b"(9999999999,)"[:4] + b"")
    preview(run, "data/y.npy", forged)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.ljust(117) + b"\n" + bytes(64)
    assert "truncated" in preview(run, "data/z.npy", data)["left_out"]


@pytest.mark.parametrize("dtype", ["U2", "U2, U2"])
def test_an_array_with_characters_beyond_unicode(dtype: str, run: Path) -> None:
    data = npy(np.zeros(1, dtype))
    size = np.dtype(dtype).itemsize
    array = preview(run, "data/x.npy", data[:-size] + b"\xff" * size)["array"]
    assert array["shape"] == [1]
    assert "\\xff" in str(array["head"])


def test_a_bundle_has_its_arrays(run: Path) -> None:
    file = io.BytesIO()
    np.savez(file, x=np.arange(3), y=np.eye(2))
    page = preview(run, "data/b.npz", file.getvalue())
    assert page["members"]["x"]["shape"] == [3]
    assert page["members"]["x"]["mean"] == 1
    assert page["members"]["y"]["dtype"] == "float64"
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(300):
            archive.writestr(f"a{number}.npy", npy(np.zeros(1)))
    page = preview(run, "data/m.npz", many.getvalue())
    assert len(page["members"]) == 200
    assert page["left_out"] == "It has 100 more members."


def test_a_pickle_is_described_and_never_loaded(run: Path) -> None:
    page = preview(run, "artifacts/m.pkl", b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    assert any("os.system" in line for line in page["facts"])


def test_other_files(run: Path) -> None:
    assert preview(run, "artifacts/x.bin", bytes(range(256)) * 10)["facts"][0].startswith("00000000  00 01 02 03")
    assert preview(run, "artifacts/README", b"plain text")["text"] == "plain text"
    assert "facts" in preview(run, "artifacts/fake.txt", b"\0\1\2")
    rows = pytest.importorskip("pandas").DataFrame({"t": [1, 2]})
    file = io.BytesIO()
    rows.to_parquet(file)
    assert any("t" in line for line in preview(run, "data/t.parquet", file.getvalue())["facts"])
    assert "left_out" in preview(run, "data/broken.parquet", b"PAR1 no")
