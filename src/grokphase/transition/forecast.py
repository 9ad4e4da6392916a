r"""Transfer learning, forecast: does a linear head on given features reach zero test error, when, and how late?

Object.  A perceptron sgn(w·x) is trained by gradient flow of the squared loss with penalties (Eq. 19) on fixed
features; its flow is known exactly (:class:`~grokphase.solvable.gradient_flow.GradientFlow`), so that the errors on
the training features and on held-out ones are known at every time, and so are the times from which they are zero
for good.

Conventions.  Time is that of the flow: t = learning rate × steps of plain gradient descent on the mean loss.  The
head has no bias, as the paper's; ``bias`` adds a feature that is 1 everywhere (penalised like the others).  It
starts at 0, or where ``initial`` says.  "Zero test error" is that of the held-out features handed over.

Exact up to rounding, for gradient flow; descent with a finite step, momentum or minibatches follows it
approximately.

References: Žunkovič & Ilievski 2024, Sec. 4.1 (a perceptron on the features of an attention), Eqs. 18-21.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from grokphase._checks import FloatArray, labels_pm1, real, real_array
from grokphase.solvable.gradient_flow import GradientFlow

__all__ = ["PerceptronForecast", "perceptron_forecast"]


@dataclass(frozen=True, eq=False)
class PerceptronForecast:
    """What a linear head will do; see :func:`perceptron_forecast`."""

    flow: GradientFlow
    initial: FloatArray
    test_features: FloatArray
    test_labels: FloatArray
    zero_train_time: FloatArray
    zero_test_time: FloatArray
    limit: FloatArray
    final_train_error: FloatArray
    final_test_error: FloatArray

    @property
    def reaches_zero_test_error(self) -> Any:
        """Whether the test error is zero from some time on, shape (...)."""
        return np.isfinite(self.zero_test_time)[()]

    @property
    def grokking_time(self) -> Any:
        """Zero-test minus zero-train time, shape (...); ∞ if the test error never gets to zero, −∞ if only it does."""
        test, train = self.zero_test_time, self.zero_train_time
        never = np.isinf(test)
        return np.where(never, np.inf, np.where(never, 0.0, test) - train)[()]

    def errors(self, time: ArrayLike) -> xr.Dataset:
        """Exact training and test error at given times, as a dataset that :func:`grokphase.measure` takes.

        Parameters
        ----------
        time
            Times ≥ 0, ascending, shape (time,).

        Returns
        -------
        xarray.Dataset
            ``train_error`` and ``test_error``, dimensions (member, time), one member for each initial head.
        """
        moments = real_array("time", time, minimum=0.0, ndim=1)
        if moments.ndim != 1 or (np.diff(moments) <= 0).any():
            raise ValueError("time must be a one-dimensional, ascending list of numbers")
        heads = self.initial.reshape(-1, self.flow.dimension)
        weights = self.flow.weights(moments, heads)
        data = {}
        for name, long_name, features, labels in (
            ("train_error", "training error", self.flow.inputs, self.flow.labels),
            ("test_error", "test error", self.test_features, self.test_labels),
        ):
            attributes = {"long_name": long_name, "units": "1"}
            data[name] = (("member", "time"), _error(features, labels, weights), attributes)
        axis = ("time", moments, {"long_name": "time", "symbol": "t", "units": "1"})
        return xr.Dataset(data, {"time": axis, "member": np.arange(len(heads))}, {"source": "perceptron_forecast"})


def perceptron_forecast(
    features: ArrayLike,
    labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    l1: float = 0.0,
    l2: float = 0.0,
    initial: ArrayLike | None = None,
    bias: bool = False,
) -> PerceptronForecast:
    """Exact forecast of a linear head trained on given features by gradient flow.

    Parameters
    ----------
    features, labels
        Training features, shape (samples, dims), and labels −1 or +1, shape (samples,).
    test_features, test_labels
        Held-out ones, of the same kind.
    l1, l2
        Regularisation strengths λ₁, λ₂ ≥ 0.
    initial
        Head w(0), shape (..., dims) (one more with ``bias``); 0 by default.
    bias
        Whether to add a feature that is 1 everywhere.

    Returns
    -------
    PerceptronForecast
        ``.reaches_zero_test_error``, ``.zero_train_time``, ``.zero_test_time`` (for good; infinite: never),
        ``.grokking_time``, ``.final_train_error``, ``.final_test_error``, ``.limit`` (the head in the end), each of
        shape (...), and ``.errors(time)``.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, a label is not ±1, or a strength is negative.

    Notes
    -----
    Eqs. 19-21.  A feature vector exactly on the plane counts as an error.

    Examples
    --------
    >>> forecast = perceptron_forecast([[2.0, 1.0], [-2.0, 1.0]], [1, -1], [[0.5, 1.0], [-0.5, 1.0]], [1, -1],
    ...                                l2=0.1, initial=[0.0, 1.0])
    >>> bool(forecast.reaches_zero_test_error), round(float(forecast.grokking_time), 3)
    (True, 0.973)
    """
    train, test = (
        real_array(name, value, ndim=2) for name, value in (("features", features), ("test_features", test_features))
    )
    for name, value in (("features", train), ("test_features", test)):
        if value.ndim != 2 or not value.size:
            raise ValueError(f"{name} must have shape (samples, dims), neither of them 0; got shape {value.shape}")
    if train.shape[1] != test.shape[1]:
        raise ValueError(f"test_features must have {train.shape[1]} dims as features, got {test.shape[1]}")
    sides, test_sides = labels_pm1("labels", labels), labels_pm1("test_labels", test_labels)
    for name, value, samples in (("labels", sides, train), ("test_labels", test_sides, test)):
        if value.shape != samples.shape[:1]:
            raise ValueError(f"{name} must have shape ({len(samples)},), one a sample; got shape {value.shape}")
    if bias:
        train, test = (np.hstack([part, np.ones((len(part), 1))]) for part in (train, test))
    flow = GradientFlow(train, sides, l1=real("l1", l1, minimum=0.0), l2=real("l2", l2, minimum=0.0))
    start = np.zeros(flow.dimension) if initial is None else real_array("initial", initial, ndim=1)
    if start.shape[-1] != flow.dimension:
        raise ValueError(f"initial must have shape (..., {flow.dimension}), got {start.shape}")

    limit = np.broadcast_to(flow.stationary(start), start.shape)
    return PerceptronForecast(
        flow=flow,
        initial=start,
        test_features=test,
        test_labels=test_sides,
        zero_train_time=flow.zero_train_time(start),
        zero_test_time=flow.cone_time(test_sides[:, None] * test, start),
        limit=limit,
        final_train_error=_error(train, sides, limit)[()],
        final_test_error=_error(test, test_sides, limit)[()],
    )


def _error(features: FloatArray, labels: FloatArray, weights: FloatArray) -> FloatArray:
    """Share of samples that are not on their right side, (samples, dims), (..., dims) -> (...)."""
    return (weights @ (labels[:, None] * features).T <= 0).mean(axis=-1)
