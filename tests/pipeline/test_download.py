"""Downloads against a figshare made of a loopback server that can misbehave."""

from __future__ import annotations

import io
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from support.disk import Disk
from support.figshare import ARTICLE, CONTENT, IMAGES, NUMBERS, RECORDING, SIZES, Figshare, started

from cache import UserError
from pipeline.download import CHUNK, DATASETS, download


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def figshare() -> Iterator[Figshare]:
    with started() as served:
        yield served


def part(directory: Path, name: str) -> Path:
    return directory / f"{name}.part"


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def assert_whole(directory: Path) -> None:
    """Both files, exactly, and nothing else: no .part, no temporary."""
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == CONTENT


def refuse(figshare: Figshare, directory: Path, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        figshare(directory)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def test_the_published_numbers() -> None:
    assert DATASETS["fx10"].article == 28797638
    assert NUMBERS == {"nat60k_text16.mat": 53678783, "FX10_nat60k_2023_05_16.npz": 53712311}


def test_whole_download_then_nothing(figshare: Figshare, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "data"
    paths = figshare(directory)
    assert paths == [directory / IMAGES, directory / RECORDING]
    assert_whole(directory)
    assert figshare.asked == [(f"/files/{number}", None) for number in NUMBERS.values()]
    times = [path.stat().st_mtime_ns for path in paths]
    figshare.asked.clear()
    assert figshare(directory) == paths
    assert figshare.asked == []
    assert [path.stat().st_mtime_ns for path in paths] == times


def test_a_power_cut_leaves_what_was_downloaded(
    figshare: Figshare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    for path in figshare(tmp_path / "new" / "data"):
        assert disk.lacks(path, below=tmp_path) is None


def test_another_file_of_that_name_is_replaced(figshare: Figshare, tmp_path: Path) -> None:
    (tmp_path / RECORDING).write_bytes(b"x" * SIZES[RECORDING])
    figshare(tmp_path)
    assert_whole(tmp_path)


def test_lost_connection_then_resume(figshare: Figshare, tmp_path: Path) -> None:
    cut = 3 * CHUNK + 10
    figshare.cut_after[IMAGES] = cut
    message = refuse(figshare, tmp_path, IMAGES, "connection lost", "run the same command again")
    kept = part(tmp_path, IMAGES).stat().st_size
    assert cut - CHUNK <= kept <= cut
    assert f"{kept} of {SIZES[IMAGES]} bytes" in message
    assert names(tmp_path) == {f"{IMAGES}.part"}
    figshare.sent = 0
    figshare(tmp_path)
    assert_whole(tmp_path)
    assert figshare.ranges(IMAGES) == [None, f"bytes={kept}-"]
    assert figshare.sent == SIZES[IMAGES] - kept + SIZES[RECORDING]


def test_ctrl_c_then_resume(
    figshare: Figshare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = requests.Response.iter_content

    def interrupted(response: requests.Response, size: int) -> Iterator[bytes]:
        chunks = whole(response, size)
        yield next(chunks)
        if "/files/" in response.url:
            raise KeyboardInterrupt
        yield from chunks

    with monkeypatch.context() as patch:
        patch.setattr(requests.Response, "iter_content", interrupted)
        with pytest.raises(KeyboardInterrupt):
            figshare(tmp_path)
    assert names(tmp_path) == {f"{IMAGES}.part"}
    figshare(tmp_path)
    assert_whole(tmp_path)
    assert figshare.ranges(IMAGES) == [None, f"bytes={CHUNK}-"]


def test_ctrl_c_while_the_md5_is_checked(
    figshare: Figshare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", interrupted)
        with pytest.raises(KeyboardInterrupt):
            figshare(tmp_path)
    assert names(tmp_path) == {f"{IMAGES}.part"}
    figshare(tmp_path)
    assert_whole(tmp_path)
    assert figshare.ranges(IMAGES) == [None]


@pytest.mark.parametrize(
    ("left", "ignore_range", "asked"),
    [
        (b"stale", True, ["bytes=5-"]),  # a server without Range: from the start
        (CONTENT[IMAGES], False, []),  # complete: only checked
        (CONTENT[IMAGES] + b"more", False, [None]),  # longer than the file can be
    ],
)
def test_what_an_earlier_call_left(
    figshare: Figshare, tmp_path: Path, left: bytes, ignore_range: bool, asked: list[str | None]
) -> None:
    part(tmp_path, IMAGES).write_bytes(left)
    figshare.ignore_range = ignore_range
    figshare(tmp_path)
    assert_whole(tmp_path)
    assert figshare.ranges(IMAGES) == asked


def test_wrong_bytes_are_refused(figshare: Figshare, tmp_path: Path) -> None:
    figshare.content[RECORDING] = bytes(SIZES[RECORDING])
    refuse(figshare, tmp_path, RECORDING, "MD5", "deleted", "run the same command again")
    assert names(tmp_path) == {IMAGES}
    figshare.content = CONTENT
    figshare(tmp_path)
    assert_whole(tmp_path)


def test_wrong_start_is_refused(figshare: Figshare, tmp_path: Path) -> None:
    part(tmp_path, IMAGES).write_bytes(bytes(CHUNK))
    refuse(figshare, tmp_path, IMAGES, "MD5", "deleted")
    assert names(tmp_path) == set()
    figshare(tmp_path)
    assert_whole(tmp_path)


@pytest.mark.parametrize(
    ("change", "left", "word"),
    [(-7, 0, "longer"), (7, 0, "shorter"), (7, SIZES[IMAGES], "shorter")],  # the last: 416
)
def test_wrong_size_is_refused(
    figshare: Figshare, tmp_path: Path, change: int, left: int, word: str
) -> None:
    part(tmp_path, IMAGES).write_bytes(CONTENT[IMAGES][:left])
    figshare.entries[IMAGES]["size"] += change
    size = SIZES[IMAGES] + change
    refuse(figshare, tmp_path, IMAGES, f"{word} than the {size} bytes", "run the same command")
    assert names(tmp_path) == set()
    assert figshare.ranges(IMAGES) == [f"bytes={left}-" if left else None]


@pytest.mark.parametrize("status", [404, 403, 202])
def test_refused_file(figshare: Figshare, tmp_path: Path, status: int) -> None:
    part(tmp_path, RECORDING).write_bytes(CONTENT[RECORDING][:400])
    figshare.status[RECORDING] = status
    url, path = f"{figshare.url}/files/{NUMBERS[RECORDING]}", tmp_path / RECORDING
    refuse(figshare, tmp_path, f"{url} answers {status}", f"by hand: {url} as {path}")
    assert part(tmp_path, RECORDING).read_bytes() == CONTENT[RECORDING][:400]
    assert not path.exists()


def test_the_other_address_of_a_refused_file(figshare: Figshare, tmp_path: Path) -> None:
    figshare.status[RECORDING] = 202
    figshare.entries[RECORDING]["download_url"] = f"{figshare.url}/mirror/{NUMBERS[RECORDING]}"
    figshare(tmp_path)
    assert_whole(tmp_path)


def test_file_beyond_the_ten_that_an_article_lists(figshare: Figshare, tmp_path: Path) -> None:
    figshare.listed.remove(RECORDING)
    figshare(tmp_path)
    assert_whole(tmp_path)


def test_file_absent_from_the_article(figshare: Figshare, tmp_path: Path) -> None:
    del figshare.entries[RECORDING]
    refuse(figshare, tmp_path / "new", f"{RECORDING}, not in {figshare.url}{ARTICLE}", "by hand")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[]",
        b'{"files": [{"id": 53678783, "computed_md5": "00"}]}',
        b'{"files": [{"id": 53678783, "computed_md5": "", "supplied_md5": "", "size": 1}]}',
    ],
)
def test_answer_that_is_not_understood(figshare: Figshare, tmp_path: Path, answer: bytes) -> None:
    figshare.article = answer
    refuse(figshare, tmp_path / "new", f"{ARTICLE} gives an answer that is not understood")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("name", "hint"), [("FX01", ": did you mean fx10? choose"), ("?", ": ch")])
def test_unknown_name(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"unknown dataset '{name}'{hint}")) as caught:
        download(name, tmp_path / "new", api="http://127.0.0.1:9")
    assert str(caught.value).endswith("choose from fx10")
    assert not (tmp_path / "new").exists()


def test_api_unreachable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        api = f"http://127.0.0.1:{closed.getsockname()[1]}/v2"
    with pytest.raises(UserError, match=f"{api}/articles/28797638 cannot be reached") as caught:
        download("fx10", tmp_path / "new", api=api, files="http://files.invalid")
    for name, number in NUMBERS.items():
        assert f"http://files.invalid/{number} as {tmp_path / 'new' / name}" in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_files_unreachable(figshare: Figshare, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        files = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(UserError, match=f"{files}/53678783 cannot be reached.*by hand"):
        download("fx10", tmp_path, quiet=True, api=f"{figshare.url}/v2", files=files)
    assert names(tmp_path) == set()


def test_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.download.TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match=r"no answer within 0\.2 s.*by hand"):
            download("fx10", tmp_path, api=url, files=url)


@pytest.mark.parametrize("missing", [0, 1])
def test_space_for_the_rest(
    figshare: Figshare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    (tmp_path / RECORDING).write_bytes(CONTENT[RECORDING])
    part(tmp_path, IMAGES).write_bytes(CONTENT[IMAGES][: 5 * CHUNK])
    usage = shutil.disk_usage(tmp_path)._replace(free=123 - missing)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    if missing:
        refuse(figshare, tmp_path, "fx10 needs 123 bytes", "122 bytes are free", "free some space")
        assert figshare.asked == []
    else:
        figshare(tmp_path)
        assert_whole(tmp_path)


def test_directory_that_is_a_file(figshare: Figshare, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    refuse(figshare, tmp_path / "data", "cannot write into", "choose another directory")
    assert (tmp_path / "data").read_text() == "mine"


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
def test_progress_only_where_it_can_be_seen(figshare, tmp_path, monkeypatch, quiet, terminal):
    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setenv("COLUMNS", "150")
    figshare(tmp_path, quiet=quiet)
    assert (IMAGES in stderr.getvalue()) == (terminal and not quiet)
