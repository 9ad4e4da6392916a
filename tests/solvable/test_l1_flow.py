"""Gradient flow with L1: the differential inclusion ẇ ∈ a − Gw − λ₁ Sgn(w), by three independent roads.

1. *Certificate*: the inclusion has one solution from any start (its right side is monotone), so a continuous path whose
   slope lies in the right side everywhere is that solution; and a path that fails by δ(t) is away from it by less than
   ∫δ dt.  This needs no second solver.
2. *Integration from event to event* by DOP853, with scipy's event location: other states, other formulas.
3. *Forward-backward Euler*, which knows nothing of events: w ← soft(w + h(a − Gw), hλ₁), extrapolated to h → 0.

The end of the flow is compared with scikit-learn.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from sign_oracles import grid_times
from sklearn.linear_model import lars_path

from grokphase.solvable.ball import BallModel
from grokphase.solvable.gradient_flow import GradientFlow
from grokphase.solvable.l1_flow import l1_stretches


def draw(seed, samples, dimension, *batch):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((*batch, samples, dimension))
    return inputs, rng.choice([-1.0, 1.0], (*batch, samples)), rng.standard_normal((*batch, dimension))


def soft(w, threshold):
    return np.sign(w) * np.maximum(np.abs(w) - threshold, 0)


# --- the three roads ---


def defect(flow, initial, points=60):
    """Largest distance of ẇ from the inclusion's right side, largest jump, and the limit, of flows Q at once.

    A weight below 1e-12 counts as zero: there Sgn is everything between −1 and 1.
    """
    gram, correlation = flow.gram, flow.correlation
    l1 = flow.l1
    stretches = l1_stretches(gram, correlation, l1, initial)
    worst, jump = np.zeros(len(initial)), np.zeros(len(initial))
    last, limit = initial.copy(), np.zeros_like(initial)
    for stretch in stretches:
        modes, flows = stretch.modes, stretch.flows
        slowest = np.where(modes.rates > 0, modes.rates, np.inf).min(axis=1)
        long = np.where(np.isfinite(slowest), 40 / np.where(np.isfinite(slowest), slowest, 1.0), 1.0)
        duration = np.where(np.isfinite(stretch.duration), stretch.duration, long)
        time = duration[:, None] * np.concatenate([np.linspace(0, 1, points), np.logspace(-9, 0, points)])
        w = modes.weights(time)
        decay = np.exp(-modes.rates[:, None] * time[:, :, None])
        slope = ((modes.push - modes.rates * modes.start)[:, None] * decay) @ modes.vectors.swapaxes(-1, -2)
        residual = correlation[flows][:, None] - np.einsum("qij,qtj->qti", gram[flows], w)
        sign_term = residual - slope  # must lie in λ₁ Sgn(w)
        inside = np.maximum(np.abs(sign_term) - l1, 0)
        off = np.where(np.abs(w) > 1e-12, np.abs(sign_term - l1 * np.sign(w)), inside).max(axis=(1, 2))
        worst[flows] = np.maximum(worst[flows], off)
        jump[flows] = np.maximum(jump[flows], np.abs(w[:, 0] - last[flows]).max(axis=1))
        last[flows] = w[:, points - 1]
        limit[flows] = modes.limit()
    return worst, jump, limit


def integrate(gram, correlation, l1, initial, times):
    """Weights at the times, by event-located Runge-Kutta integration; and the list of events."""
    w, t, events = initial.copy(), 0.0, []
    residual = correlation - gram @ w
    state = np.where(w != 0, np.sign(w), np.where(np.abs(residual) > l1, np.sign(residual), 0.0))
    out = np.full((len(times), w.size), np.nan)
    while True:

        def slope(_, v, state=state):
            return np.where(state != 0, correlation - gram @ v - l1 * state, 0.0)

        def watch(j, state=state):
            def active(_, v):
                return state[j] * v[j]

            def resting(_, v):
                return l1 - abs(correlation[j] - gram[j] @ v)

            event = active if state[j] else resting
            event.terminal, event.direction = True, -1
            return event

        path = solve_ivp(
            slope,
            (t, times[-1]),
            w,
            method="DOP853",
            rtol=1e-13,
            atol=1e-15,
            max_step=0.05,
            events=[watch(j) for j in range(w.size)],
            dense_output=True,
        )
        now = (times >= t) & (times <= path.t[-1])
        if now.any():
            out[now] = path.sol(times[now]).T
        t, w = path.t[-1], path.y[:, -1].copy()
        if t >= times[-1]:
            return out, events
        j = next(j for j, found in enumerate(path.t_events) if found.size)
        residual = correlation[j] - gram[j] @ w
        if state[j] == 0:
            events.append("released")
            state[j] = np.sign(residual)
        else:
            w[j] = 0.0
            events.append("crossed" if abs(residual) > l1 else "stuck")
            state[j] = np.sign(residual) if abs(residual) > l1 else 0.0


def forward_backward(gram, correlation, l1, initial, end, steps):
    w, h = initial.copy(), end / steps
    for _ in range(steps):
        w = soft(w + h * (correlation - np.einsum("qij,qj->qi", gram, w)), h * l1)
    return w


CASES = [  # samples, dimension, λ₁, λ₂
    (6, 3, 0.2, 0.0),
    (10, 5, 0.1, 0.1),
    (3, 6, 0.15, 0.0),
    (2, 5, 0.3, 0.05),
    (8, 8, 0.05, 0.0),
]


@pytest.mark.parametrize(("samples", "dimension", "l1", "l2"), CASES)
def test_equals_integration_from_event_to_event(samples, dimension, l1, l2):
    times, seen = np.linspace(0, 8, 41), set()
    for seed in range(3):
        inputs, labels, initial = draw(seed, samples, dimension)
        flow = GradientFlow(inputs, labels, l1=l1, l2=l2)
        expected, events = integrate(flow.gram, flow.correlation, l1, initial, times)
        # DOP853 at relative 1e-13 with its 7th-order interpolant between steps: some 1e-11
        assert_allclose(flow.weights(times, initial), expected, rtol=0, atol=1e-10)
        seen.update(events)
    assert "stuck" in seen


def test_equals_extrapolated_forward_backward_euler():
    # Error of the scheme: C h, and where a weight crosses, where it may be held at zero for a part of a step, up to
    # λ₁h more that does not extrapolate
    inputs, labels, initial = draw(11, 5, 6, 40)
    flow = GradientFlow(inputs, labels, l1=0.2, l2=0.0)
    end, steps = 3.0, 6000
    exact = flow.weights(end, initial)
    coarse = forward_backward(flow.gram, flow.correlation, 0.2, initial, end, steps)
    fine = forward_backward(flow.gram, flow.correlation, 0.2, initial, end, 2 * steps)
    error, error_fine = np.abs(coarse - exact).max(), np.abs(fine - exact).max()
    assert 1.7 < error / error_fine < 2.3  # first order, towards this solution
    tolerance = 0.2 * end / steps
    assert_allclose(2 * fine - coarse, exact, rtol=0, atol=tolerance)
    # control: the flow of a λ₁ that is 0.1 % larger is further off than that
    other = GradientFlow(inputs, labels, l1=0.2002, l2=0.0).weights(end, initial)
    assert np.abs(2 * fine - coarse - other).max() > 5 * tolerance


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(1, 9),
    dimension=st.integers(1, 7),
    log_l1=st.floats(-6, 1),
    l2=st.sampled_from([0.0, 1e-8, 0.01, 1.0]),
)
def test_satisfies_the_inclusion(seed, samples, dimension, log_l1, l2):
    inputs, labels, initial = draw(seed, samples, dimension, 8)
    flow = GradientFlow(inputs, labels, l1=10.0**log_l1, l2=l2)
    worst, jump, limit = defect(flow, initial)
    # rounding of |G||w| and of the eigenvectors; a jump is the rounding that an event sets to zero
    scale = np.abs(flow.correlation).max() + np.abs(flow.gram).sum(axis=-1).max() * (np.abs(initial).max() + 1)
    assert worst.max() < 1e-11 * scale
    assert jump.max() < 1e-11 * (1 + np.abs(initial).max())
    residual = flow.correlation - np.einsum("qij,qj->qi", flow.gram, limit)
    active = np.abs(limit) > 1e-11
    off = np.where(active, np.abs(residual - flow.l1 * np.sign(limit)), np.maximum(np.abs(residual) - flow.l1, 0))
    assert off.max() < 1e-11 * scale


@settings(max_examples=100, deadline=None)
@given(data=st.data(), samples=st.integers(1, 6), dimension=st.integers(1, 6))
def test_ties_of_all_kinds(data, samples, dimension):
    # small integers and dyadic λ₁: simultaneous events, equal and opposite features, residuals that start or stay
    # exactly at ±λ₁, weights that move together; every decision is then one of rounding, and none may be fatal
    def integers(count, values):
        return np.array(data.draw(st.lists(st.sampled_from(values), min_size=count, max_size=count)), dtype=float)

    inputs = integers(8 * samples * dimension, [-1, 0, 1]).reshape(8, samples, dimension)
    labels = integers(8 * samples, [-1, 1]).reshape(8, samples)
    initial = integers(8 * dimension, [-1, 0, 0, 1]).reshape(8, dimension)
    l1, l2 = data.draw(st.sampled_from([0.0625, 0.125, 0.25, 0.5])), data.draw(st.sampled_from([0.0, 0.5]))
    flow = GradientFlow(inputs, labels, l1=l1, l2=l2)
    worst, jump, _ = defect(flow, initial)
    # a function within rounding of zero may turn by a root of that, 1e-8, off its time
    assert worst.max() < 1e-7
    assert jump.max() < 1e-12


def test_the_certificate_rejects_a_wrong_flow(monkeypatch):
    # Control: a weight that reaches zero always crosses, never rests
    from grokphase.solvable import l1_flow

    def never_rests(weights, signs, pressure):
        return np.where(weights != 0, signs, np.where(pressure == 0, -signs, np.sign(pressure)))

    inputs, labels, initial = draw(0, 6, 4, 8)
    flow = GradientFlow(inputs, labels, l1=0.2, l2=0.1)
    assert defect(flow, initial)[0].max() < 1e-13
    monkeypatch.setattr(l1_flow, "_states", never_rests)
    monkeypatch.setattr(l1_flow, "_MAX_EVENTS_PER_DIMENSION", 20)
    with pytest.raises((RuntimeError, AssertionError)):  # it chatters, or leaves the inclusion
        assert defect(flow, initial)[0].max() < 1e-3


# --- events ---


def test_a_weight_sticks_is_released_and_crosses():
    # By hand: w₂ starts at −0.3 and is pulled up by λ₁ and pushed up by a₂; it reaches zero while the large w₁ still
    # holds its residual down, rests, and is released once w₁ has shrunk; w₃ is driven through zero.
    inputs = np.linalg.cholesky(3 * np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 1.0]])).T
    labels = np.ones(3)
    flow = GradientFlow(inputs, labels, l1=0.1, l2=0.0)
    correlation = flow.correlation
    initial = np.array([(correlation[1] + 0.0) / 0.6, -0.02, -0.5])
    times = np.linspace(0, 10, 2001)
    w = flow.weights(times, initial)
    expected, events = integrate(flow.gram, correlation, 0.1, initial, times[::100])
    assert_allclose(w[::100], expected, atol=1e-10)
    resting = w[:, 1] == 0.0
    assert events == ["stuck", "released", "crossed"] or sorted(events) == ["crossed", "released", "stuck"]
    first, last = np.flatnonzero(resting)[[0, -1]]
    assert first > 0
    assert (w[:first, 1] < 0).all()
    assert resting[first : last + 1].all()
    assert last - first > 10
    assert (w[last + 1 :, 1] > 0).all()
    assert w[0, 2] < 0 < w[-1, 2]


def test_all_kinds_of_events_occur_and_are_right():
    # flows in 4 dimensions, features with a common part: count the events seen by the integrator, compare the paths
    counts = {"stuck": 0, "crossed": 0, "released": 0}
    times = np.linspace(0, 6, 13)
    for seed in range(12):
        inputs, labels, initial = draw(100 + seed, 5, 4)
        inputs = inputs + 2 * np.random.default_rng(seed).standard_normal((5, 1))
        flow = GradientFlow(inputs, labels, l1=0.15, l2=0.02)
        expected, events = integrate(flow.gram, flow.correlation, 0.15, initial, times)
        assert_allclose(flow.weights(times, initial), expected, rtol=0, atol=1e-10)
        for event in events:
            counts[event] += 1
    assert min(counts.values()) >= 3, counts


def test_nearly_simultaneous_events():
    # One initial weight is tuned until two events coincide (there their order changes); then it is moved off by 1e-16
    # to 1e-8 of itself: whichever way rounding decides, the inclusion holds.
    nudges = 1 + np.array([0, 1e-16, -1e-16, 1e-15, -1e-15, 1e-13, -1e-13, 1e-10, -1e-10, 1e-8])
    coincidences = 0
    for seed in (1, 3, 8):
        inputs, labels, initial = draw(seed, 4, 4)

        def flows(count, inputs=inputs, labels=labels):
            return GradientFlow(np.tile(inputs, (count, 1, 1)), np.tile(labels, (count, 1)), l1=0.15, l2=0.02)

        def scaled(k, factors, initial=initial):
            return initial * np.where(np.arange(4) == k, factors[:, None], 1.0)

        def histories(starts, flows=flows):
            """Which weights rest in each stretch, for every flow."""
            found, many = [[] for _ in starts], flows(len(starts))
            for part in l1_stretches(many.gram, many.correlation, 0.15, starts):
                for flow, rests in zip(part.flows, (part.modes.vectors == 0).all(axis=2), strict=True):
                    found[flow].append(rests.tolist())
            return found

        for k in range(4):
            coarse = np.linspace(0.05, 3, 31)
            seen = histories(scaled(k, coarse))
            for m in range(30):
                low, high = coarse[m], coarse[m + 1]
                while seen[m] != seen[m + 1] and high - low > 4e-16 * high:
                    fine = np.linspace(low, high, 33)
                    change = next(n for n, h in enumerate(histories(scaled(k, fine))) if h != seen[m] or n == 32)
                    if change == 0 or fine[change] - fine[change - 1] >= high - low:
                        break
                    low, high = fine[change - 1], fine[change]
                if seen[m] != seen[m + 1]:
                    worst, jump, _ = defect(flows(nudges.size), scaled(k, high * nudges))
                    assert worst.max() < 1e-7  # as for exact ties
                    assert jump.max() < 1e-12
                    coincidences += 1
    assert coincidences >= 10


def test_the_printed_solution_with_fixed_signs_fails():
    # Eqs. 20-21 as printed keep sgn(w) of the start: right until the first event, wrong by whole numbers after it
    inputs, labels, initial = draw(5, 10, 4)
    flow = GradientFlow(inputs, labels, l1=0.2, l2=0.1)
    gram, signs = flow.gram, np.sign(initial)

    def printed(t):
        limit = np.linalg.solve(gram, flow.correlation - 0.2 * signs)
        return limit + expm(-gram * t) @ (initial - limit)

    stretches = l1_stretches(gram[None], flow.correlation[None], 0.2, initial[None])
    first = stretches[0].duration[0]
    assert_allclose(flow.weights(0.999 * first, initial), printed(0.999 * first), atol=1e-13)
    expected, events = integrate(gram, flow.correlation, 0.2, initial, np.array([0.0, 10.0]))
    assert events
    assert_allclose(flow.weights(10.0, initial), expected[-1], atol=1e-10)
    assert np.abs(printed(10.0) - expected[-1]).max() > 0.05


# --- where it ends ---


@pytest.mark.parametrize(("samples", "dimension"), [(8, 4), (20, 6), (4, 8), (3, 12), (2, 5)])
@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_ends_at_the_elastic_net(samples, dimension, l2):
    l1 = 0.1
    for seed in range(3):
        inputs, labels, initial = draw(seed, samples, dimension)
        flow = GradientFlow(inputs, labels, l1=l1, l2=l2)
        extended, answers, alpha = inputs, labels, l1
        if l2:  # the ridge as √(nλ₂) times the unit matrix, below the inputs
            extended = np.vstack([inputs, np.sqrt(samples * l2) * np.eye(dimension)])
            answers, alpha = np.concatenate([labels, np.zeros(dimension)]), l1 * samples / (samples + dimension)
        theirs = lars_path(extended, answers, method="lasso", alpha_min=alpha)[2][:, -1]
        assert_allclose(flow.stationary(initial), theirs, atol=1e-10)
        last = l1_stretches(flow.gram[None], flow.correlation[None], l1, initial[None])[-1]
        rates = last.modes.rates[last.modes.rates > 0]
        late = last.start[0] + 40 / rates.min(initial=1.0)
        assert_allclose(flow.weights(late, initial), theirs, atol=1e-10)


def test_a_minimiser_that_is_not_unique_depends_on_the_start():
    # twice the same feature: the sum of both weights is determined, their difference only by the start
    inputs = np.array([[1.0, 1.0], [-1.0, -1.0]])
    flow = GradientFlow(inputs, [1, -1], l1=0.1, l2=0.0)
    starts = np.array([[0.0, 0.0], [0.5, 0.1], [-0.2, 0.4], [3.0, -1.0]])
    ends = flow.stationary(starts)
    assert_allclose(ends.sum(axis=1), 0.9, atol=1e-14)
    assert_allclose(ends[1, 0] - ends[1, 1], 0.4, atol=1e-14)  # same signs: the difference does not move
    assert np.ptp(ends[:, 0]) > 0.1
    for start, end in zip(starts, ends, strict=True):
        expected, _ = integrate(flow.gram, flow.correlation, 0.1, start, np.array([0.0, 30.0]))
        assert_allclose(end, expected[-1], atol=1e-10)


def test_weights_drift_along_directions_without_data():
    # one sample with feature 1 only: w₂ feels λ₁ alone and walks to zero at constant speed
    flow = GradientFlow([[1.0, 0.0]], [1.0], l1=0.2, l2=0.0)
    times = np.array([0.0, 1.0, 4.9, 5.0, 5.1, 50.0])
    w = flow.weights(times, [0.0, 1.0])
    assert_allclose(w[:, 1], np.maximum(1 - 0.2 * times, 0), atol=1e-15)
    assert_array_equal(w[-2:, 1], 0.0)
    assert_allclose(w[:, 0], 0.8 * (1 - np.exp(-times)), atol=1e-15)


def test_a_nearly_singular_block_costs_no_digits():
    # Smallest eigenvalue 1e-10: with fixed signs the flow would end near 1e9, but λ₁ stops it on the way.  In the
    # eigenvectors the motion of the soft direction is a drift to 1e-9: compare with the exact drift of λ₂ = 0.
    inputs = np.array([[1.0, 0.0], [1.0, 1e-5]]) * np.sqrt(2)
    nearly = GradientFlow(inputs, [1, 1], l1=0.1, l2=0.0)
    exactly = GradientFlow(np.array([[1.0, 0.0], [1.0, 0.0]]) * np.sqrt(2), [1, 1], l1=0.1, l2=0.0)
    assert np.linalg.cond(nearly.gram) > 1e10
    times = np.linspace(0, 12, 25)
    # the inputs differ by 1e-5, so do a and G; the weights after time t by 1e-5 t
    assert_allclose(nearly.weights(times, [0.4, 0.8]), exactly.weights(times, [0.4, 0.8]), atol=3e-4)
    worst, jump, _ = defect(GradientFlow(inputs[None], np.ones((1, 2)), l1=0.1, l2=0.0), np.array([[0.4, 0.8]]))
    assert worst.max() < 1e-14
    assert jump.max() < 1e-14


# --- properties of the flow ---


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), samples=st.integers(1, 8), dimension=st.integers(1, 6), l2=st.sampled_from([0, 0.1])
)
def test_the_loss_falls_and_flows_approach_each_other(seed, samples, dimension, l2):
    inputs, labels, initial = draw(seed, samples, dimension, 6)
    flow = GradientFlow(inputs[0], labels[0], l1=0.2, l2=l2)
    w = flow.weights(np.linspace(0, 15, 61), initial)
    miss = np.einsum("nd,qtd->qtn", inputs[0], w) - labels[0]
    loss = 0.5 * (miss**2).mean(axis=-1) + 0.5 * l2 * (w**2).sum(axis=-1) + 0.2 * np.abs(w).sum(axis=-1)
    assert (np.diff(loss, axis=1) <= 1e-13 * (1 + loss[:, :-1])).all()
    apart = np.linalg.norm(w[:, None] - w[None], axis=-1)
    assert (np.diff(apart, axis=2) <= 1e-13 * (1 + apart[:, :, :-1])).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), samples=st.integers(1, 8), dimension=st.integers(1, 6), pause=st.floats(0.01, 5))
def test_a_flow_may_be_stopped_and_taken_up_again(seed, samples, dimension, pause):
    inputs, labels, initial = draw(seed, samples, dimension, 6)
    flow = GradientFlow(inputs, labels, l1=0.15, l2=0.05)
    halfway = flow.weights(pause, initial)
    assert_allclose(flow.weights(2.0, halfway), flow.weights(pause + 2.0, initial), atol=1e-12)


def test_signs_and_order_of_features_do_not_matter():
    inputs, labels, initial = draw(3, 6, 5, 20)
    times, order, signs = np.linspace(0, 5, 6), np.array([3, 0, 4, 2, 1]), np.array([1, -1, -1, 1, -1.0])
    straight = GradientFlow(inputs, labels, l1=0.1, l2=0.02).weights(times, initial)
    turned = GradientFlow((inputs * signs)[..., order], labels, l1=0.1, l2=0.02)
    assert_allclose(turned.weights(times, (initial * signs)[..., order]), (straight * signs)[..., order], atol=1e-12)


def test_weak_l1_is_close_to_none():
    # flows with and without are apart by at most λ₁ √D t, as the sign term is at most λ₁ √D long
    inputs, labels, initial = draw(4, 10, 6, 50)
    times = np.linspace(0, 5, 11)
    without = GradientFlow(inputs, labels, l1=0.0, l2=0.1)
    for l1 in (1e-3, 1e-6, 1e-9):
        weak = GradientFlow(inputs, labels, l1=l1, l2=0.1)
        apart = np.linalg.norm(weak.weights(times, initial) - without.weights(times, initial), axis=-1)
        assert (apart <= l1 * np.sqrt(6) * times + 1e-13).all()
        assert apart.max() > 0.1 * l1
    assert_allclose(weak.zero_train_time(initial), without.zero_train_time(initial), rtol=1e-5)


# --- zero-error times ---


@pytest.mark.parametrize("question", ["train", "test"])
@pytest.mark.parametrize(("samples", "dimension", "l2"), [(8, 3, 0.0), (6, 4, 0.1), (3, 5, 0.0)])
def test_zero_error_times_equal_a_dense_grid(question, samples, dimension, l2):
    model, rng = BallModel(dimension=dimension, class_gap=1.3), np.random.default_rng(samples)
    finite = different = 0
    for seed in range(8):
        inputs, labels = model.sample(samples, seed)
        flow = GradientFlow(inputs, labels, l1=0.1, l2=l2)
        initial = rng.standard_normal(dimension)

        def functions(times, flow=flow, initial=initial, inputs=inputs, labels=labels):
            w = flow.weights(times, initial)
            if question == "train":
                return w @ (labels[:, None] * inputs).T
            return np.stack([1.69 * w[:, 0] ** 2 - (w**2).sum(axis=1), w[:, 0]], axis=1)

        first, final = grid_times(functions, np.linspace(0, 20, 20_001))
        if question == "train":
            ours = flow.zero_train_time(initial, "first"), flow.zero_train_time(initial)
        else:
            ours = flow.zero_test_time(initial, model, "first"), flow.zero_test_time(initial, model)
        # brentq on weights with errors of 1e-15 and slopes of order 0.01 or more
        assert_allclose(ours, (first, final), rtol=0, atol=1e-11)
        finite += np.isfinite(final)
        different += first != final
    assert finite >= 3


def test_first_and_final_times_differ_where_the_error_returns():
    # a start that classifies all is left for a while before the flow comes back: search for such flows, they exist
    inputs, labels = BallModel(dimension=3, class_gap=1.2).sample(4, 5)
    flow = GradientFlow(inputs, labels, l1=0.1, l2=0.0)
    initial = 3 * np.random.default_rng(6).standard_normal((400, 3))
    first, final = flow.zero_train_time(initial, "first"), flow.zero_train_time(initial)
    assert (first <= final * (1 + 1e-13)).all()
    returning = np.flatnonzero((first < 0.999 * final) & np.isfinite(final))
    assert returning.size >= 5
    normals = labels[:, None] * inputs
    for k in returning[:10]:
        expected = grid_times(lambda t, k=k: flow.weights(t, initial[k]) @ normals.T, np.linspace(0, 30, 20_001))
        assert_allclose((first[k], final[k]), expected, atol=1e-11)


def test_weights_that_all_rest_answer_nothing():
    flow = GradientFlow([[0.1, 0.0], [0.0, -0.1]], [1, -1], l1=0.5, l2=0.0)
    initial = [0.3, 0.2]  # right at first, then zero
    assert flow.zero_train_time(initial, "first") == 0.0
    assert flow.zero_train_time(initial) == np.inf
    ball = BallModel(dimension=2, class_gap=2.0)
    assert flow.zero_test_time(initial, ball, "first") == 0.0
    assert flow.zero_test_time(initial, ball) == np.inf


def test_at_gap_one_only_l1_reaches_zero_test_error():
    # the balls touch: w must lie on axis 1 exactly, which resting weights do
    inputs, labels, ball = np.array([[1.0, 0.2], [-1.0, 0.2]]), [1, -1], BallModel(dimension=2, class_gap=1.0)
    resting = GradientFlow(inputs, labels, l1=0.1, l2=0.0)
    time = resting.zero_test_time([0.1, 0.3], ball)
    assert 0 < time < np.inf
    assert resting.weights(time * (1 + 1e-12), [0.1, 0.3])[1] == 0.0
    assert resting.weights(time * (1 - 1e-9), [0.1, 0.3])[1] != 0.0
    assert GradientFlow(inputs, labels, l1=0.0, l2=0.1).zero_test_time([0.1, 0.3], ball) == np.inf
