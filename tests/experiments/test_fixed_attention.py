"""Figs. 12 and 14 and the atlas: what their numbers rest on, each against something that knows nothing of it.

Statistical tests: 4.5 standard errors, false-alarm rate 7e-6 each, fixed seeds; there are four.
"""

import io
from functools import cache

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import linprog

from grokphase import Attention, CellularAutomaton, ThermodynamicLimit
from grokphase.experiments import _random_attention as gaussian
from grokphase.experiments import atlas, fig12, fig14
from grokphase.experiments._framework import generator_for, published_curves
from grokphase.experiments._style import style
from grokphase.student import all_inputs

EXPERIMENTS = {"fig12": (fig12, 4), "fig14": (fig14, 1000), "atlas": (atlas, 1000)}


def draw_pairs(count: int, seed: int) -> gaussian.RealPairs:
    ((tensors, size),) = gaussian.draw_real_pairs(count, np.random.default_rng(seed))
    assert size == count
    return tensors


@cache
def coned(count: int = 6000, seed: int = 5) -> gaussian.RealPairs:
    return draw_pairs(count, seed).coned


@cache
def toy(name: str) -> xr.Dataset:
    module, draws = EXPERIMENTS[name]
    return module.compute("quick", generator_for(name, 0), lambda fraction: None, draws=draws)


