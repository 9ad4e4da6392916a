"""Exponents of runs whose exponent is known: coverage of the interval, exact models, refusals."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from synthetic import CONTINUOUS, FALSE_ALARM, as_runs, power_law_runs

import grokphase as gp
from grokphase.transition.exponent import Window


def measured(rng, exponent, **options):
    return gp.measure(as_runs(*power_law_runs(rng, exponent, **options)))


def naive_interval(transition, steps=10):
    """What is usually done: a straight line through the logarithms of the aligned mean, with its own error."""
    aligned = transition.aligned(offsets=-np.arange(1.0, steps + 1)[::-1])
    line = stats.linregress(np.log(-aligned["offset"]), np.log(aligned["test_error"]))
    half = stats.t.ppf(0.975, steps - 2) * line.stderr
    return line.slope - half, line.slope + half


def coverage(exponent, repetitions, *, naive=False, **options):
    """Answers and how many of them cover the exponent, a wrong one (1.3 times it), and how many naive intervals do."""
    rng = np.random.default_rng(1)
    answers = covered = wrong = by_line = 0
    for seed in range(repetitions):
        transition = measured(rng, exponent, **options)
        if naive:
            low, high = naive_interval(transition)
            by_line += low <= exponent <= high
        try:
            fit = transition.exponent(seed=seed)
        except gp.ShortScalingWindow:
            continue
        answers += 1
        covered += fit.low <= exponent <= fit.high
        wrong += fit.low <= 1.3 * exponent <= fit.high
    return answers, covered, wrong, by_line


def enough(answers, rate=0.95):
    """Fewest of so many that may cover (or be answered) at this rate; a false alarm in 1e4."""
    return stats.binom.ppf(FALSE_ALARM, answers, rate)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.5])
def test_interval_covers(exponent):
    """The fast twin of the test below: 40 repetitions with noise of 20% from record to record."""
    answers, covered, wrong, by_line = coverage(exponent, 40, noise=0.2, naive=True)
    assert answers >= 30
    assert covered >= enough(answers)
    # Controls: another exponent is excluded, and the usual fit does not cover.
    assert wrong < enough(answers)
    assert by_line < enough(40)


def test_curve_is_in_the_units_of_time():
    """The bins lie at the window's distances, with the mean error that is recorded between their neighbours'."""
    transition = measured(np.random.default_rng(3), 1.0)
    found = transition.exponent()
    near, far = found.window
    distance = found.curve.distance
    assert near <= distance[0] < distance[-1] < far
    recorded = transition.aligned(offsets=-distance[::-1])["test_error"].to_numpy()[::-1]
    assert (np.diff(recorded) > 0).all()
    assert (recorded[:-2] < found.curve.error[1:-1]).all()
    assert (found.curve.error[1:-1] < recorded[2:]).all()
    assert (recorded[:-2] < found.curve.fitted[1:-1]).all()
    assert (found.curve.fitted[1:-1] < recorded[2:]).all()


@pytest.mark.parametrize(("exponent", "options"), [(1.0, {}), (0.5, {"noise": 0.2}), (2.5, {"noise": 0.2})])
def test_standard_error_is_the_scatter_over_ensembles(exponent, options):
    """In a given window, without systematic parts.  60 ensembles know the ratio to 9%; four of these are allowed."""
    rng = np.random.default_rng(8)
    values, errors = [], []
    for _ in range(60):
        transition = measured(rng, exponent, **options)
        window = Window.fitted(transition._records.binned(1.0, 25.0), 0.0, 0.0)
        values.append(window.of("exponent"))
        errors.append(window.errors("exponent")[0])
    assert np.std(values) / np.sqrt(np.mean(np.square(errors))) == pytest.approx(1.0, abs=0.37)


@pytest.mark.slow
@pytest.mark.parametrize("case", CONTINUOUS)
def test_interval_covers_at_the_stated_rate(case):
    """60 repetitions: at 95% fewer than 50 of 60 cover once in 1e4 cases; 99% are answered.

    ``python benchmarks/coverage_exponent.py`` does 500.
    """
    exponent, options = CONTINUOUS[case]
    answers, covered, wrong, _ = coverage(exponent, 60, **options)
    assert answers >= enough(60, 0.99)
    assert covered >= enough(answers)
    assert wrong < enough(answers)  # the control: 1.3 times the exponent


def exact_runs(phase, exponent, *, jump=0.0, scatter=0.0):
    """40 runs without noise whose zeros all lie at the same place between two records."""
    time, zero = np.arange(660.0), 240 + phase + 9.0 * np.arange(40)
    amplitude = np.exp(np.random.default_rng(0).normal(0, scatter, 40))[:, None]
    distance = np.maximum(zero[:, None] - time, 0.0)
    error = amplitude * (distance / 6000) ** exponent * 0.3 + jump * (distance > 0)
    return as_runs(time, error)


@pytest.mark.parametrize("scatter", [0.0, 0.3])
@pytest.mark.parametrize("phase", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_zeros_at_the_same_place_between_records(phase, scatter):
    """An exact linear law is neither refused nor bent: the place is fitted where zeros are not spread."""
    transition = gp.measure(exact_runs(phase, 1.0, scatter=scatter))
    fit = transition.exponent()
    # Eight nodes a bin leave (0.2/8)² = 6e-4 of the law out; over a decade, 6e-4 in the exponent at most.
    assert fit.value == pytest.approx(1.0, abs=1e-3)
    assert transition.order().kind == "continuous"
    # Control: with zeros anywhere between records, as is assumed otherwise, the exponent is off by more than that
    # unless they lie in the middle.
    records = transition._records
    assumed = Window.fitted(records.binned(1.0, 25.0), 0.0, 0.0)
    assert not assumed.zeros_are_spread()
    assert (abs(assumed.of("exponent") - 1.0) > 0.05) == (phase != 0.5)


def test_jumps_are_seen_where_zeros_lie_at_the_same_place():
    transition = gp.measure(exact_runs(0.9, 1.0, jump=0.05, scatter=0.3))
    assert transition.order().kind == "first"
    with pytest.raises(gp.ShortScalingWindow, match="of first order"):
        transition.exponent()


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.5])
def test_spread_zeros_are_seen_as_spread(exponent):
    """100 ensembles of eight runs: each has a chance below 2e-3, so three or more are found in 1.1e-3 of cases."""
    rng = np.random.default_rng(9)
    found = 0
    for _ in range(100):
        records = measured(rng, exponent, members=8)._records
        found += not Window.fitted(records.binned(1.0, 25.0), 0.0, 0.0).zeros_are_spread()
    assert found <= 2


@pytest.mark.parametrize("dimension", [3, 4, 5])
def test_exact_ball_model(dimension):
    """Independent truth: the exact gradient flow of the ball model, whose exponent is (D + 1)/2 (Eq. 23)."""
    model = gp.BallModel(dimension=dimension, class_gap=1.3, l2=1.0)
    rng = np.random.default_rng(0)
    time = np.linspace(0.0, 3.0, 3001)
    errors = []
    for _ in range(60):
        inputs, labels = model.sample(20, rng)
        weights = gp.GradientFlow(inputs, labels, l2=1.0).weights(time, rng.normal(size=dimension) * 2)
        errors.append([(labels * (weights @ inputs.T) <= 0).mean(axis=1), model.test_error(weights)])
    train, test = np.swapaxes(errors, 0, 1)
    transition = gp.measure({"time": time, "train_error": train, "test_error": test})
    fit = transition.exponent()
    assert fit.low <= model.exponent <= fit.high
    assert fit.high - fit.low < 0.3  # it says something: neighbours in D differ by 0.5
    assert transition.order().kind == "continuous"


def test_units_do_not_matter():
    time, error = power_law_runs(np.random.default_rng(3), 1.0, noise=0.2)
    fits = [
        gp.measure(as_runs(scale * time, error * factor)).exponent()
        for scale, factor in ((1, 1), (0.005, 1), (1, 0.25))
    ]
    for fit in fits[1:]:
        assert_allclose([fit.value, fit.low, fit.high], [fits[0].value, fits[0].low, fits[0].high], rtol=1e-6)
    assert_allclose(fits[1].window, 0.005 * np.array(fits[0].window), rtol=1e-9)


def test_order_of_members_does_not_matter():
    time, error = power_law_runs(np.random.default_rng(4), 1.0, noise=0.2)
    fit, other = (gp.measure(as_runs(time, part)).exponent() for part in (error, error[::-1]))
    assert other.value == pytest.approx(fit.value, rel=1e-9)
    # The interval is drawn anew: 1000 replicates give its ends to 5% of its width.
    assert_allclose([other.low, other.high], [fit.low, fit.high], atol=0.1 * (fit.high - fit.low))


def test_times_that_are_not_equally_spaced_and_records_that_are_missing():
    """A log-spaced schedule, and a tenth of the records lost: the interval still covers in all but a few of 20."""
    rng = np.random.default_rng(5)
    covered = answers = 0
    for _ in range(20):
        time = np.unique(np.round(np.geomspace(300, 1500, 1500), 2))
        zero = rng.uniform(700, 1400, 40)
        law = 0.3 * np.exp(rng.normal(0, 0.3, 40))[:, None] * (np.maximum(zero[:, None] - time, 0) / 60) ** 1.0
        error = np.where(rng.random(law.shape) < 0.1, np.nan, np.minimum(law, 0.5))
        transition = gp.measure({"time": time, "train_error": np.zeros_like(error), "test_error": error})
        try:
            fit = transition.exponent()
        except gp.ShortScalingWindow:
            continue
        answers += 1
        covered += fit.low <= 1.0 <= fit.high
    assert answers >= 12
    assert covered >= answers - 4  # below that with a probability of 3e-3 at 95%


def test_tolerance_is_part_of_the_law():
    """Zero called at 0.003: the zero of the law is later, which a plain fit takes for a smaller exponent."""
    covered, by_line = 0, 0
    rng = np.random.default_rng(6)
    for _ in range(20):
        transition = gp.measure(as_runs(*power_law_runs(rng, 1.0, noise=0.05)), tolerance=0.003)
        try:
            fit = transition.exponent()
        except gp.ShortScalingWindow:
            covered += 1
            continue
        covered += fit.low <= 1.0 <= fit.high
        low, high = naive_interval(transition)
        by_line += low <= 1.0 <= high
    assert covered >= 16  # below that with a probability of 3e-3 at 95%
    assert by_line < 16


def test_plateau_is_the_scan_the_window_was_chosen_from():
    fit = measured(np.random.default_rng(0), 1.0, noise=0.2).exponent()
    far, value, low, high = fit.plateau
    assert (np.diff(np.log10(far)) > 0.099).all()
    place = int(np.abs(far - fit.window[1]).argmin())
    assert far[place] == pytest.approx(fit.window[1])
    assert value[place] == pytest.approx(fit.value)
    assert (low < value).all()
    assert (value < high).all()
    # Near the transition intervals are wide by scatter, far from it by curvature.
    width = high - low
    assert width[0] > width.min() < width[-1]


def test_given_window_and_given_confidence():
    time, error = power_law_runs(np.random.default_rng(1), 1.0, noise=0.2)
    fit = gp.measure(as_runs(time, error), window=(1.0, 25.0)).exponent()
    assert fit.window == (1.0, 25.0)
    assert fit.plateau.far.size == 1
    fits = [
        gp.measure(as_runs(time, error), window=(1.0, 25.0)).exponent(confidence) for confidence in (0.5, 0.9, 0.99)
    ]
    widths = [fit.high - fit.low for fit in fits]
    assert all(narrow < wide for narrow, wide in pairwise(widths))


# --- refusals ---


def refusal(runs, reason, **options):
    with pytest.raises(gp.ShortScalingWindow, match=reason) as caught:
        gp.measure(runs, **options).exponent()
    return caught.value.fit


def test_refuses_few_runs_and_says_that_their_interval_is_empty_of_knowledge():
    for members in (2, 7):
        fit = refusal(as_runs(*power_law_runs(np.random.default_rng(0), 1.0, members=members)), "at least 8 runs")
        assert (fit.low, fit.high, fit.runs) == (0.0, np.inf, members)
        assert fit.value > 0
    assert refusal(as_runs(*power_law_runs(np.random.default_rng(0), 1.0, members=1)), "at least 8 runs") is None


def test_refuses_a_short_window_and_carries_the_fit():
    runs = as_runs(*power_law_runs(np.random.default_rng(0), 1.0, noise=0.1))
    fit = refusal(runs, r"spans 0\.90 decades, an exponent needs 1\.00.*min_decades=0\.90", window=(1.0, 8.0))
    accepted = gp.measure(runs, window=(1.0, 8.0)).exponent(min_decades=0.9)
    assert (fit.value, fit.low, fit.high) == (accepted.value, accepted.low, accepted.high)


def test_refuses_where_nothing_reaches_zero_or_all_start_there():
    never = {"time": np.arange(50.0), "train_error": np.zeros((9, 50)), "test_error": np.full((9, 50), 0.3)}
    assert refusal(never, "no run reaches zero test error after its first record") is None
    at_once = {**never, "test_error": np.zeros((9, 50))}
    refusal(at_once, "no run reaches zero test error after its first record")
    sudden = {**never, "test_error": np.repeat([[0.3, 0.3, 0.0]], 9, axis=0), "time": np.arange(3.0)}
    sudden["train_error"] = np.zeros((9, 3))
    refusal(sudden, "too few of them for a fit")


def test_refuses_errors_that_are_a_few_counts():
    runs = as_runs(*power_law_runs(np.random.default_rng(1), 1.0, samples=1000))
    reason = r"near end, 0\.00\d+, is not 10 times the smallest that is told from zero, 0\.001: test on more inputs"
    refusal(runs, reason, window=(1.0, 20.0))
    # Left to itself, the window begins nearer the zero the more inputs are tested: counts scale with their number.
    starts = [
        gp.measure(as_runs(*power_law_runs(np.random.default_rng(1), 1.0, samples=samples))).exponent().window[0]
        for samples in (2_000, 10_000)
    ]
    assert starts[0] > 1.5 * starts[1]


def test_refuses_zeros_between_the_same_records():
    time = np.arange(400.0)
    zero = 300 + np.linspace(0.01, 0.99, 20)
    error = np.clip((zero[:, None] - time) / 100, 0, 0.5)
    refusal({"time": time, "train_error": np.zeros_like(error), "test_error": error}, "at the same records")


@pytest.mark.parametrize("exponent", [1.0, 2.5])
def test_refuses_what_bends_before_it_scales(exponent):
    """The error is at chance level four steps before its zero: no window of a decade follows a power law."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        with pytest.raises(gp.ShortScalingWindow):
            measured(rng, exponent, reach=4).exponent()


def test_jumps_have_no_exponent():
    fit = refusal(
        as_runs(*power_law_runs(np.random.default_rng(0), 1.0, jump=0.2)), "of first order, a jump has no exp"
    )
    assert fit.value < 0.2  # what would have been sold


def test_bad_options():
    transition = measured(np.random.default_rng(0), 1.0)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        transition.exponent(1.0)
    with pytest.raises(ValueError, match="replicates must be integer, from 100"):
        transition.exponent(replicates=10)
    with pytest.raises(ValueError, match=r"min_decades must be ≥ 0\.3"):
        transition.exponent(min_decades=0.1)
    for window in ((5.0, 1.0), (0.0, 1.0), (1.0,)):
        with pytest.raises(ValueError, match="window must be"):
            gp.measure(transition.runs, window=window)
