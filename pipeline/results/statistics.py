"""Statistics of the result tables: best blocks, and intervals of differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.feve import VALID_FEV

#: Identity of a series of conditions that differ in their block alone.
SERIES = ["recording", "model", "input_size", "tuning", "protocol", "tokens", "solver", "seed"]

#: Which blocks a condition reads, the deepest first: several conditions may share that.
READ = ("block", "blocks")

#: Tunings of conditions whose backbone is frozen: read alone, or beside a core that is trained.
FROZEN = ("frozen", "core")

#: Half of a 95 % interval in standard errors, of a mean over many neurons.
NORMAL_95 = 1.96

RESAMPLES = 2000

#: Values of resamples that are held at a time.
IN_MEMORY = 1 << 22


def valid(neurons: pd.DataFrame) -> pd.DataFrame:
    """Rows of neurons whose fraction of explainable variance is above 0.15."""
    return neurons[neurons["fev"] > VALID_FEV]


def best_blocks(neurons: pd.DataFrame) -> pd.DataFrame:
    """The best block of every series, chosen on validation and, for comparison, on test.

    Choosing on test reports the maximum of noisy numbers as if it were one of them.

    Returns
    -------
    data frame
        A row per series: its identity, `block`, `blocks` and `mean_feve` (chosen by the mean
        validation variance explained), `test_block` and `test_mean_feve` (chosen by mean
        FEVE itself). A series without blocks has null blocks.
    """
    means = (
        valid(neurons)
        .groupby([*SERIES, *READ], dropna=False, sort=False)[["val_varexp", "feve"]]
        .mean()
        .reset_index()
    )
    rows = []
    for _, series in means.groupby(SERIES, dropna=False, sort=False):
        scored = series.dropna(subset=["feve"])
        if scored.empty:
            continue
        validation = scored["val_varexp"].fillna(-np.inf)
        chosen = scored.iloc[int(validation.to_numpy().argmax())]
        on_test = scored.iloc[int(scored["feve"].to_numpy().argmax())]
        rows.append(
            {
                **chosen[[*SERIES, *READ]].to_dict(),
                "mean_feve": chosen["feve"],
                "test_block": on_test["block"],
                "test_mean_feve": on_test["feve"],
            }
        )
    columns = [*SERIES, *READ, "mean_feve", "test_block", "test_mean_feve"]
    return pd.DataFrame(rows, columns=columns).astype({"block": "Int64", "test_block": "Int64"})


def rows_of(neurons: pd.DataFrame, identity: Mapping[Any, Any]) -> pd.DataFrame:
    """Rows of the neurons table of one series at one block."""
    match = pd.Series(True, index=neurons.index)
    for name in (*SERIES, *READ):
        value = identity[name]
        null = bool(pd.isna(value))
        match &= neurons[name].isna() if null else neurons[name] == value
    return neurons[match]


def reference(neurons: pd.DataFrame, row: Mapping[Any, Any]) -> dict[Any, Any] | None:
    """The first of the `references` of a condition; None where it has none."""
    return next(iter(references(neurons, row)), None)


def references(neurons: pd.DataFrame, row: Mapping[Any, Any]) -> list[dict[Any, Any]]:
    """The conditions that a trained one is measured against.

    For a tuned backbone it is `last0` of the same protocol at the same block, which differs in
    nothing but what is tuned; where there is none, the frozen fit that training started from. A
    core beside a backbone is measured against the core alone, and against the frozen readout of the
    same block, of the first solver that the table has.

    Parameters
    ----------
    row : mapping
        Identity of the condition: the columns of `SERIES` and `READ`.

    Returns
    -------
    list of dict
        The same columns of the references. Empty for a frozen condition, for a CNN, and where the
        table has none.
    """
    if row["tuning"] == "frozen":
        return []
    if row["tuning"] == "core":
        return list(_sources(neurons, row))
    wanted = {name: row[name] for name in (*SERIES, *READ)}
    candidates = [wanted | {"tuning": "frozen", "protocol": None}]
    if row["tuning"] != "last0":
        candidates.insert(0, wanted | {"tuning": "last0"})
    return [each for each in candidates if len(rows_of(neurons, each))][:1]


def _sources(neurons: pd.DataFrame, row: Mapping[Any, Any]) -> Iterator[dict[Any, Any]]:
    """The core alone, and the frozen readout of the same block."""
    core, backbone = row["input_size"].split("+")
    alike = neurons[(neurons["recording"] == row["recording"]) & (neurons["seed"] == row["seed"])]
    alone = alike[(alike["model"] == "cnn_fullmodel") & (alike["input_size"] == core)]
    frozen = alike[
        (alike["model"] == row["model"].partition("+")[2])
        & (alike["input_size"] == backbone)
        & (alike["tuning"] == "frozen")
        & (alike["tokens"] == row["tokens"])
        & (alike["blocks"] == row["blocks"])
    ]
    for found in (alone, frozen):
        yield from found[[*SERIES, *READ]].head(1).to_dict("records")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference of mean FEVE between two conditions and its 95 % bootstrap interval."""

    difference: float
    low: float
    high: float
    n_neurons: int

    def __str__(self) -> str:
        return f"{self.difference:+.3f} (95 % CI {self.low:+.3f} to {self.high:+.3f})"