def naive_scores(tensors: np.ndarray, left: np.ndarray, right: np.ndarray, classifier: np.ndarray, x: np.ndarray):
    """One sequence, one cell after the other."""
    for cell, spin in enumerate(x):
        before, after = left, right
        for symbol in x[:cell]:
            before = before @ tensors[(symbol + 1) // 2]
            before = before / np.linalg.norm(before)
        for symbol in x[:cell:-1]:
            after = tensors[(symbol + 1) // 2] @ after
            after = after / np.linalg.norm(after)
        yield before @ classifier[(spin + 1) // 2] @ after


def feasible(constraints: np.ndarray) -> bool:
    """Whether some weights give every row a positive product: the largest margin with weights in [−1, 1]."""
    dimension = constraints.shape[1]
    goal = np.append(np.zeros(dimension), -1.0)
    rows = np.hstack([-constraints, np.ones((len(constraints), 1))])
    found = linprog(goal, rows, np.zeros(len(rows)), bounds=[(-1, 1)] * dimension + [(None, 1)])
    assert found.status == 0
    return -found.fun > 1e-7  # solver's tolerance


@pytest.mark.parametrize("name", EXPERIMENTS)
class TestEach:
    def test_pictures(self, name: str) -> None:
        module, _ = EXPERIMENTS[name]
        drawing = io.BytesIO()
        with style():
            module.EXPERIMENT.draw(toy(name)).savefig(drawing, format="svg")
        assert 20_000 < drawing.tell() < 400_000  # the atlas holds 256 diagrams, as one bitmap

    def test_comparisons_are_readable(self, name: str) -> None:
        rows = EXPERIMENTS[name][0].compare(toy(name))
        assert len({row.quantity for row in rows}) == len(rows) > 5
        for row in rows:
            assert type(row.agrees) is bool
            assert "nan" not in row.computed + row.uncertainty + row.why

    def test_nothing_undecided(self, name: str) -> None:
        assert toy(name).attrs.get("undecided", 0) == 0

    def test_too_few_draws(self, name: str) -> None:
        with pytest.raises(ValueError, match="draws"):
            EXPERIMENTS[name][0].compute("quick", np.random.default_rng(0), lambda fraction: None, draws=-1)


class TestGaussianAttention:
    def test_portions_hold_all_draws(self) -> None:
        sizes = [size for _, size in gaussian.draw_real_pairs(50_001, np.random.default_rng(0))]
        assert sum(sizes) == 50_001
        assert max(sizes) - min(sizes) <= 1

    def test_probability_of_a_complex_pair(self) -> None:
        """By the discriminant, 10⁶ draws; 0.29 or 1/3 would be found out."""
        a, b, c, d = np.random.default_rng(1).standard_normal((4, 10**6))
        found = ((a - d) ** 2 + 4 * b * c < 0).mean()
        error = 4.5 * np.sqrt(fig14.COMPLEX * (1 - fig14.COMPLEX) / 10**6)
        assert abs(found - fig14.COMPLEX) < error
        assert abs(0.29 - fig14.COMPLEX) > error
        kept = len(draw_pairs(20_000, 2)) / 20_000
        assert abs(1 - kept - fig14.COMPLEX) < error * np.sqrt(50)

    def test_none_without_a_cone_generalises(self) -> None:
        """The short cut: certificates of all tensors, not only of those with a cone."""
        tensors = draw_pairs(2000, 3)
        classifiers = gaussian.stationary_classifiers(tensors.attention, fig14.RULE, l1=0.0, l2=0.0)
        everything = ThermodynamicLimit(tensors.attention, fig14.RULE).certify_many(classifiers).generalises.sum()
        chosen = tensors.coned
        classifiers = gaussian.stationary_classifiers(chosen.attention, fig14.RULE, l1=0.0, l2=0.0)
        assert (
            ThermodynamicLimit(chosen.attention, fig14.RULE).certify_many(classifiers).generalises.sum() == everything
        )
        assert 0 < everything < len(chosen)

    def test_too_few_to_have_a_cone(self) -> None:
        with pytest.raises(ValueError, match="draws must be so many"):
            list(gaussian.draw_real_pairs(1, np.random.default_rng(0)))


class TestFigure14:
    @pytest.mark.parametrize("penalty", ["λ₁", "λ₂"])
    @pytest.mark.parametrize("kappa", [1, 6, 12])
    def test_loss_that_kappa_stands_for(self, penalty: str, kappa: int) -> None:
        """Finite differences of the paper's loss, κ/2 times the mean square of all cells, at the stationary point.

        κ = 6: mean over inputs of the sum over their three cells, without ½.  Central steps of 1e-5 are exact for a
        quadratic; rounding leaves 1e-16/1e-5.
        """
        one = coned().take(np.arange(1))
        strength = 0.01
        weights = gaussian.stationary_classifiers(
            one.attention, fig14.RULE, **fig14._penalties(penalty, kappa, strength)
        ).ravel()
        features = one.attention.features_of_all(3)[0]  # input, cell, feature
        labels = fig14.RULE(all_inputs(3))

        def loss(w: np.ndarray) -> float:
            data = kappa / 6 * ((features @ w - labels) ** 2).sum(axis=1).mean()
            return data + strength * (np.abs(w).sum() if penalty == "λ₁" else w @ w / 2)

        moving = np.flatnonzero(weights != 0)
        steps = 1e-5 * np.eye(8)[moving]
        slope = [(loss(weights + step) - loss(weights - step)) / 2e-5 for step in steps]
        np.testing.assert_allclose(slope, 0, atol=1e-9)
        wrong = weights * 1.01
        assert max(abs((loss(wrong + step) - loss(wrong - step)) / 2e-5) for step in steps) > 1e-5

    def test_right_on_against_a_loop(self) -> None:
        tensors = coned().take(np.arange(30))
        classifiers = gaussian.stationary_classifiers(tensors.attention, fig14.RULE, l1=0.0, l2=0.001)
        strings = np.random.default_rng(0).choice([-1, 1], size=(4, 12)).astype(np.int8)
        for inputs, given in ((all_inputs(4), 4), (strings, strings)):
            expected = [
                all(
                    score * wanted > 0
                    for x in inputs
                    for score, wanted in zip(
                        naive_scores(tensors.tensors[n], tensors.left[n], tensors.right[n], classifiers[n], x),
                        fig14.RULE(x),
                        strict=True,
                    )
                )
                for n in range(30)
            ]
            assert fig14.right_on(tensors, classifiers, given).tolist() == expected
            assert 0 < sum(expected) < 30

    def test_only_tensors_that_cannot_pass_are_left_out(self) -> None:
        """Linear programming: if any classifier is right on all inputs of length 6, the tensor is kept."""
        tensors = draw_pairs(400, 4)
        kept = fig14.can_pass(tensors)
        labels = fig14.RULE(all_inputs(6)).reshape(-1, 1)
        features = tensors.attention.features_of_all(6).reshape(len(tensors), -1, 8)
        some = np.array([feasible(each * labels) for each in features])
        assert not (some & ~kept).any()
        assert some.sum() > 10
        assert kept.mean() < 0.2

    def test_tests_only_ever_accept_too_many(self) -> None:
        data = toy("fig14")
        certified = float(data["certified"][0, 0])
        for accepted in (data["accepted_by_length"].values, data["accepted_by_cells"].values):
            assert (np.diff(accepted) <= 0).all()
            assert accepted[-1] >= certified
        assert (data["tested"].sel(tested_series="λ₂, κ = 6") >= data["certified"].sel(series="λ₂, κ = 6")).all()
        assert float(data["fate"].sum()) == pytest.approx(1.0, abs=1e-12)

    def test_covariance_of_counts(self) -> None:
        """Against NumPy's covariance of all flags, the left-out ones written as zeros."""
        flags = np.random.default_rng(0).random((3, 40)) < 0.4
        padded = np.hstack([flags, np.zeros((3, 60), dtype=bool)]).astype(float)
        expected = np.cov(padded, ddof=0) / 100
        np.testing.assert_allclose(fig14._covariance(flags, 100), expected, rtol=1e-12, atol=1e-18)  # rounding

    def test_fit_tells_right_from_wrong(self) -> None:
        """Points drawn from a curve agree with it; points of a curve that is a quarter higher do not."""
        truth = 0.02 - 0.5 * fig14.STRENGTHS
        draws = 10**6
        data = xr.Dataset(
            {
                "tested": (("tested_series", "strength"), truth[None]),
                "tested_covariance": (("tested_series", "strength", "other"), np.diag(truth / draws)[None]),
            },
            coords={"tested_series": ["here"]},
            attrs={"draws": draws},
        )
        rng = np.random.default_rng(6)
        same = rng.binomial(fig14.PUBLISHED_DRAWS, truth) / fig14.PUBLISHED_DRAWS
        other = rng.binomial(fig14.PUBLISHED_DRAWS, 1.25 * truth) / fig14.PUBLISHED_DRAWS
        verdicts = [fig14._against_points(data, "here", points[1:], "", "").agrees for points in (same, other)]
        assert verdicts == [True, False]

    def test_strengths_are_the_published_ones(self) -> None:
        for strength, fraction in published_curves("fig14")["main"].values():
            np.testing.assert_allclose(strength, fig14.STRENGTHS, atol=1e-12)
            counts = 2 * fig14.PUBLISHED_DRAWS * fraction  # whole numbers; 492.5 is the mean of two draws
            np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)


class TestAtlas:
    def test_gates_make_the_rule(self) -> None:
        for number in range(256):
            (minus, negate_minus), (plus, negate_plus) = atlas.gates_of(number)
            for own, gate, negated in ((-1, minus, negate_minus), (1, plus, negate_plus)):
                for left in (-1, 1):
                    for right in (-1, 1):
                        bit = (atlas.TABLES[gate] >> ((left + 1) + (right + 1) // 2)) & 1
                        output = CellularAutomaton(number)([left, own, right])[1]
                        assert output == (2 * (int(bit) ^ negated) - 1)

    def test_partners(self) -> None:
        for number in range(256):
            (minus, negate_minus), (plus, negate_plus) = atlas.gates_of(number)
            mirrored = atlas.gates_of(CellularAutomaton(number).reflect().number)
            assert mirrored == ((atlas.MIRRORED[minus], negate_minus), (atlas.MIRRORED[plus], negate_plus))
            flipped = atlas.gates_of(CellularAutomaton(number).complement().number)
            assert flipped[0][0] == atlas.FLIPPED[plus]
            assert flipped[1][0] == atlas.FLIPPED[minus]

    def test_student_knows_24_classes(self) -> None:
        pairs = {tuple(sorted(gate for gate, _ in atlas.gates_of(number))) for number in range(256)}
        assert len(pairs) == 36
        classes = {min(pair, tuple(sorted(atlas.MIRRORED[list(pair)].tolist()))) for pair in pairs}
        assert len(classes) == 24

    @pytest.mark.parametrize("l1", [0.0, 0.002])
    @pytest.mark.parametrize("number", [30, 45, 90, 105, 110, 124, 150, 184, 232, 1])
    def test_a_rule_is_solved_where_both_gates_are(self, number: int, l1: float) -> None:
        """Directly: train and certify the rule itself."""
        tensors, rule = coned(), CellularAutomaton(number)
        solved, _ = atlas._solved_gates(tensors, (l1,))
        classifiers = gaussian.stationary_classifiers(tensors.attention, rule, l1=l1, l2=0.0)
        direct = ThermodynamicLimit(tensors.attention, rule).certify_many(classifiers).generalises
        (minus, _), (plus, _) = atlas.gates_of(number)
        assert (direct == (solved[0, minus] & solved[0, plus])).all()
        assert 0 < direct.sum() < len(tensors)

    @pytest.mark.parametrize("gate", range(8))
    def test_separable_by_linear_programming(self, gate: int) -> None:
        """The corners of the context cones, from the limit's own list, as constraints on a free classifier."""
        tensors = coned().take(np.arange(150))
        rule = atlas.gate_rule(gate, gate)
        engine = ThermodynamicLimit(tensors.attention, rule)._planar
        corners = engine.normals[:, :, :4]  # the half of cells −1: the other one is the same
        corners = corners[:, np.abs(corners).max(axis=(0, 2)) > 0]
        expected = [feasible(each / np.linalg.norm(each, axis=1, keepdims=True)) for each in corners]
        found = atlas.separable(tensors)
        assert found[atlas.KIND[gate]].tolist() == expected
        if atlas.KIND[gate] == 2:  # control: disjoint arcs alone do not make an AND
            assert found[1].tolist() != expected

    def test_cross_ratio_is_the_same_on_both_sides(self) -> None:
        """The 2e-10 is rounding, 1e-15, over the smallest distance of arcs among these tensors, some 1e-5."""
        disjoint, ratio = atlas.cross_ratios(coned())
        assert (disjoint[0] == disjoint[1]).all()
        assert 0.5 < disjoint[0].mean() < 0.95
        np.testing.assert_allclose(ratio[0], ratio[1], rtol=2e-10)

    def test_learned_gates_are_separable(self) -> None:
        tensors = coned()
        solved, undecided = atlas._solved_gates(tensors, (0.0, 0.001))
        assert undecided == 0
        assert not (solved & ~atlas.separable(tensors)[atlas.KIND]).any()

    def test_mirrored_tensors_solve_mirrored_gates(self) -> None:
        tensors = coned()
        solved, _ = atlas._solved_gates(tensors, (0.0,))
        swapped = gaussian.RealPairs(np.swapaxes(tensors.tensors, -1, -2), tensors.right, tensors.left)
        other, _ = atlas._solved_gates(swapped, (0.0,))
        assert (solved[0][atlas.MIRRORED] == other[0]).all()
        assert (solved[0] != other[0]).any()

    def test_paired_difference(self) -> None:
        """Against NumPy's standard error of per-tensor differences, which differs by the square of the mean."""
        rng = np.random.default_rng(0)
        one, other = (rng.random((2, 500)) < p for p in (0.4, 0.5))
        difference, stderr = atlas._paired(one, other, 500)
        each = (one[0] & one[1]).astype(float) - (other[0] & other[1])
        assert difference[0, 1] == pytest.approx(each.mean(), abs=1e-14)
        assert stderr[0, 1] ** 2 == pytest.approx((each.var() + each.mean() ** 2) / 500, rel=1e-12)

    def test_rule_30_is_that_of_figure_14(self) -> None:
        """Two independent draws of the same probability."""
        here, there = (
            float(toy("atlas")["fraction"].sel(penalty="none", rule=30)),
            float(toy("fig14")["certified"][0, 0]),
        )
        mean = (here + there) / 2
        assert abs(here - there) < 4.5 * np.sqrt(2 * mean / 1000)
        assert float(toy("atlas")["fraction"].sel(penalty="none", rule=0)) > 2 * mean  # control: another rule


@pytest.fixture(scope="module")
def trained() -> tuple[Attention, float, int]:
    return fig12.train_attention(np.random.default_rng(0))


class TestFigure12:
    def test_gradient(self) -> None:
        """Central differences; a step of 1e-5 is wrong by some 1e-10 and rounding adds 1e-16/1e-5."""
        theta = np.random.default_rng(1).standard_normal(72)
        _, gradient = fig12.attention_loss(theta)
        step = 1e-5 * np.eye(72)
        expected = [(fig12.attention_loss(theta + s)[0] - fig12.attention_loss(theta - s)[0]) / 2e-5 for s in step]
        np.testing.assert_allclose(gradient, expected, atol=1e-8 * np.abs(gradient).max() + 1e-10)
        assert np.abs(gradient).max() > 1e-3

    def test_loss_against_ridge_regression(self) -> None:
        """Contexts word by word, features written out, ridge by the normal equations."""
        theta = np.random.default_rng(2).standard_normal(72)
        tensors = theta.reshape(2, 6, 6) ** 2
        contexts = {"left": [], "right": []}
        words = (all_inputs(4) + 1) // 2
        for word in words:
            left = right = np.ones(6)
            for symbol in [0] * fig12.PADDING + word.tolist():
                left, right = left @ tensors[symbol], tensors[symbol] @ right
            contexts["left"].append(left / np.linalg.norm(left))
            contexts["right"].append(right / np.linalg.norm(right))
        features, labels = [], []
        for left, a in zip(contexts["left"], words[:, -1], strict=True):
            for own in range(2):
                for right, b in zip(contexts["right"], words[:, -1], strict=True):
                    z = np.zeros((2, 6, 6))
                    z[own] = np.outer(left, right)
                    features.append(z.ravel())
                    labels.append(CellularAutomaton(30)([2 * a - 1, 2 * own - 1, 2 * b - 1])[1])
        x, y = np.array(features), np.array(labels, dtype=float)
        weights = np.linalg.solve(x.T @ x / len(y) + fig12.RIDGE * np.eye(72), x.T @ y / len(y))
        loss = ((x @ weights - y) ** 2).mean() + fig12.RIDGE * weights @ weights
        assert fig12.attention_loss(theta)[0] == pytest.approx(loss, rel=1e-10)  # condition number 1e3

    def test_trained_attention_generalises(self, trained: tuple[Attention, float, int]) -> None:
        attention, margin, iterations = trained
        assert margin >= fig12.MARGIN
        assert iterations < fig12.ITERATIONS
        classifier = fig12._flow(attention).stationary().reshape(2, 6, 6)
        rule = fig12.RULE
        assert (
            attention.scores_of_all(10, classifier) * rule(all_inputs(10)) >= margin * np.linalg.norm(classifier)
        ).all()
        strings = np.random.default_rng(3).choice([-1, 1], size=(20, 300))
        assert (attention.scores(strings, classifier) * rule(strings) > 0).all()

    def test_untrained_attention_does_not(self) -> None:
        assert all(
            fig12._margin(fig12._attention(np.random.default_rng(seed).standard_normal(72))) == 0 for seed in range(5)
        )

    def test_stationary_point_has_the_papers_penalty(self, trained: tuple[Attention, float, int]) -> None:
        """Mean over inputs of the sum over three cells without ½, plus λ₂/2 |w|²: its gradient vanishes."""
        attention = trained[0]
        features = attention.features_of_all(3).reshape(8, 3, 72)
        w = fig12._flow(attention).stationary()
        residual = features @ w - fig12.RULE(all_inputs(3))
        gradient = 2 * np.einsum("nc,ncf->f", residual, features) / 8 + fig12.L2 * w
        np.testing.assert_allclose(gradient, 0, atol=1e-12)

    def test_times(self) -> None:
        """All cells of all inputs of length 9 are right just after; before, some cell of some input is not."""
        data = toy("fig12")
        attention = Attention(data["tensors"].values)
        flow, limit = fig12._flow(attention), ThermodynamicLimit(attention, fig12.RULE)
        initial = np.random.default_rng(8).standard_normal((5, 72))
        features = attention.features_of_all(9).reshape(-1, 72) * fig12.RULE(all_inputs(9)).reshape(-1, 1)
        for start in initial:
            time = limit.zero_test_time(flow, start)
            after, before = flow.weights([time * (1 + 1e-6), time * (1 - 1e-3)], start)
            assert (features @ after > 0).all()
            assert limit.certify(before.reshape(2, 6, 6)).generalises is False

    def test_shown_runs_are_the_quantiles(self) -> None:
        data = toy("fig12")
        gap = (data["zero_test_time"] - data["zero_train_time"]).values
        assert (gap >= 0).all()
        assert gap[data["shown_run"].values].tolist() == np.sort(gap)[[3, 2, 0]].tolist()  # of four: 0.9, 0.5, 0.1
        assert (data["test_error"].values[:, -1] == 0).all()
        assert ((24 * data["train_error"].values) % 1 < 1e-9).all()

    def test_published_times(self) -> None:
        times = [fig12._times(panel) for panel in published_curves("fig12").values()]
        np.testing.assert_allclose(times, [(1.64, 8.22), (3.16, 5.67), (2.16, 2.51)], atol=0.01)  # read by eye
