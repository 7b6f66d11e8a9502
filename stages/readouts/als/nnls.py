"""Non-negative least squares for many small problems at once."""

from __future__ import annotations

import torch

#: Rounds in which all infeasible variables may change sides without fewer becoming infeasible;
#: after those only the last one does, which cannot cycle.
FULL_EXCHANGES = 3


def nonnegative_least_squares(
    gram: torch.Tensor, target: torch.Tensor, *, start: torch.Tensor | None = None
) -> torch.Tensor:
    """Minimise x'Gx/2 - x't over x >= 0, exactly, by block principal pivoting.

    Every variable is either free, and solves the normal equations together with the other free
    ones, or zero; variables whose sign or gradient is wrong change sides until none is.
    (Kim & Park 2011, SIAM Journal on Scientific Computing 33(6), 3261-3281.)

    Parameters
    ----------
    gram : tensor of shape (n_problems, n, n)
        Positive definite, float64 unless little accuracy is needed.
    target : tensor of shape (n_problems, n)
    start : tensor of shape (n_problems, n), optional
        A guess: its positive entries are free at first. All are by default.

    Returns
    -------
    tensor of shape (n_problems, n)
    """
    n = target.shape[1]
    free = torch.ones_like(target, dtype=torch.bool) if start is None else start > 0
    tolerance = 1e-10 * target.abs().amax(dim=1, keepdim=True)
    solution = torch.zeros_like(target)
    fewest = torch.full(target.shape[:1], n + 1, device=target.device)
    patience = torch.full_like(fewest, FULL_EXCHANGES)
    left = torch.arange(len(target), device=target.device)
    order = torch.arange(n, device=target.device)
    # Single exchanges from the last index visit no set of free variables twice.
    for _ in range(2**n + FULL_EXCHANGES * n):
        x, gradient = _stationary(gram[left], target[left], free[left])
        wrong = torch.where(free[left], x < 0, gradient < -tolerance[left])
        count = wrong.sum(dim=1)
        solution[left] = x.clamp(min=0)
        keep = count > 0
        if not bool(keep.any()):
            return solution
        left, wrong, count = left[keep], wrong[keep], count[keep]
        better = count < fewest[left]
        fewest[left] = torch.minimum(fewest[left], count)
        patience[left] = torch.where(better, FULL_EXCHANGES, patience[left] - 1)
        last = order == (wrong * (order + 1)).argmax(dim=1, keepdim=True)
        single = (patience[left] < 0)[:, None]
        free[left] ^= torch.where(single, wrong & last, wrong)
    return solution


def _stationary(
    gram: torch.Tensor, target: torch.Tensor, free: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The minimum over the free variables, the others zero, and the gradient there."""
    both = free[:, :, None] & free[:, None, :]
    masked = torch.where(both, gram, 0)
    masked.diagonal(dim1=1, dim2=2).add_((~free).to(gram.dtype))
    x = torch.linalg.solve_ex(masked, torch.where(free, target, 0)).result
    x = torch.where(free, x, 0)
    return x, (gram @ x[:, :, None])[:, :, 0] - target
