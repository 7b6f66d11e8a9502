"""The experiment file: TOML, validated, paths resolved, sweeps multiplied out."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import itertools
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from cache import UserError, is_url, join
from stages.backbones.settings import BackboneSettings
from stages.baseline.settings import BaselineSettings
from stages.executors.cluster_settings import ClusterSettings
from stages.extract.settings import CacheSettings
from stages.finetune.settings import FinetuneSettings
from stages.readouts.settings import ReadoutSettings
from stages.recordings.settings import RecordingSettings
from stages.settings import ByteSize
from stages.stimuli.settings import StimuliSettings

STRICT = ConfigDict(extra="forbid")

#: Settings that may be lists; their lists multiply.
SWEPT = (("backbone", "name"), ("stimuli", "upsample"), ("run", "seed"))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunSettings:
    """Where results go and how the machine is used.

    Parameters
    ----------
    output : path, optional
        Relative to the working directory; `runs/<experiment file's stem>` by default.
    device : str
        "auto", "cpu", "cuda", ...; where several are named ("cuda:0,cuda:1"), fine-tuning trains
        a condition on each.
    seed : int
        Seed of the readouts.
    workers : int, optional
        Tasks computed at a time on this machine; by default as many as there are cores. Changes no
        result.
    memory_limit : int or str, optional
        Bytes for all workers on this machine together, such as "4GB"; by default half of what is
        free. Changes no result.
    executor : str
        "local", or "dask" for the workers of a dask scheduler.
    scheduler : str, optional
        For "dask": "local" (the default) starts workers on this machine, "tcp://host:port" is a
        scheduler that runs.
    slurm, lsf : ClusterSettings, optional
        For "dask": workers are asked from this batch system.
    """

    output: Path | None = None
    device: str = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    workers: Annotated[int, Field(gt=0)] | None = None
    memory_limit: ByteSize | None = None
    executor: Literal["local", "dask"] = "local"
    scheduler: Annotated[str, Field(pattern="^(local|(tcp|tls)://.+)$")] | None = None
    slurm: ClusterSettings | None = None
    lsf: ClusterSettings | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Experiment:
    """One experiment without lists that sweep; a file with sweeps yields several."""

    stimuli: StimuliSettings = Field(default_factory=StimuliSettings)
    recording: tuple[RecordingSettings, ...] = ()
    backbone: BackboneSettings = Field(default_factory=BackboneSettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    readout: ReadoutSettings = Field(default_factory=ReadoutSettings)
    finetune: FinetuneSettings | None = None
    baseline: BaselineSettings | None = None
    run: RunSettings = Field(default_factory=RunSettings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentFile:
    """A validated experiment file.

    Parameters
    ----------
    path : path
        The file.
    variants : sequence of Experiment
        One per combination of swept values.
    output : path
        Where the results go.
    settings : mapping
        The file's content with overrides, for provenance.
    """

    path: Path
    variants: Sequence[Experiment]
    output: Path
    settings: Mapping[str, Any]

    def cache_path(self, experiment: Experiment) -> str:
        """Where a variant's cache is: a path or a URL."""
        named = experiment.cache.path
        sizes = {(v.backbone.name, v.stimuli.size) for v in self.variants}
        if named is not None and len(sizes) == 1:
            return named
        if len(sizes) == 1:
            return str(self.output / "features.zarr")
        rows, columns = experiment.stimuli.size
        name = f"features-{experiment.backbone.name}-{rows}x{columns}.zarr"
        return join(str(self.output) if named is None else named, name)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> ExperimentFile:
    """Read, override, validate and multiply out an experiment file.

    Parameters
    ----------
    path : path
        The TOML file; input paths in it are relative to it.
    overrides : sequence of str
        "table.key=value" with a TOML value (a bare word is a string); paths in them are relative
        to the working directory. A repeated table is addressed by number: "recording.0.path".

    Raises
    ------
    UserError
        No such file, no TOML, an unknown key (with the nearest), a value out of range.
    """
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such experiment file; name a .toml file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    _resolve_paths(raw, path.parent)
    for override in overrides:
        _override(raw, override)
    variants = [_validate(path, variant) for variant in _sweep(raw)]
    output = variants[0].run.output or Path("runs") / path.stem
    return ExperimentFile(path=path, variants=variants, output=output, settings=raw)


