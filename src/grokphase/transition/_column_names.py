"""Which columns of a log are the time, the two errors and the number of the run, where their names say so.

Names are split into words ("valAcc", "accuracy/val" and "val_acc" are the same two).  The errors are taken only if one
pair alone comes into question: a training and a test column that are both accuracies or both errors.  Of several times
(steps and epochs) any is right, and the finest is taken.  Nothing is guessed from the numbers.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from grokphase.transition._tables import listed, missing

__all__ = ["Names", "guess_names"]

_TRAINING = {"train", "training", "trn", "tr"}
_TEST = {"test", "testing", "val", "valid", "validation", "eval", "evaluation", "dev", "heldout", "holdout"}
_TIMES = (
    *("step", "steps", "global step", "iteration", "iterations", "iter", "update", "updates"),
    *("epoch", "epochs", "time"),
)
_RUNS = ("member", "seed", "run", "run id", "run name", "trial", "replicate")
_KINDS = ("acc", "err")  # beginnings of words
_OF_A_RUN = " - "  # between the names of a run and of its number


class Names(NamedTuple):
    """Names of columns; ``member`` is None if all is one run."""

    time: str
    train: str
    test: str
    member: str | None


def guess_names(
    where: str, names: Sequence[str], time: str | None, train: str | None, test: str | None, member: str | None
) -> Names:
    """Names as given, and for those that are None what the columns' names say.

    Parameters
    ----------
    where
        What has these columns, for the message.
    names
        All of them.
    time, train, test, member
        What is known already.

    Raises
    ------
    ValueError
        If the names leave it open, or one that is given is not among them; the message lists them.
    """
    given = [name for name in (train, test) if name is not None]
    if not set(given) <= set(names):
        raise missing(where, given, names)
    if train is None or test is None:
        pairs = [(a, b) for kind in _KINDS for a, b in _pairs(names, kind) if train in (None, a) and test in (None, b)]
        if len(pairs) != 1:
            raise _undecided(where, names, train, test)
        train, test = pairs[0]
    if time is None:
        found = _first(names, _TIMES)
        if found is None:
            raise ValueError(f"say which column is the time (time=): {where} has {listed(names)}")
        time = found
    if member is None:
        candidates = [name for name in names if _words(name) in _RUNS and name not in (time, train, test)]
        member = candidates[0] if len(candidates) == 1 else None
    return Names(time, train, test, member)


def _undecided(where: str, names: Sequence[str], train: str | None, test: str | None) -> ValueError:
    of_runs = [name for name in names if _OF_A_RUN in name]
    if len(of_runs) > 1:  # the table of a chart of Weights & Biases
        return ValueError(
            f"{where} has columns of single runs ({listed(of_runs[:2])}, ...): put all runs below each other, with a "
            "column that tells them apart (member=)"
        )
    sought = {"train=": ("training", train), "test=": ("test", test)}
    lacking = {option: words for option, (words, name) in sought.items() if name is None}
    which = "column is" if len(lacking) == 1 else "columns are"
    return ValueError(
        f"say which {which} the {' and the '.join(lacking.values())} accuracy, or error ({', '.join(lacking)}): "
        f"{where} has {listed(names)}"
    )


def _pairs(names: Sequence[str], kind: str) -> list[tuple[str, str]]:
    """Training and test columns of a kind; "accuracy" beside "val_accuracy" is the training accuracy."""
    rates = {name: set(_words(name).split()) for name in names}
    rates = {name: words for name, words in rates.items() if any(word.startswith(kind) for word in words)}
    test = [name for name, words in rates.items() if words & _TEST and not words & _TRAINING]
    train = [name for name, words in rates.items() if words & _TRAINING and not words & _TEST]
    train = train or [name for name, words in rates.items() if not words & (_TEST | _TRAINING)]
    return [(a, b) for a in train for b in test]


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The name that stands for the first of the wanted words."""
    known = {_words(name): name for name in reversed(names)}
    return next((known[words] for words in wanted if words in known), None)


def _words(name: str) -> str:
    """Lower-case words with one space between them."""
    return " ".join(re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("_", " ").lower().translate(_SIGNS).split())


_SIGNS = str.maketrans(dict.fromkeys("/-.:\\|", " "))