def paired_difference(first: pd.DataFrame, second: pd.DataFrame) -> Difference:
    """Mean of FEVE(second) - FEVE(first), with a paired percentile bootstrap over neurons.

    Parameters
    ----------
    first, second : data frame
        Rows of the neurons table, one condition each. Neurons are paired by recording and
        position; those that are valid, with a FEVE, in both count.

    Returns
    -------
    Difference
        NaN throughout where no neuron is in both.
    """
    pairs = paired(first, second)
    differences = (pairs["feve_second"] - pairs["feve_first"]).to_numpy(dtype=np.float64)
    low, high = bootstrap_interval(differences)
    mean = float(differences.mean()) if len(differences) else float("nan")
    return Difference(difference=mean, low=low, high=high, n_neurons=len(differences))


def unpaired_difference(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, float]:
    """Mean FEVE of two sets of valid neurons that have nothing in common, and their difference.

    Returns
    -------
    dict
        `mean_feve_first`, `mean_feve_second`, `difference` (second minus first), its 95 % interval
        `low` to `high` (1.96 standard errors of Welch 1947), `n_first` and `n_second`.
    """
    one, other = (
        valid(rows)["feve"].dropna().to_numpy(dtype=np.float64) for rows in (first, second)
    )
    means = [float(feve.mean()) if len(feve) else float("nan") for feve in (one, other)]
    errors = [feve.var(ddof=1) / len(feve) if len(feve) > 1 else np.nan for feve in (one, other)]
    difference, half = means[1] - means[0], NORMAL_95 * float(np.sqrt(sum(errors)))
    return {
        "mean_feve_first": means[0],
        "mean_feve_second": means[1],
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "n_first": len(one),
        "n_second": len(other),
    }


def paired(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Valid neurons of two conditions side by side, columns suffixed `_first` and `_second`."""
    one, other = (
        valid(rows).dropna(subset=["feve"])[["recording", "neuron", "fev", "feve"]]
        for rows in (first, second)
    )
    return one.merge(other, on=["recording", "neuron"], suffixes=("_first", "_second"))


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of a mean: 1.96 standard errors to each side; NaN for fewer than two values."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = NORMAL_95 * float(values.std(ddof=1)) / len(values) ** 0.5
    return float(values.mean()) - half, float(values.mean()) + half


def bootstrap_interval(
    values: NDArray[np.float64], *, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % percentile interval of the mean (Efron and Tibshirani 1993, section 13.3).

    NaN where there are no values; the value itself, twice, where there is one.
    """
    from scipy.stats import bootstrap

    if len(values) < 2:
        mean = float(values.mean()) if len(values) else float("nan")
        return mean, mean
    low, high = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, IN_MEMORY // len(values)),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(low), float(high)