def _resolve_paths(raw: dict[str, Any], folder: Path) -> None:
    """Make input paths relative to the experiment file absolute or working-directory relative."""
    recordings = raw.get("recording", [])
    tables = [raw.get("stimuli"), *(recordings if isinstance(recordings, list) else [recordings])]
    for table in tables:
        if isinstance(table, dict) and isinstance(table.get("path"), str):
            table["path"] = os.path.relpath(folder / Path(table["path"]).expanduser())
    for name, key in (("cache", "path"), ("cache", "local_copy"), ("backbone", "weights")):
        table = raw.get(name)
        if not isinstance(table, dict) or not isinstance(table.get(key), str):
            continue
        value = table[key]
        if key == "weights" and value in ("hub", "random"):
            continue
        if key != "path" or not is_url(value):
            table[key] = os.path.relpath(folder / Path(value).expanduser())


def _override(raw: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    parts = name.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise UserError(f'--set {override}: expected table.key=value, such as "readout.blocks=[3]"')
    table: Any = raw
    for depth, part in enumerate(parts[:-1]):
        if isinstance(table, list):
            table = _item(table, part, override)
            continue
        table = table.setdefault(part, {})
        following = parts[depth + 1]
        if isinstance(table, list) and not following.isdigit():
            # One [recording] may be written as a repeated table.
            if len(table) != 1:
                raise UserError(
                    f"--set {override}: there are {len(table)} [[{part}]] tables, name one: "
                    f"{part}.0.{following}"
                )
            table = table[0]
    if isinstance(table, list):
        table = _item(table, parts.pop(), override)
    if not isinstance(table, dict):
        raise UserError(f"--set {override}: {'.'.join(parts[:-1])} is no table")
    table[parts[-1]] = _toml_value(text.strip())


def _item(tables: list[Any], number: str, override: str) -> Any:
    if not number.isdigit() or int(number) >= len(tables):
        raise UserError(f"--set {override}: {number} is not one of 0..{len(tables) - 1}")
    return tables[int(number)]


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _sweep(raw: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the swept lists."""
    swept = [
        (table, key, raw[table][key])
        for table, key in SWEPT
        if isinstance(raw.get(table), dict) and isinstance(raw[table].get(key), list)
    ]
    for table, key, values in swept:
        if not values:
            raise UserError(f"{table}.{key} = []: name at least one value")
    for combination in itertools.product(*(values for _, _, values in swept)):
        variant = copy.deepcopy(raw)
        for (table, key, _), value in zip(swept, combination, strict=True):
            variant[table][key] = value
        yield variant


def _validate(path: Path, raw: dict[str, Any]) -> Experiment:
    if isinstance(raw.get("recording"), dict):
        raw["recording"] = [raw["recording"]]
    try:
        experiment = TypeAdapter(Experiment).validate_python(raw)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_fault(error)}") from None
    names = [recording.name for recording in experiment.recording]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: two [[recording]] tables have the same name; names must differ")
    return experiment


def _first_fault(error: ValidationError) -> str:
    """The first fault of a validation as one line with a remedy."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"] if not str(part).startswith("tuple["))
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        wrong = str(fault["loc"][-1])
        known = _known_keys(fault["loc"][:-1])
        near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.0)
        return f'unknown key {where}; did you mean "{near[0]}"? Keys here: {", ".join(known)}'
    if fault["type"] in ("missing", "missing_argument"):
        return f"{where} is missing: add it"
    if fault["type"].startswith("byte_size"):
        return f'{where} = {fault["input"]!r}: expected a number of bytes such as "4GB" or "512MiB"'
    given = fault["input"]
    shown = f" = {given!r}" if isinstance(given, (str, int, float, list, bool)) else ""
    return f"{where}{shown}: {fault['msg']}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Keys of the table at a location of the schema."""
    adapter: Any = Experiment
    for part in location:
        if isinstance(part, int):
            continue
        field = adapter.__pydantic_fields__[part]
        adapter = _settings_type(field.annotation)
    return list(adapter.__pydantic_fields__)


def _settings_type(annotation: Any) -> Any:
    if dataclasses.is_dataclass(annotation):
        return annotation
    return (
        next(found for a in annotation.__args__ if (found := _settings_type(a)) is not None)
        if (hasattr(annotation, "__args__"))
        else None
    )
