"""The command `check`: data of an experiment file, or a file alone, told before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from cache import UserError
from pipeline.check.understood import doubts_of_images, images_told, recording_told
from pipeline.experiment import Experiment, ExperimentFile
from pipeline.variant.defaults import changed_by_default
from pipeline.variant.inputs import Inputs
from stages.conditions import file_name
from stages.recordings import FORMATS

if TYPE_CHECKING:
    from pipeline.terminal import Terminal

#: The picture, below the output folder.
PICTURE = "figures/stimuli"


def check(file: ExperimentFile, terminal: Terminal) -> None:
    """Print what was understood of images and recordings, with every doubt, and draw some images.

    Nothing but the picture is written.

    Raises
    ------
    UserError
        A file that is missing or cannot be used.
    """
    inputs = Inputs(file.variants[0])
    for name, path in inputs.absent.items():
        raise UserError(f"{path}: no such file or folder; correct {name}")
    with terminal.busy("reading"):
        told: dict[str, Any] = {}
        doubts: list[str] = []
        recorded = list(inputs.chosen.values())
        if inputs.stimuli is not None:
            told["images"], skew = images_told(inputs.stimuli, inputs.crop)
            doubts += doubts_of_images(inputs.stimuli, skew, recorded)
        told |= {f"recording {each.name}": recording_told(each) for each in recorded}
        doubts += changed_by_default(inputs)
        doubts += inputs.remarks()
    rows = [{"": key, "understood": said} for key, said in _lines(told)]
    terminal.table(rows, title=f"What vitv1 understood of {file.path}")
    for doubt in doubts:
        terminal.result(f"note    {doubt}")
    picture = _draw(inputs, file.output / PICTURE)
    if picture is not None:
        terminal.result(f"figure  {picture}")
    terminal.document({"understood": told, "doubts": doubts, "figure": picture})


def file_alone(path: Path) -> ExperimentFile:
    """An experiment of nothing but a recording, or images, in their default settings.

    Raises
    ------
    UserError
        No such file, or one of no known format.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; name a TOML file or data")
    found = [name for name, format in FORMATS.items() if format.recognises(path)]
    name = file_name(path.stem) or "data"
    raw: dict[str, Any] = {"stimuli": {"path": str(path), "images": "all"}}
    if found:
        raw = {"recording": ({"format": found[0], "name": name, "path": str(path)},)}
    elif not any(format.reads_images(path) for format in FORMATS.values()):
        raise UserError(
            f"{path} is no recording of a known format ({', '.join(FORMATS)}), and no images: "
            "write a TOML file that says what it is"
        )
    experiment = TypeAdapter(Experiment).validate_python(raw)
    output = Path("runs") / name
    return ExperimentFile(path=path, variants=[experiment], output=output, settings=raw)


def _lines(told: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"{part}: {name}", str(value))
        for part, each in told.items()
        for name, value in each.items()
    ]


def _draw(inputs: Inputs, stem: Path) -> Path | None:
    stimuli, crop = inputs.stimuli, inputs.crop
    if stimuli is None or crop is None:
        return None
    from pipeline.check.picture import draw_stimuli
    from pipeline.report.figures.style import save_figure

    figure = draw_stimuli(stimuli, crop=crop, size=inputs.experiment.stimuli.size)
    return save_figure(figure, stem)
