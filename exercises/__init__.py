"""The checkers of the exercises: `check("1.1", answer)` prints one line that says right, or names the likely mistake.

Each exercise has one checker in the module of its notebook, under its number, with the sentence that says what is
expected. A checker works out the truth by a way of its own, from data and weights that it is given or loads, and also
what likely mistakes lead to. It returns a sentence for whoever got it right, and raises otherwise. `check` itself never
raises because of an answer, and leaves torch's random numbers as they were.
"""

import importlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

MODULES = {  # number of a notebook: the module of its checkers, imported when the first of them is asked for
    "1": "data",
    "2": "model",
    "3": "training",
    "4": "plane",
    "5": "generation",
    "6": "inference",
    "7": "alone",
    "8": "price",
    "9": "clinic",
    "10": "beyond",
}
TASKS = {}  # number of an exercise: (what is expected, checker)


class Missing(Exception):
    """There is no answer yet."""


class Wrong(Exception):
    """The answer is wrong, and the message says how."""


class Other(Exception):
    """The answer is wrong, and the message says only what was received."""


def task(number: str, expected: str):
    """Return a decorator that makes a function the checker of the exercise `number`."""

    def keep(checker):
        TASKS[number] = expected, checker
        return checker

    return keep


def check(number: str, *given) -> None:
    """Print whether the answer to exercise `number`, first in `given`, is right, and if not, what may have gone wrong.

    An answer `...` or None, or a function that returns one, counts as not given yet. The rest of `given` is what the
    checker needs. Raises ValueError for the number of no exercise, and nothing because of an answer.
    """
    expected, checker = find(number)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # that of the CPU: `fork_rng` puts it back, and leaves others alone
            if any(map(missing, given)):
                raise Missing
            verdict = f"right. {checker(*given)}"
    except Missing:
        verdict = f"not answered yet. Expected: {expected}."
    except Wrong as wrong:
        verdict = str(wrong)
    except Other as other:
        verdict = f"{other}. Expected: {expected}."
    except Exception as error:  # an answer may be anything
        verdict = f"this cannot be checked ({summary(error)}). Expected: {expected}."
    print(f"{number}: {verdict}")


def find(number: str) -> tuple[str, Callable]:
    """Return what is expected in the exercise `number`, and its checker; raise ValueError where there is none."""
    notebook = str(number).partition(".")[0]
    if notebook not in MODULES:
        raise ValueError(f"number: expected an exercise of notebooks {', '.join(MODULES)}, received {number!r}")
    importlib.import_module(f"{__name__}.{MODULES[notebook]}")
    known = [other for other in TASKS if other.startswith(f"{notebook}.")]
    if number not in known:
        raise ValueError(f"number: expected one of {', '.join(map(repr, known))}, received {number!r}")
    return TASKS[number]


# what checkers share


def missing(answer) -> bool:
    """Return whether `answer` is still, or still holds, the `...` of the unsolved cell."""
    return answer is None or answer is ... or (isinstance(answer, (list, tuple)) and any(map(missing, answer)))


def summary(error: Exception) -> str:
    """Return the kind and the message of `error` in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def numbers(answer) -> Tensor:
    """Return a number, list, array or tensor as float64 on the CPU, without a gradient; else raise."""
    if missing(answer):
        raise Missing
    if isinstance(answer, (list, tuple)):
        parts = [numbers(part) for part in answer]
        if len({part.shape for part in parts}) != 1:
            raise Other(
                f"received a {type(answer).__name__} with {'parts of different shapes' if parts else 'nothing in it'}"
            )
        return torch.stack(parts)
    try:
        value = answer if torch.is_tensor(answer) else torch.from_numpy(np.array(answer))
    except TypeError:
        raise Other(f"received a {type(answer).__name__}") from None
    return value.detach().cpu().double()


def shaped(answer, shape: tuple) -> Tensor:
    """Return `numbers(answer)` where it has this shape and is finite; else raise."""
    value = numbers(answer)
    if value.shape != shape:
        expected = f"shape {tuple(shape)}" if shape else "one number"
        raise Other(f"expected {expected}, received shape {tuple(value.shape)}")
    if not value.isfinite().all():
        raise Wrong(f"received {shown(value)}: not all of it is finite")
    return value


def call(function, *inputs):
    """Return what the reader's function returns; raise where it is none, fails or returns nothing."""
    if not callable(function):
        raise Other(f"received a {type(function).__name__}")
    try:
        result = function(*inputs)
    except Exception as error:
        raise Wrong(f"your function raised {summary(error)}") from error
    if missing(result):
        raise Missing
    return result


def close(a: Tensor, b: Tensor, tol: float | Tensor) -> bool:
    """Return whether a and b have one shape and differ by at most `tol`, one or one each, of the largest value in b."""
    return a.shape == b.shape and bool(((a - b).abs() <= tol * b.abs().max()).all())


def compare(answer, truth, tol: float | Tensor, mistakes: dict, name: str = "received", factors: bool = True) -> None:
    """Return where `answer` is the truth; else raise, naming the mistake whose value it is where there is one.

    `mistakes` maps what to say to the value that the mistake leads to; `tol` is relative to the largest value. Usual
    factors, such as a ½ that is missing, are named as well, unless `factors` is False: a count may be twice as
    large for another reason.
    """
    received, truth = numbers(answer), numbers(truth)
    if truth.dim() == 0 and received.numel() == 1:
        received = received.reshape(())
    if close(received, truth, tol):
        return
    usual = {
        "the sign is the other way round": -truth,
        "that is twice the right value: a factor ½ is missing": 2 * truth,
        "that is half of the right value: there is a factor ½ too many": truth / 2,
        "that is a hundred times the right value: per cent instead of a share?": 100 * truth,
    }
    for message, value in {**mistakes, **(usual if factors else {})}.items():
        if close(received, numbers(value), tol):
            raise Wrong(message)
    raise Other(f"{name} {shown(shaped(received, truth.shape))}")


def shown(value: Tensor) -> str:
    """Return a number, or the first numbers of a tensor and its shape."""
    first = ", ".join(f"{number:.4g}" for number in value.flatten()[:4].tolist())
    return first if value.dim() == 0 else f"{first}{', ...' if value.numel() > 4 else ''} (shape {tuple(value.shape)})"
