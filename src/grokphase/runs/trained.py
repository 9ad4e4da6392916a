r"""A trained student as what :class:`grokphase.ThermodynamicLimit` takes: a fixed attention and one classifier.

Object.  A snapshot of a run holds A, B, the scale c and the boundary vectors.  The trained score of a cell is
ŷ = c·h_{x_i} with h_s = l_i B_s r_i, divided by (h_0² + h_1²)^½ if scores are normalised, so in any case

    sgn ŷ_i = sgn l_i (sgn(c) B_{x_i}) r_i:

the prediction is that of the attention (A, left, right) with the classifier sgn(c)·B.

Exact: parameters are taken as the numbers they are, in double precision.

References: Žunkovič & Ilievski 2024, Eqs. 58-63, Sec. 4.3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from grokphase._checks import FloatArray, choice, integer
from grokphase.student import Attention

__all__ = ["TrainedStudent", "trained_student"]


class TrainedStudent(NamedTuple):
    """An attention and the classifier that goes with it; the prediction is the sign of ``attention.scores``."""

    attention: Attention
    classifier: FloatArray
    """sgn(c)·B, shape (2, bond, bond)."""


def trained_student(run: xr.Dataset, member: int, snapshot: float | str = "zero_test") -> TrainedStudent:
    """The student of one run at one of the times at which parameters were kept.

    Parameters
    ----------
    run
        Trajectories with snapshots, as :func:`grokphase.simulate` returns them.
    member
        Number of the run in its ensemble.
    snapshot
        One of the ``snapshots`` of the simulation, written as there: ``"zero_test"``, ``"last"`` or a time.

    Returns
    -------
    student
        ``.attention`` and ``.classifier``, for :class:`grokphase.ThermodynamicLimit` and
        :meth:`grokphase.Attention.scores`.

    Raises
    ------
    ValueError
        If the run has no such snapshot or member, or its parameters make contexts vanish.

    Notes
    -----
    Scores are not normalised and lack the factor |c|; their signs are those of the trained student.

    Examples
    --------
    >>> import grokphase as gp
    >>> short = {"lengths": (3, 4), "batch": 8, "duration": 0.02, "observe": 0.0, "test_sites": 64}
    >>> scenario = gp.Scenario(30, bond=3, members=1, **short)
    >>> run = gp.simulate(scenario, snapshots=["last"])
    >>> student = trained_student(run, 0, "last")
    >>> certificate = gp.ThermodynamicLimit(student.attention, scenario.rule).certify(student.classifier)
    >>> certificate.generalises, certificate.message
    (False, 'an input of length 3 is wrong at position 0')
    """
    if "snapshot" not in run.coords:
        raise ValueError("run must have snapshots: simulate(scenario, snapshots=['zero_test', 'last'])")
    choice("snapshot", str(snapshot), [str(name) for name in run["snapshot"].to_numpy()])
    if integer("member", member) not in run["member"]:
        members = run["member"].to_numpy()
        raise ValueError(f"member must be one of the runs {members.min()} to {members.max()}, got {member}")
    kept = run.sel(member=member, snapshot=str(snapshot))
    if not np.isfinite(kept["snapshot_time"]):
        raise ValueError(f"snapshot {snapshot!r} of member {member} does not exist: the run never came to that time")
    tensors, classifier, left, right, scale = (
        kept[f"snapshot_{name}"].to_numpy().astype(np.float64)
        for name in ("attention", "classifier", "left", "right", "scale")
    )
    return TrainedStudent(Attention(tensors, left=left, right=right), np.sign(scale) * classifier)
