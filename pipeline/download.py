"""Published recordings, fetched from figshare, resumed where interrupted, and verified."""

from __future__ import annotations

import difflib
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pooch
import requests
from rich import progress as bars
from rich.console import Console
from rich.filesize import decimal

from cache import UserError

FIGSHARE_API = "https://api.figshare.com/v2"
FIGSHARE_FILES = "https://janelia.figshare.com/ndownloader/files"

#: Seconds without a sign of life after which a server counts as unreachable.
TIMEOUT = 30.0
#: Bytes read at a time; a lost connection costs no more.
CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Files of one figshare article that belong together, and one line about them.

    `article` and the values of `files`, which is keyed by file name, are figshare's numbers.
    """

    article: int
    files: Mapping[str, int]
    description: str


DATASETS: Mapping[str, Dataset] = {
    "fx10": Dataset(
        article=28797638,
        files={"nat60k_text16.mat": 53678783, "FX10_nat60k_2023_05_16.npz": 53712311},
        description="mouse FX10: 4,792 V1 neurons, and the natural images of the minimodel release",
    ),
}


@dataclass(frozen=True, kw_only=True)
class _File:
    """One file as it must lie on disk: `size` in bytes, `urls` in the order they are tried."""

    path: Path
    size: int
    md5: str
    urls: tuple[str, ...]

    @property
    def part(self) -> Path:
        return self.path.with_name(self.path.name + ".part")

    def received(self) -> int:
        """Bytes that an earlier call left; none where it left more than the file can have."""
        there = self.part.stat().st_size if self.part.exists() else 0
        return there if there <= self.size else 0


def download(
    name: str,
    directory: Path,
    *,
    quiet: bool = False,
    api: str = FIGSHARE_API,
    files: str = FIGSHARE_FILES,
) -> list[Path]:
    """Fetch a published dataset into a directory; what is already there is kept or resumed.

    A file gets its name only once its size and MD5 are those that figshare publishes; until
    then it is `<name>.part`, which an interruption leaves for the next call. A file that is
    there with another MD5 is replaced.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    directory : Path
        Where the files go; created if absent.
    quiet : bool
        No progress bar. There is none either where stderr is no terminal.
    api : str
        Address of figshare's API.
    files : str
        Address below which a file lies under its figshare number.

    Returns
    -------
    list of Path
        The dataset's files, in the order of `Dataset.files`.

    Raises
    ------
    UserError
        Unknown dataset; figshare unreachable, or without one of the files; connection lost; too
        little disk space or a directory that cannot be written; a wrong size or MD5.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name.lower(), DATASETS, n=1)
        hint = "".join(f"did you mean {key}? " for key in near)
        raise UserError(f"unknown dataset {name!r}: {hint}choose from {', '.join(DATASETS)}")
    wanted = _published(DATASETS[name], directory, api.rstrip("/"), files.rstrip("/"))
    try:
        _check_space(name, wanted, directory)
        directory.mkdir(parents=True, exist_ok=True)
        with _progress(quiet) as progress:
            for file in wanted:
                _fetch(file, progress)
    except OSError as error:
        raise UserError(
            f"cannot write into {directory} ({error.strerror or error}): make it writable, free "
            "some space or choose another directory; what was fetched so far is kept"
        ) from error
    return [file.path for file in wanted]


def _published(dataset: Dataset, directory: Path, api: str, files: str) -> list[_File]:
    """Ask figshare's API for sizes and MD5 of the wanted files."""
    article = url = f"{api}/articles/{dataset.article}"
    what = "the files"
    links = {directory / name: f"{files}/{number}" for name, number in dataset.files.items()}
    wanted = []
    try:
        listed = {entry["id"]: entry for entry in _ask(article)["files"]}
        for path, link in links.items():
            number = dataset.files[path.name]
            if number not in listed:  # an article's answer lists its first ten files only
                url, what = f"{article}/files/{number}", f"{path.name}, not in {article}"
                listed[number] = _ask(url)
            wanted.append(_file(listed[number], path, link))
    except (requests.RequestException, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"cannot learn the published size and MD5 of {what}: {url} {_reason(error)}: try again "
            f"later, or fetch {_by_hand(links)}"
        ) from error
    return wanted


def _ask(url: str) -> Any:
    response = requests.get(url, timeout=TIMEOUT)
    response.raise_for_status()
    return response.json()


def _file(entry: Mapping[str, Any], path: Path, link: str) -> _File:
    md5 = entry.get("computed_md5") or entry["supplied_md5"]
    if not md5:
        raise ValueError(f"no MD5 for {path.name}")
    # `link` may lead to a check for browsers; the API's own address for the file does not.
    urls = dict.fromkeys([link, entry.get("download_url") or link])
    return _File(path=path, size=int(entry["size"]), md5=md5, urls=tuple(urls))


