"""L-BFGS for smooth convex functions whose values carry float32 rounding."""

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Function = Callable[[Tensor], tuple[float, Tensor]]
"""Point -> value and gradient."""
Point = tuple[Tensor, float, Tensor]
"""Point, value, gradient."""

HISTORY = 20
DECREASE, CURVATURE = 1e-4, 0.9
ROUNDING = 1e-6
"""Relative error of a value, by which a step may seem to go up."""
TRIALS = 30
NARROW = 8
"""Halvings of an interval after which its lower end is taken: the rest would be a search in the rounding."""


def minimise(
    function: Function, start: Tensor, done: Callable[[Point], bool], max_iterations: int
) -> tuple[Tensor, int]:
    """The point where a convex function is smallest.

    Source: Liu and Nocedal, On the limited memory BFGS method, Mathematical Programming 45, 1989; its compact
        form: Byrd, Nocedal and Schnabel, Mathematical Programming 63, 1994, eq. 3.1; line search for the weak
        Wolfe conditions by bisection: Lewis and Overton, Mathematical Programming 141, 2013; where values
        differ by their rounding alone, the slopes decide: Hager and Zhang, SIAM Journal on Optimization 16,
        2005, section 4 (the approximate Wolfe conditions).
    Differs: after 8 halvings between a lower point and a higher one the lower is taken, and the search ends
        where no step goes down.

    Args:
        function: value and gradient at a point.
        start: where to begin, of any shape.
        done: whether a point, by its value and gradient, is near enough.
        max_iterations: steps at most.

    Returns:
        The point and the steps taken.
    """
    point: Point = (start, *function(start))
    memory: deque[tuple[Tensor, Tensor]] = deque(maxlen=HISTORY)
    for step in range(max_iterations):
        if done(point):
            return point[0], step
        found = _walk(function, point, _direction(point[2], memory))
        if found is None:
            return point[0], step
        moved, change = found[0] - point[0], found[2] - point[2]
        if float((moved * change).sum()) > 0:
            memory.append((moved, change))
        point = found
    return point[0], max_iterations


def _direction(gradient: Tensor, memory: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Minus the gradient times the inverse Hessian that the last steps tell of, in its compact form."""
    if not memory:
        return -gradient
    moved = torch.stack([step for step, _ in memory]).flatten(1)  # m p
    change = torch.stack([step for _, step in memory]).flatten(1)
    slope = gradient.flatten()[:, None]
    upper = (moved @ change.T).triu()
    size = upper[-1, -1] / change[-1].square().sum()
    right = torch.linalg.solve_triangular(upper, moved @ slope, upper=True)
    inner = upper.diagonal()[:, None] * right + size * (change @ (change.T @ right - slope))
    left = torch.linalg.solve_triangular(upper.T, inner, upper=False)
    return -(size * (slope - change.T @ right) + moved.T @ left).view_as(gradient)


def _walk(function: Function, point: Point, direction: Tensor) -> Point | None:
    """A point along the direction that is lower and flatter, None where there is none."""
    start, value, gradient = point
    slope = float((gradient * direction).sum())
    if not slope < 0:
        return None
    low, high, length, halvings = 0.0, float("inf"), 1.0, 0
    lower: Point | None = None
    for _ in range(TRIALS):
        place = start + length * direction
        found = (place, *function(place))
        rise, there = found[1] - value, float((found[2] * direction).sum())
        level = rise <= ROUNDING * abs(value) and there <= (2 * DECREASE - 1) * slope
        if not (rise <= DECREASE * length * slope or level):
            high = length
        elif there < CURVATURE * slope:
            low, lower = length, found
        else:
            return found
        halvings += lower is not None and high < float("inf")
        if halvings == NARROW:
            break
        length = (low + high) / 2 if high < float("inf") else 2 * low
    return lower
