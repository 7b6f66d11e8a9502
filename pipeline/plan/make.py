"""Plan of a run: made from the open variants; works without the data, and computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cache import UserError
from pipeline.plan.reasons import changes
from pipeline.plan.steps import EXTRACT, REPORT, Plan, State, Step
from pipeline.report import REPORT as REPORT_FILE
from pipeline.report import report_key, run_key
from pipeline.results import same_settings, tabulated
from pipeline.variant.together import one_per_cache
from pipeline.variant.variant import Variant
from stages.conditions import IDENTITY, Condition, require_distinct
from stages.readouts import DRAWN, TABLES, damage, saved_attributes, saved_damage
from stages.registry import STAGES
from stages.stage import Planned, Stage, Task, Work

if TYPE_CHECKING:
    from pipeline.experiment import ExperimentFile


#: Conditions of one stage that an experiment may have.
MOST_CONDITIONS = 100_000


def make_plan(file: ExperimentFile, variants: Sequence[Variant]) -> Plan:
    """Every step of a run, and whether and why it is to be done.

    Raises
    ------
    UserError
        Bad input or settings, or a cache of other settings. A file that is not there is none: the
        step that needs it says so.
    """
    steps = [extraction(variant) for variant in one_per_cache(variants)]
    for stage in STAGES:
        steps.extend(_conditions(stage, variants))
    require_distinct({str(s.condition): s.name for s in steps if s.condition is not None})
    return Plan(steps=[*steps, _report(file, steps)])


def extraction(variant: Variant) -> Step:
    """The step that makes or finishes a variant's cache."""
    state: State = "run"
    cache, images, why = variant.cache.opened, variant.n_images, "not extracted yet"
    missing = {**variant.absent, **variant.absent_weights}
    if cache is not None:
        lacking = int((~cache.shards_done).sum())
        images = min(lacking * cache.images_per_shard, len(cache.image_ids))
        why = f"{lacking} of {len(cache.shards_done)} shards are missing"
        if not lacking:
            images = len(variant.cache.lacking)
            why = f"{images:,} images are missing"
        elif len(variant.cache.lacking):
            images += len(variant.cache.lacking)
            why += f", and {len(variant.cache.lacking):,} images"
    if variant.cache_complete and not (variant.cache.is_writable and len(variant.cache.lacking)):
        state, why, missing = "up to date", "", {}
    elif missing:
        state, why = "missing", f"needs {', '.join(missing)}"
    tokens = variant.token_shape
    return Step(
        kind=EXTRACT,
        name=variant.cache_name,
        state=state,
        reason=why,
        missing=missing if variant.cache.is_writable else {},
        work=Work(
            images=images,
            blocks=tokens.n_blocks,
            n_bytes=None if images is None else images * tokens.image_bytes,
            tokens=tokens,
            operations=variant.cache.operations if state == "run" else None,
        ),
        variant=variant,
    )


def _conditions(stage: Stage, variants: Iterable[Variant]) -> Iterator[Step]:
    """The steps of one stage; what several variants share stands there once."""
    found: dict[Condition, Step] = {}
    for variant in variants:
        tasks = {task.condition: task for task in stage.tasks(variant)}
        for planned in stage.conditions(variant):
            task = tasks.get(planned.condition)
            state, why = _decided(stage, variant, planned, task)
            if len(found) > MOST_CONDITIONS:
                raise UserError(
                    f"the experiment has more than {MOST_CONDITIONS:,} conditions of {stage.name}: "
                    "shorten its lists, or make several experiments"
                )
            step = Step(
                kind=stage.name,
                name=planned.condition.slug,
                state=state,
                reason=why,
                needs=planned.needs,
                missing=planned.missing if state == "missing" else {},
                work=planned.work,
                variant=variant,
                stage=stage,
                planned=planned,
                task=task,
            )
            one = found.setdefault(planned.condition, step).task
            if one is not None and task is not None and one.key != task.key:
                differing = changes(stage.table(planned.condition), task.inputs, one.inputs)
                raise UserError(
                    f"two variants of this experiment would both yield {step.name}, from other "
                    f"inputs ({differing}): give each an experiment of its own"
                )
    yield from found.values()


def _decided(
    stage: Stage, variant: Variant, planned: Planned, task: Task | None
) -> tuple[State, str]:
    """Whether a condition is up to date, and why not."""
    saved = saved_attributes(variant.output, planned.condition)
    if task is None or saved is None:
        why = "not done yet"
    elif fault := saved_damage(variant.output, planned.condition):
        why = f"its file {fault}"
    elif task.key != saved.get("key"):
        _require_same(variant, planned.condition, saved)
        table = stage.table(planned.condition)
        why = changes(table, task.inputs, saved.get("inputs"))
    elif not all(path.exists() for path in task.products):
        why = "its trained networks are gone"
    else:
        return "up to date", ""
    if planned.missing:
        return "missing", f"needs {', '.join(planned.missing)}"
    if saved is not None and task is None:
        return "open", f"decided when {variant.cache_name} is complete"
    return "run", why


def _require_same(variant: Variant, condition: Condition, saved: Mapping[str, Any]) -> None:
    """Refuse to overwrite results of another condition that are stored under the same name."""
    other = Condition.from_row({name: saved.get(name) for name in IDENTITY})
    if other != condition:
        raise UserError(
            f"{variant.output} holds results of {other}, and those of {condition} would be stored "
            "in their place: name another run.output, or give the recording another name"
        )


def _report(file: ExperimentFile, steps: Iterable[Step]) -> Step:
    conditions = [step for step in steps if step.condition is not None]
    states = {step.state for step in conditions}
    state: State = "run"
    if "missing" in states:
        state, why = "open", "draws what there is"
    elif "run" in states:
        why = "the tables change"
    elif "open" in states:
        state, why = "open", "drawn again if a table changes"
    elif fault := damage(file.output, TABLES):
        why = fault
    elif not same_settings(file.output, file.settings):
        why = "the experiment's settings changed"
    elif tabulated(file.output) != [step.condition for step in conditions]:
        why = "the tables hold other conditions"
    elif report_key(file.output / REPORT_FILE) != run_key(file.output):
        why = "not drawn yet from these tables"
    elif fault := damage(file.output, DRAWN):
        why = fault
    else:
        state, why = "up to date", ""
    return Step(
        kind=REPORT,
        name=str(file.output / REPORT_FILE),
        state=state,
        reason=why,
        needs=tuple(step.name for step in conditions),
    )