def _by_hand(links: Mapping[Path, str]) -> str:
    return "by hand: " + " and ".join(f"{link} as {path}" for path, link in links.items())


def _check_space(name: str, wanted: list[_File], directory: Path) -> None:
    there = {f.path for f in wanted if f.path.exists() and f.path.stat().st_size == f.size}
    needed = sum(file.size - file.received() for file in wanted if file.path not in there)
    place = directory.absolute()
    free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
    if needed > free:
        raise UserError(
            f"{name} needs {decimal(needed)} in {directory}, where {decimal(free)} are free: free "
            "some space or choose another directory"
        )


@contextmanager
def _progress(quiet: bool) -> Iterator[bars.Progress]:
    name, bar = bars.TextColumn("{task.description}"), bars.BarColumn()
    numbers = bars.DownloadColumn(), bars.TransferSpeedColumn(), bars.TimeRemainingColumn()
    console, disable = Console(stderr=True), quiet or not sys.stderr.isatty()
    logger = pooch.get_logger()
    disabled, logger.disabled = logger.disabled, True  # pooch's own lines would tear the bar
    try:
        with bars.Progress(name, bar, *numbers, console=console, disable=disable) as progress:
            yield progress
    finally:
        logger.disabled = disabled


def _fetch(file: _File, progress: bars.Progress) -> None:
    """Have pooch check the file, and fetch it first where it is absent or another."""
    task = progress.add_task(f"{file.path.name}, checking", total=file.size)
    try:
        pooch.retrieve(
            file.urls[0],
            known_hash=f"md5:{file.md5}",
            fname=file.path.name,
            path=file.path.parent,
            downloader=partial(_into_pooch, file=file, tick=partial(progress.update, task)),
        )
    except ValueError as error:
        file.part.unlink(missing_ok=True)
        raise _refused(file, f"does not have the MD5 {file.md5}") from error
    file.part.unlink(missing_ok=True)
    progress.update(task, description=file.path.name, completed=file.size)


def _refused(file: _File, fault: str) -> UserError:
    return UserError(
        f"{file.path.name} as fetched {fault} that figshare publishes, and was deleted: run the "
        f"same command again or fetch {_by_hand({file.path: file.urls[0]})}"
    )


def _into_pooch(url: str, output: str, _: object, *, file: _File, tick: partial[None]) -> None:
    """Fetch in pooch's stead, for pooch cannot resume; `output` is its temporary file."""
    tick(description=file.path.name)
    received = file.received()
    if received < file.size:
        received = _stream(file, received, tick)
    if received != file.size:
        file.part.unlink()
        than = "shorter than" if received < file.size else "longer than"
        raise _refused(file, f"is {than} the {file.size} bytes")
    tick(description=f"{file.path.name}, checking")
    Path(output).unlink()
    try:  # pooch removes `output` when interrupted at its check: a second name keeps the content
        Path(output).hardlink_to(file.part)
    except OSError:
        file.part.replace(output)


def _stream(file: _File, received: int, tick: partial[None]) -> int:
    """Write what follows the first `received` bytes of the .part; its length afterwards."""
    with _open(file, received) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return received
        if response.status_code == HTTPStatus.OK:
            received = 0
        tick(completed=received)
        try:
            with file.part.open("ab" if received else "wb") as part:
                for chunk in response.iter_content(CHUNK):
                    part.write(chunk)
                    received += len(chunk)
                    tick(completed=received)
                    if received > file.size:
                        break
        except requests.RequestException as error:
            raise UserError(
                f"{file.path.name}: connection lost after {received} of {file.size} bytes, which "
                "are kept: run the same command again to go on from there"
            ) from error
    return received


def _open(file: _File, offset: int) -> requests.Response:
    """Ask one address after the other for the file, from `offset` on if it can."""
    headers = {"Accept-Encoding": "identity"}
    accepted = {HTTPStatus.OK}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        accepted |= {HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
    faults = []
    for url in file.urls:
        try:
            response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
            if response.status_code in accepted:
                return response
            response.close()
            raise requests.HTTPError(response=response)
        except requests.RequestException as error:
            faults.append(f"{url} {_reason(error)}")
    raise UserError(
        f"cannot fetch {file.path.name}: {' and '.join(faults)}: try again later, or fetch "
        f"{_by_hand({file.path: file.urls[0]})}"
    )


def _reason(error: Exception) -> str:
    match error:
        case requests.HTTPError(response=requests.Response() as response):
            return f"answers {response.status_code} {response.reason}"
        case requests.Timeout():
            return f"gives no answer within {TIMEOUT:g} s"
        case requests.ConnectionError():
            return f"cannot be reached ({type(error).__name__})"
        case _:
            return f"gives an answer that is not understood ({error!r})"
