"""Published recordings: fetched from figshare, resumed where interrupted, and verified."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests
from rich.filesize import decimal

from cache import UserError, free_space, make_folder, place_file
from pipeline.terminal import Terminal

FIGSHARE_API = "https://api.figshare.com/v2"
FIGSHARE_FILES = "https://janelia.figshare.com/ndownloader/files"

#: Seconds without a sign of life after which a server counts as unreachable.
TIMEOUT = 30.0
#: Bytes read at a time; a lost connection costs no more.
CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Files of one figshare article that belong together: figshare's numbers by file name."""

    article: int
    files: Mapping[str, int]


DATASETS = {
    # Mouse FX10: 4,792 V1 neurons, and the natural images of the minimodel release.
    "fx10": Dataset(
        article=28797638,
        files={"nat60k_text16.mat": 53678783, "FX10_nat60k_2023_05_16.npz": 53712311},
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

    def fault(self, path: Path) -> str:
        """How the content of `path` differs from what is published; empty where it does not."""
        size = path.stat().st_size
        if size != self.size:
            return f"is {'shorter' if size < self.size else 'longer'} than the {self.size} bytes"
        with path.open("rb") as content:
            same = hashlib.file_digest(content, "md5").hexdigest() == self.md5
        return "" if same else f"does not have the MD5 {self.md5}"


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
        The files go there; created if absent.
    api, files : str
        Addresses of figshare's API, and of the folder of all files by their figshare numbers.

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
        lacking = [file for file in wanted if not file.path.exists() or file.fault(file.path)]
        needed = sum(file.size - file.received() for file in lacking)
        if needed > (free := free_space(directory)):
            raise UserError(
                f"{name} needs {decimal(needed)} in {directory}, where {decimal(free)} are free: "
                "free some space or choose another directory"
            )
        make_folder(directory)
        for file in lacking:
            _fetch(file, Terminal(quiet=quiet))
    except OSError as error:
        raise UserError(
            f"cannot write into {directory} ({error.strerror or error}): make it writable, free "
            "some space or choose another directory; what was fetched so far is kept"
        ) from error
    return [file.path for file in wanted]


def _published(dataset: Dataset, directory: Path, api: str, files: str) -> list[_File]:
    """Ask figshare's API for size and MD5 of the wanted files."""
    article = url = f"{api}/articles/{dataset.article}"
    what = "the files"
    wanted = []
    try:
        listed = {entry["id"]: entry for entry in _ask(article)["files"]}
        for name, number in dataset.files.items():
            if number not in listed:  # an article's answer lists its first ten files only
                url, what = f"{article}/files/{number}", f"{name}, not in {article}"
                listed[number] = _ask(url)
            entry, link = listed[number], f"{files}/{number}"
            md5 = entry.get("computed_md5") or entry["supplied_md5"]
            if not md5:
                raise ValueError(f"no MD5 for {name}")
            # `link` may lead to a check for browsers; the API's own address does not.
            urls = tuple(dict.fromkeys([link, entry.get("download_url") or link]))
            size = int(entry["size"])
            wanted.append(_File(path=directory / name, size=size, md5=md5, urls=urls))
    except (requests.RequestException, AttributeError, KeyError, TypeError, ValueError) as error:
        links = [f"{files}/{number} as {directory / n}" for n, number in dataset.files.items()]
        raise UserError(
            f"cannot learn the published size and MD5 of {what}: {url} {_reason(error)}: try again "
            f"later, or fetch by hand: {' and '.join(links)}"
        ) from error
    return wanted


def _ask(url: str) -> Any:
    response = requests.get(url, timeout=TIMEOUT)
    response.raise_for_status()
    return response.json()


def _fetch(file: _File, terminal: Terminal) -> None:
    """Fetch what is not in the .part yet, verify it, and give it the file's name."""
    if file.received() < file.size:
        _stream(file, file.received(), terminal)
    if fault := file.fault(file.part):
        file.part.unlink()
        raise UserError(
            f"{file.path.name} as fetched {fault} that figshare publishes, and was deleted: run "
            f"the same command again or fetch by hand: {file.urls[0]} as {file.path}"
        )
    place_file(file.part, file.path)


def _stream(file: _File, received: int, terminal: Terminal) -> None:
    """Append what follows the first `received` bytes to the .part."""
    with (
        _open(file, received) as response,
        terminal.transfer(file.path.name, total=file.size) as done,
    ):
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return
        if response.status_code == HTTPStatus.OK:
            received = 0
        done(received)
        try:
            with file.part.open("ab" if received else "wb") as part:
                for chunk in response.iter_content(CHUNK):
                    part.write(chunk)
                    done(len(chunk))
                    received += len(chunk)
                    if received > file.size:
                        return
        except requests.RequestException as error:
            raise UserError(
                f"{file.path.name}: connection lost after {received} of {file.size} bytes, which "
                "are kept: run the same command again to go on from there"
            ) from error


def _open(file: _File, offset: int) -> requests.Response:
    """Ask one address after the other for the file, from `offset` on if it can."""
    headers, accepted = {"Accept-Encoding": "identity"}, {HTTPStatus.OK}
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
        f"cannot fetch {file.path.name}: {' and '.join(faults)}: try again later, or fetch by "
        f"hand: {file.urls[0]} as {file.path}"
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
