"""Manifests of results: the sha256 of every file, by which damage is seen.

A manifest is written last. What was interrupted has none, or one that disagrees with its files.
Whether a condition is saved and intact is told without zarr and without torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import Places, UserError, atomic_write, content_key
from stages.conditions import Condition

if TYPE_CHECKING:
    from stages.stage import Task

READOUTS = "results/readouts.zarr"
PREDICTIONS = "results/predictions.zarr"

#: Folder of the manifests: one for each condition, by its slug; `TABLES` and `DRAWN`.
MANIFESTS = "results/manifests"

#: Manifest of the tables, the provenance, and the roots of the zarr stores.
TABLES = "tables"

#: Manifest of figures and report.
DRAWN = "report"


#: Arrays that every group of vitv1 0.1 has.
_EARLIER = {
    READOUTS: (
        *("row_weights", "column_weights", "channel_weights", "bias", "scale"),
        *("neuron", "fev", "feve", "val_varexp", "test_correlation", "n_repeats"),
        *("training_loss", "validation_score"),
    ),
    PREDICTIONS: ("image", "neuron", "test"),
}


def manifest_path(run: Path, name: str) -> Path:
    """Where a manifest lies."""
    return run / MANIFESTS / f"{name}.json"


def write_manifest(run: Path, name: str, key: str | None, places: Iterable[Path | str]) -> None:
    """Record files as they are, and those in folders.

    Parameters
    ----------
    key : str, optional
        Hash of everything that the result depends on.
    places : iterable of path or str
        Files and folders: paths below `run`, or texts relative to it.
    """
    files = {each: _sha256(run / each) for each in sorted(set(_files(run, places)))}
    content = {"of": name, "key": key, "files": files}
    whole = json.dumps(content | {"sha256": content_key(content)}, indent=1).encode()
    path = manifest_path(run, name)
    if not path.exists() or path.read_bytes() != whole:
        atomic_write(path, whole)


def damage(run: Path, name: str, places: Sequence[str] = (), *, alone: bool = False) -> str | None:
    """The first difference between a manifest and its files, or None.

    Parameters
    ----------
    places : sequence of str
        Folders, relative to `run`, in which no other file may be.
    alone : bool
        Look at nothing but the places, which may then be files, too.

    Returns
    -------
    str or None
        Such as "results/summary.csv changed on disk"; None also where there is no manifest.
    """
    path = manifest_path(run, name)
    try:
        content = json.loads(path.read_bytes())
        intact = content.pop("sha256") == content_key(content) and content["of"] == name
        known: dict[str, str] = dict(content["files"])
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, AttributeError):
        intact, known = False, {}
    if not intact:
        return f"{path.relative_to(run)} changed on disk"
    if alone:
        known = {k: v for k, v in known.items() if k in places or k.startswith(_inside(places))}
    for each in sorted({*known, *_files(run, places)}):
        if each not in known:
            return f"{each} was added"
        try:
            if _sha256(run / each) != known[each]:
                return f"{each} changed on disk"
        except FileNotFoundError:
            return f"{each} is gone"
        except OSError as error:
            return f"{each} cannot be read ({error.strerror})"
    return None


def require_intact(run: Path, name: str, place: str) -> None:
    """Refuse to read a file, or a folder, that its manifest disagrees with.

    Raises
    ------
    UserError
        The message names the file, and how it is made again.
    """
    refuse(run, damage(run, name, (place,), alone=True))


def refuse(run: Path, fault: str | None) -> None:
    """Raise UserError where there is a fault, as `damage` names it."""
    if fault is not None:
        raise UserError(f"{run / fault}: vitv1 run makes it again")


def saved_attributes(
    run: Path, condition: Condition | str, store: str = READOUTS
) -> Mapping[str, Any] | None:
    """Attributes of a saved condition, or of its slug.

    None where there is none; empty where they cannot be read.
    """
    slug = condition if isinstance(condition, str) else condition.slug
    try:
        attributes = json.loads((run / store / slug / "zarr.json").read_bytes())["attributes"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return attributes if isinstance(attributes, dict) else {}


def saved_places(run: Path, condition: Condition) -> Places | None:
    """Where the tokens of a saved condition lie in the image; None where nothing tells."""
    return Places.from_document((saved_attributes(run, condition) or {}).get("places"))


def is_saved(run: Path, condition: Condition, key: str) -> bool:
    """Whether a condition is saved and up to date; `saved_damage` tells whether it is intact."""
    saved = saved_attributes(run, condition)
    return saved is not None and saved.get("key") == key


def saved_damage(
    run: Path, condition: Condition | str, *, readouts_alone: bool = False
) -> str | None:
    """What is wrong with the files of a saved condition; None also where there is none.

    Results of vitv1 0.1 have no manifest; of these is told what can be.
    """
    slug = condition if isinstance(condition, str) else condition.slug
    places = [f"{store}/{slug}" for store in (READOUTS, PREDICTIONS)]
    manifest, saved = manifest_path(run, slug), saved_attributes(run, slug)
    if saved is None:
        return None
    if manifest.exists():
        return damage(run, slug, places[:1] if readouts_alone else places, alone=readouts_alone)
    if not saved:
        return f"{places[0]}/zarr.json cannot be read"
    if saved.get("manifest"):
        return f"{manifest.relative_to(run)} is gone"
    for store in (READOUTS,) if readouts_alone else _EARLIER:
        for name in _EARLIER[store]:
            if not (run / store / slug / name / "zarr.json").exists():
                return f"{store}/{slug}/{name} is gone"
    if readouts_alone:
        return None
    predictions = saved_attributes(run, slug, PREDICTIONS) or {}
    same = predictions.get("key") == saved.get("key")
    return None if same else f"{places[1]}/zarr.json is of another fit than the readouts"


def protect(run: Path, task: Task) -> None:
    """Give a saved condition of vitv1 0.1 the manifest that it lacks."""
    if not manifest_path(run, task.condition.slug).exists():
        record(run, task.condition.slug, task.key, task.products)


def record(run: Path, slug: str, key: str, products: Iterable[Path]) -> None:
    """Write the manifest of a condition: of its groups, and of other files that belong to it."""
    groups = (run / store / slug for store in (READOUTS, PREDICTIONS))
    write_manifest(run, slug, key, (*groups, *products))


def _inside(places: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{place}/" for place in places)


def _files(run: Path, places: Iterable[Path | str]) -> Iterator[str]:
    """Files at and in places, relative to `run`; a place that is not there has none."""
    for place in places:
        # The run's own path may be relative, and a path below it then begins with it.
        path = run / place if isinstance(place, str) else place
        if path.is_file():
            yield os.path.relpath(path, run)
        for folder, _, names in os.walk(path):
            yield from (os.path.relpath(f"{folder}/{name}", run) for name in names)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
