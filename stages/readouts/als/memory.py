"""Memory of a fit: what it holds at once under a limit, and what it computes again."""

from __future__ import annotations

from dataclasses import dataclass

from cache import UserError
from stages.executors.resources import resident_memory
from stages.readouts.als.partition import NEURON_BATCH, SPACE_COMPONENTS, largest_group
from stages.readouts.sizes import FitSize
from stages.readouts.solver_settings import ALSSettings
from stages.settings import readable
from stages.tokens.tokens import PARTITION_ELEMENTS

_FLOAT = 4

#: Trials that slope and offset are fitted on, at most: they are two numbers per neuron.
SLOPE_TRIALS = 2048

#: Bytes of the statistics of a fit at most; where they were more, steps are taken on the trials.
LARGEST_STATISTICS = 2**31

#: Bytes of what a group's neurons pool or project of all trials, about, where steps are taken on
#: the trials, and how many neurons these are at least.
GROUP_ON_TRIALS = 2**29
LEAST_ON_TRIALS = 8

#: What tensors that come and go leave behind in the allocator, as a fraction of their size.
_SLACK = 0.15


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What is held at once. No result depends on it, as no product's size does.

    Parameters
    ----------
    keep : bool
        Keep the reduced tokens in memory rather than reading and reducing them for every pass.
    rows_at_once : int
        Pairs of patch rows whose products are summed in one pass.
    batch : int, optional
        Neurons that pool tokens at a time where steps are taken on the trials, absent where they
        are not: as the sizes say, whatever memory there is.
    """

    keep: bool
    rows_at_once: int
    batch: int | None = None


@dataclass(frozen=True, kw_only=True)
class Problem(FitSize):
    """Sizes that decide how much memory a fit needs.

    Parameters
    ----------
    n_components, most_components : int
        As many as there are, and as there may be: the latter decide the way, with no look at data.
    """

    n_components: int
    most_components: int
    n_penalties: int

    @property
    def _n_slope_trials(self) -> int:
        # Every n-th of all trials; all where neurons have their own.
        return self.n_trials if self.incomplete else min(self.n_trials, 2 * SLOPE_TRIALS)

    @property
    def _features(self) -> int:
        return self.places * self.n_components

    @property
    def on_trials(self) -> bool:
        """Whether steps are taken on the trials: they are not the same, or statistics too large."""
        return self.incomplete or self._statistics(self.most_components) > LARGEST_STATISTICS

    @property
    def batch(self) -> int | None:
        """How many neurons pool tokens at a time then."""
        if not self.on_trials:
            return None
        most = GROUP_ON_TRIALS // (_FLOAT * self.n_trials * (self.places + self.most_components))
        return min(NEURON_BATCH, max(LEAST_ON_TRIALS, most))

    def _statistics(self, n_components: int) -> int:
        """Bytes of the sums and the statistics, and of sums of shards that wait for others."""
        pairs = self.n_columns * (self.n_columns + 1) // 2
        pairs *= n_components * (n_components + 1) // 2
        return 6 * _FLOAT * self.row_pairs * pairs

    @property
    def row_pairs(self) -> int:
        """Pairs of patch rows."""
        return self.n_rows * (self.n_rows + 1) // 2

    @property
    def reduced(self) -> int:
        """Bytes of all reduced tokens."""
        return _FLOAT * self.n_trials * self._features

    @property
    def block(self) -> int:
        """Bytes of the summed products of one pair of patch rows."""
        return _FLOAT * (self.n_columns * self.n_components) ** 2

    @property
    def neuron(self) -> int:
        """Bytes that a neuron needs while it is solved."""
        solving = 8 * self.n_components**2 + 2 * self._features
        if self.on_trials:
            axes = self.n_rows + self.n_columns
            solving += self.n_trials * (self.places + 2 * axes)
        return _FLOAT * solving

    @property
    def always(self) -> int:
        """Bytes of a group's statistics, of all neurons' weights and of one part of the tokens."""
        group = min(self.n_neurons, largest_group(self.n_neurons))
        gram = self._statistics(self.n_components)
        cross = 4 * _FLOAT * group * self._features
        if self.batch is not None:
            leading = min(self.n_components, SPACE_COMPONENTS)
            gram = 6 * _FLOAT * self.places * leading**2
            cross = 2 * _FLOAT * group * self.n_components**2
            # Predictors are applied to the tokens by their weights at all positions.
            cross += 2 * _FLOAT * min(group, NEURON_BATCH) * self._features
        factors = self.n_rows + self.n_columns + self.n_components
        paths = _FLOAT * self.n_neurons * (self.n_penalties + 2) * (factors + 3 * self.n_penalties)
        slopes = (3 if self.incomplete else 2) * _FLOAT * self._n_slope_trials * group
        return gram + cross + paths + slopes + 4 * _FLOAT * PARTITION_ELEMENTS

    @property
    def least_memory(self) -> int:
        """Bytes that the fit takes at least, beside what the process holds before."""
        return self.planned(MemoryPlan(keep=False, rows_at_once=1))

    def planned(self, plan: MemoryPlan) -> int:
        """Bytes that the fit takes under a plan, beside what the process holds before."""
        # Folding a block of products takes about three more of its size.
        summing = 0 if self.on_trials else (3 + plan.rows_at_once) * self.block
        solving = min(self.n_neurons, self.batch or NEURON_BATCH) * self.neuron
        slopes = 10 * _FLOAT * min(self.n_neurons, NEURON_BATCH) * self._n_slope_trials
        held = self.always + plan.keep * self.reduced
        return int((1 + _SLACK) * (held + max(summing, solving, slopes)))


def problem_of(size: FitSize, settings: ALSSettings, *, n_components: int | None = None) -> Problem:
    """The sizes of a fit, with as many components as there may be where they are not known."""
    most = min(settings.max_components, size.n_channels)
    return Problem(
        **vars(size),
        n_components=most if n_components is None else n_components,
        most_components=most,
        n_penalties=len(settings.penalties),
    )


def plan_memory(problem: Problem, limit: int | None, *, used: int | None = None) -> MemoryPlan:
    """The fastest way that keeps to the limit.

    Parameters
    ----------
    limit : int, optional
        Bytes that the process may use; no limit where absent.
    used : int, optional
        Bytes that it uses now; measured where absent.

    Raises
    ------
    UserError
        The limit cannot be kept; the message says what is needed.
    """
    if limit is None:
        return MemoryPlan(keep=True, rows_at_once=problem.row_pairs, batch=problem.batch)
    present = resident_memory() if used is None else used
    spare = limit - present - problem.least_memory
    if spare < 0:
        needed = limit - spare
        raise UserError(
            f"run.memory_limit = {readable(limit)}: {problem.n_neurons} neurons on a "
            f"{problem.n_rows} x {problem.n_columns} grid with {problem.n_components} components "
            f"need {readable(needed)}; raise it, fit fewer neurons at a time, or lower "
            "readout.als.max_components"
        )
    spare = int(spare / (1 + _SLACK))
    keep = problem.reduced <= spare
    spare -= problem.reduced if keep else 0
    return MemoryPlan(
        keep=keep,
        rows_at_once=min(problem.row_pairs, 1 + spare // problem.block),
        batch=problem.batch,
    )
