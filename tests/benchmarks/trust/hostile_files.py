"""Caches, recordings, weights and experiment files of strangers, each made for one attack."""

from __future__ import annotations

import io
import os
import pickle
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from support.faults import make_store
from support.recording_files import ragged, write_minimodel, write_sensorium
from support.tiny import EXPERIMENT, write_experiment

#: A text of which a spreadsheet, a shell or a pickle would make this file.
TRAP = "harm"


class Harm:
    """A pickle of it runs a command."""

    def __init__(self, folder: Path) -> None:
        self.command = f"touch {folder / TRAP}"

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def caches(folder: Path) -> Iterator[tuple[str, Path]]:
    """Feature caches, by what is wrong with them."""
    for number, name in enumerate(
        ("zarr.json", "blocks/00/cls/zarr.json", "image/c/0", "blocks/00/cls/c/0/0")
    ):
        store = make_store(folder / f"sparse{number}.zarr")
        os.truncate(store / name, 5 * 10**9)
        yield f"5 GB in {name}", store
    secret = {"from": "https://u:s3cr3t@lab.example/a?key=s3cr3t", "host": "\x1b[2J"}
    yield "a secret in its provenance", make_store(folder / "secret.zarr", provenance=secret)
    yield "a name that leads out", _packed(folder / "out.zarr.zip", "../../harm")
    yield "a deflated bomb", _packed(folder / "bomb.zarr.zip", "blocks/zarr.json", size=2**29)
    yield "many members", _packed(folder / "many.zarr.zip", *map(str, range(30_000)))
    link = zipfile.ZipInfo("image/c/0")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    yield "a link", _packed(folder / "link.zarr.zip", link)
    (folder / "cut.zarr.zip").write_bytes(b"PK\x05\x06" + b"\xff" * 18)
    yield "a directory that is not there", folder / "cut.zarr.zip"


def _packed(path: Path, *names: str | zipfile.ZipInfo, size: int = 10) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, bytes(size))
    return path


def experiments(folder: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Experiment files with what they name, by their attack, and options of the command line."""
    for name, text in TEXTS.items():
        place = folder / f"text {name}"
        path = write_experiment(place)
        table, _, setting = text.partition("|")
        whole = path.read_text()
        if table == "raw":
            whole = setting
        elif f"[{table}]" in whole:
            whole = whole.replace(f"[{table}]", f"[{table}]\n{setting}", 1)
        else:
            whole += f"[{table}]\n{setting}\n"
        path.write_text(whole)
        yield name, path, []
    yield from _recordings(folder)
    yield from _weights(folder)


def _recordings(folder: Path) -> Iterator[tuple[str, Path, list[str]]]:
    for name, flags in (("pickle", []), ("pickle with consent", ["--allow-pickle"])):
        place = folder / name
        bad = ragged([Harm(folder), np.ones((2, 5), np.float32)])
        files = write_minimodel(place, changes={"ss_all": bad}, n_test=2)
        path = place / "mouse.toml"
        text = EXPERIMENT.format(output=place / "runs").replace(
            'format = "sensorium"\npath = "mouse"\nname = "mouse"',
            f'format = "minimodel"\npath = "{files.recording}"\nname = "FX10"\nallow_pickle = true',
        )
        path.write_text(text.replace("[stimuli]", f'[stimuli]\npath = "{files.images}"'))
        yield name, path, flags
    place = folder / "published pickle"
    path = write_experiment(place)
    (place / "monkey.pkl").write_bytes(pickle.dumps({"images": Harm(folder)}))
    table = 'format = "cadena2019"\npath = "monkey.pkl"\nallow_pickle = true'
    path.write_text(path.read_text().replace('format = "sensorium"\npath = "mouse"', table))
    yield "published pickle with consent", path, ["--allow-pickle"]
    for name, bomb in {"bomb": bytes(4 * 10**8), "claim": b""}.items():
        place = folder / name
        path = write_experiment(place)
        header = io.BytesIO()
        claimed = {"descr": "|u1", "fortran_order": False, "shape": (len(bomb) or 10**12,)}
        np.lib.format.write_array_header_2_0(header, claimed)
        packed = place / "mouse.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in (place / "mouse").rglob("*.npy"):
                if file.name != "tiers.npy":
                    archive.write(file, file.relative_to(place / "mouse"))
            archive.writestr("meta/trials/tiers.npy", header.getvalue() + bomb)
        text = path.read_text().replace('path = "mouse"', 'path = "mouse.zip"')
        path.write_text(text.replace("[run]", '[run]\nmemory_limit = "100MB"'))
        yield f"recording with a {name}", path, []
    write_sensorium(folder / "unused", n_neurons=2)


def _weights(folder: Path) -> Iterator[tuple[str, Path, list[str]]]:
    place = folder / "weights"
    path = write_experiment(place)
    with zipfile.ZipFile(place / "small.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
        archive.writestr("archive/data/0", bytes(6 * 10**8))
    (place / "harm.pth").write_bytes(pickle.dumps({"a": Harm(folder)}))
    for name in ("small", "harm"):
        written = path.with_name(f"{name}.toml")
        written.write_text(path.read_text().replace('"random"', f'"{name}.pth"'))
        yield f"weights {name}", written, ["extract"]


#: Table, and what is put into it; of "raw" the whole file.
TEXTS = {
    "scheduler": 'run|executor = "dask"\nscheduler = "tcp://127.0.0.1:1"',
    "prologue": 'run.slurm|prologue = ["touch harm"]',
    "directive": 'run.lsf|directives = ["-E touch harm"]',
    "options": 'run.slurm|options = { python = "touch harm;" }',
    "queue": 'run.lsf|queue = "cpu -E harm"',
    "output": 'run|output = "https://u:s3cr3t@lab.example/runs"',
    "seeds": f"run|seed = {list(range(100_000))}",
    "workers": "run|workers = 1000000000",
    "cache": 'cache|path = "https://u:s3cr3t@127.0.0.1:1/a.zarr?key=s3cr3t"',
    "bucket": 'cache|path = "s3://AKIA:s3cr3t@lab/a.zarr"',
    "copy": 'cache|local_copy = "s3://AKIA:s3cr3t@lab/a"',
    "joint": f"readout|joint_blocks = {[[i % 3, (i + 1) % 3] for i in range(50_000)]}",
    "blocks": f"readout|blocks = {list(range(100_000))}",
    "penalties": f"readout.als|penalties = {[1e-9 * (i + 1) for i in range(200)]}",
    "checkpoint": 'backbone|patch_size = 16\narguments.checkpoint_path = "harm.pth"',
    "depth": "backbone|patch_size = 16\narguments.depth = 1000000",
    "hub": 'backbone|name = "hf-hub:stranger/model"',
    "directory": 'backbone|name = "local-dir:/tmp"',
    "size": "stimuli|upsample = 1000000",
    "expected": "recording.expected|neurons = 1000000000000000000\ntrials = 1000000000000",
    "nested": f"raw|a = {'[' * 100_000}",
    "dotted": f"raw|{'a.' * 100_000}a = 1",
    "large": f"raw|# {'x' * 50_000_000}",
    "digits": f"raw|a = {'9' * 500_000}",
}
