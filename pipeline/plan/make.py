"""From an experiment file to the plan of its run; works without the data, and computes nothing."""

from __future__ import annotations

from collections.abc import Iterable

from cache import PACKED, is_url, public_name
from pipeline.experiment import ExperimentFile
from pipeline.frozen_tasks import check_finetuning
from pipeline.plan.steps import Plan, Step, Work
from pipeline.planned_conditions import planned_baselines, planned_fits, planned_tunings
from pipeline.report.key import REPORT, report_key, run_key
from pipeline.results.provenance import same_settings
from pipeline.results.tables import tabulated
from pipeline.variant.variant import Known, known_variants


def make_plan(file: ExperimentFile) -> Plan:
    """Every step of a run, and whether and why it will be done.

    Raises
    ------
    UserError
        Bad input or settings, or a cache of other settings. A file that is not there is none: the
        step that needs it says so.
    """
    variants = list(known_variants(file))
    for known in variants:
        check_finetuning(known.experiment, known.tokens.n_blocks)
        if not known.absent:
            # Refuses columns that the images do not have.
            _ = known.sources.crop
    caches = {known.path: known for known in variants}
    steps = [_extraction(known) for known in caches.values()]
    for known in variants:
        steps.extend(planned_fits(known))
    for known in variants:
        steps.extend(planned_tunings(known))
    steps.extend(planned_baselines(variants))
    return Plan(steps=[*steps, _report(file, steps)])


def _extraction(known: Known) -> Step:
    path, cache = known.path, known.cache
    images, why = known.n_images, "not extracted yet"
    writable = not is_url(path) and not path.endswith(PACKED)
    missing = {}
    if cache is not None:
        lacking = int((~cache.shards_done).sum())
        images = min(lacking * cache.images_per_shard, len(cache.image_ids))
        why = f"{lacking} of {len(cache.shards_done)} shards are missing"
    if not known.complete:
        missing = known.absent_for_cache
    if missing:
        why = f"needs {', '.join(missing)}"
    return Step(
        stage="extract",
        name=public_name(path),
        state="up to date" if known.complete else "missing" if missing else "run",
        reason="" if known.complete else why,
        missing=missing if writable else {},
        work=Work(
            images=images,
            blocks=known.tokens.n_blocks,
            n_bytes=None if images is None else images * known.tokens.image_bytes,
            tokens=known.tokens,
        ),
        experiment=known.experiment,
    )


def _report(file: ExperimentFile, steps: Iterable[Step]) -> Step:
    conditions = [step for step in steps if step.condition is not None]
    states = {step.state for step in conditions}
    state, why = "run", ""
    if "missing" in states:
        state, why = "open", "draws what there is"
    elif "run" in states:
        why = "the tables change"
    elif "open" in states:
        state, why = "open", "drawn again if a table changes"
    elif not same_settings(file.output, file.settings):
        why = "the experiment's settings changed"
    elif tabulated(file.output) != [c.condition for c in conditions]:
        why = "the tables hold other conditions"
    elif report_key(file.output / REPORT) != run_key(file.output):
        why = "not drawn yet from these tables"
    else:
        state = "up to date"
    return Step(
        stage="report",
        name=str(file.output / REPORT),
        state=state,  # type: ignore[arg-type]
        reason=why,
        needs=tuple(step.name for step in conditions),
    )
