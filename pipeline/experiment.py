"""Schema of the experiment file, and loading it: paths resolved, sweeps multiplied out."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from cache import UserError, is_url, join
from pipeline.toml.consent import require_consent
from pipeline.toml.faults import first_fault
from pipeline.toml.overrides import override
from pipeline.toml.paths import expanded, resolve_paths
from pipeline.toml.reading import read_toml
from stages.backbones import BackboneSettings
from stages.baseline import BaselineSettings
from stages.conditions import file_name, require_distinct
from stages.executors import ClusterSettings
from stages.extract import CacheSettings
from stages.finetune import FinetuneSettings
from stages.readouts import ReadoutSettings
from stages.recordings import RecordingSettings
from stages.settings import CLUSTER, ByteSize, Consent, OutputPath
from stages.stimuli import StimuliSettings

STRICT = ConfigDict(extra="forbid")

#: Combinations of swept settings that one file may have.
MOST_VARIANTS = 1000

#: Settings that may be lists; their lists multiply.
SWEPT = (
    *(("backbone", key) for key in ("name", "weights", "patch_size", "stride")),
    ("stimuli", "upsample"),
    ("run", "seed"),
)


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
        scheduler that runs. It gets the data and answers with pickles, so a file alone cannot name
        it; its command needs --allow-cluster, too.
    slurm, lsf : ClusterSettings, optional
        For "dask": workers are asked from this batch system.
    """

    output: OutputPath | None = None
    device: str = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    workers: Annotated[int, Field(gt=0)] | None = None
    memory_limit: ByteSize | None = None
    executor: Literal["local", "dask"] = "local"
    scheduler: Annotated[
        Annotated[str, Field(pattern="^(local|(tcp|tls)://.+)$")] | None,
        Consent(CLUSTER, harmless=("local",)),
    ] = None
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

    def defaults_filled_in(self) -> list[Any]:
        """The settings of every variant as they are used, of types that JSON has."""
        adapter = TypeAdapter(Experiment)
        return [adapter.dump_python(variant, mode="json") for variant in self.variants]

    def model(self, experiment: Experiment) -> str:
        """What results call a variant's backbone: all that tells it from those of the others."""
        told = ("weights", "patch_size")
        given = {name: {getattr(v.backbone, name) for v in self.variants} for name in told}
        telling = [name for name, values in given.items() if len(values) > 1]
        return experiment.backbone.label(telling=telling)

    def cache_path(self, experiment: Experiment) -> str:
        """Where a variant's cache is: a path or a URL."""
        tokens = {(self.model(v), v.stimuli.size) for v in self.variants}
        alone, swept = self.cache_paths(experiment)
        return alone if len(tokens) == 1 else swept

    def cache_paths(self, experiment: Experiment) -> tuple[str, str]:
        """Where it would be as the only cache of the file, and as one of several."""
        named = experiment.cache.path
        alone = str(self.output / "features.zarr") if named is None else named
        rows, columns = experiment.stimuli.size
        name = f"{file_name(self.model(experiment))}-{rows}x{columns}.zarr"
        if named is None:
            return alone, join(str(self.output), f"features-{name}")
        if is_url(named) or not (Path(named) / "zarr.json").exists():
            return alone, join(named, f"features-{name}")
        # Beside a cache that is there: nothing else lies in one.
        return alone, str(Path(named).with_name(f"{Path(named).stem}-{name}"))


def load_experiment(
    path: Path, overrides: Sequence[str] = (), *, allowed: Collection[str] = ()
) -> ExperimentFile:
    """Read, override, validate and multiply out an experiment file.

    Parameters
    ----------
    path : path
        The TOML file; input paths in it are relative to it.
    overrides : sequence of str
        As `override` takes them; paths in them are relative to the working directory.
    allowed : collection of str
        Options of the command line by which a person consents to what a file alone cannot give,
        such as "--allow-pickle"; see `stages.settings.Consent`.

    Raises
    ------
    UserError
        No such file, no TOML, an unknown key (with the nearest), a value out of range, too many
        variants, or a setting that needs consent.
    """
    raw = read_toml(path)
    resolve_paths(raw, Experiment, path.parent)
    for text in overrides:
        override(raw, text)
    resolve_paths(raw, Experiment, Path())
    variants = [_validate(path, variant) for variant in _variants(raw)]
    if not variants:
        raise UserError(f"{path}: backbone = []: name at least one [[backbone]]")
    require_consent(path, variants[0], allowed)
    output = expanded(variants[0].run.output or Path("runs") / path.stem)
    # A table that was dropped is one that the file does not have.
    given = {name: table for name, table in raw.items() if table is not None}
    file = ExperimentFile(path=path, variants=variants, output=output, settings=given)
    _require_told_apart(file)
    return file


def _require_told_apart(file: ExperimentFile) -> None:
    """Refuse backbones that results would call by one name, or whose caches would have one."""
    require_distinct({_told(v.backbone): file_name(file.model(v)) for v in file.variants})
    called: dict[str, BackboneSettings] = {}
    for variant in file.variants:
        backbone, name = variant.backbone, file.model(variant)
        if called.setdefault(name, backbone) != backbone:
            raise UserError(
                f'{file.path}: two backbones that differ would both be called "{name}" in the '
                "results: give them experiments of their own"
            )


def _told(backbone: BackboneSettings) -> str:
    """A backbone as a message tells it from others."""
    own = "" if backbone.weights == "hub" else f" with weights {backbone.weights!r}"
    return f"{backbone.name!r}{own}"


def _variants(raw: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the swept lists, for each [[backbone]] in turn."""
    tables = raw.get("backbone", {})
    if not isinstance(tables, list):
        yield from _sweep(raw)
        return
    for table in tables:
        yield from _sweep({**raw, "backbone": table})


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
    if math.prod(len(values) for _, _, values in swept) > MOST_VARIANTS:
        names = " and ".join(f"{table}.{key}" for table, key, _ in swept)
        raise UserError(
            f"the lists of {names} multiply to more than {MOST_VARIANTS} variants: shorten them, "
            "or make several experiments"
        )
    for table, key, values in swept:
        for number, value in enumerate(values):
            if value in values[:number]:
                raise UserError(f"{table}.{key}: {value!r} is named twice: name it once")
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
        raise UserError(f"{path}: {first_fault(error, Experiment)}") from None
    names = [recording.name for recording in experiment.recording]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: two [[recording]] tables have the same name; names must differ")
    return experiment
