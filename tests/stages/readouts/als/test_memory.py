"""Memory of a fit: what is given up first under a limit, and the refusal."""

import pytest

from cache import UserError
from stages.readouts.als.memory import Problem, plan_memory


def problem(**changes):
    sizes = {
        "n_trials": 50_000, "n_rows": 4, "n_columns": 8, "n_channels": 384, "n_components": 96,
        "n_neurons": 5000, "n_penalties": 7,
    }  # fmt: skip
    sizes |= changes
    return Problem(**sizes, most_components=sizes["n_components"])


def test_a_plan_gives_up_speed_before_it_gives_up():
    roomy = plan_memory(problem(), 20 * 10**9, used=10**9)
    assert roomy.keep and roomy.rows_at_once == 10
    assert roomy == plan_memory(problem(), None)
    tight = plan_memory(problem(n_trials=500_000), 4 * 10**9, used=10**9)
    assert not tight.keep and tight.rows_at_once >= 1


def test_a_limit_that_cannot_be_kept_says_what_is_needed():
    with pytest.raises(UserError, match=r"run.memory_limit = 600.0 MB.* need \d+\.\d MB") as error:
        plan_memory(problem(), 6 * 10**8, used=5 * 10**8)
    needed = float(str(error.value).split(" need ")[1].split(" MB")[0])
    plan_memory(problem(), int((needed + 0.1) * 1e6), used=5 * 10**8)
