"""The monitor records what is so, changes nothing, and goes on after an interruption."""

import random
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import xarray as xr  # noqa: E402
from small_models import DIGITS, Perceptron, hooks, modular_addition, same  # noqa: E402
from torch import nn  # noqa: E402

import grokphase as gp  # noqa: E402
from grokphase.torch import TransitionMonitor, log_spaced  # noqa: E402
from grokphase.torch import monitor as monitor_module  # noqa: E402


@pytest.fixture
def data():
    return modular_addition(torch.Generator().manual_seed(0))


class Training:
    """Minibatches in an order drawn from the global generator, dropout from it as well."""

    def __init__(self, data, seed=0):
        torch.manual_seed(seed)
        self.inputs, self.targets = data[0]
        self.model = Perceptron()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, weight_decay=0.1)

    def step(self):
        chosen = torch.randperm(len(self.targets))[:16]
        loss = nn.functional.cross_entropy(self.model(self.inputs[chosen]), self.targets[chosen])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


def monitored(training, data, **options):
    options = {"train": data[0], "test": data[1], "features": "hidden", "budget": None, **options}
    return TransitionMonitor(training.model, **options)


def test_records_are_of_the_weights_after_the_step(data):
    """By hand, from copies: errors, loss and effective dimension of the whole test set."""
    training = Training(data)
    monitor = monitored(training, data, schedule=[1, 3, 10])
    expected = []
    for step in range(1, 12):
        loss = training.step()
        assert monitor.step(loss) == (step in (1, 3, 10))
        if step in (1, 3, 10):
            model = Perceptron()
            model.load_state_dict(training.model.state_dict())
            model.eval()
            errors = [(model(inputs).argmax(1) != targets).float().mean().item() for inputs, targets in data]
            dimension = gp.effective_dimension(model.hidden(data[1][0]).detach().numpy())
            expected.append([*errors, loss.item(), float(dimension)])
    runs = monitor.dataset()
    assert runs["time"].values.tolist() == [1, 3, 10]
    found = np.stack([runs[name].values[0] for name in runs.data_vars], axis=-1)
    assert list(runs.data_vars) == ["train_error", "test_error", "train_loss", "effective_dimension"]
    # Single precision: shares of 24 and 25, and a dimension from activations rounded to 6e-8 in 25 samples.
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert runs["test_error"].dims == ("member", "time")
    assert all({"long_name", "symbol", "units"} <= set(variable.attrs) for variable in runs.data_vars.values())


def test_changes_nothing_to_the_last_bit(data):
    """Although evaluating uses modes and random numbers of every kind, in the user's functions too."""

    def nosy(model=None):
        if model is not None:
            model(data[1][0])
        torch.rand(3), np.random.rand(), random.random()  # noqa: NPY002
        return 0.5

    states = []
    for watched in (False, True):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        training = Training(data)
        training.model.hidden[1].eval()  # frozen on its own: a mode that train() would not bring back
        monitor = monitored(training, data, test=partial(nosy, training.model), others={"x": nosy})
        for _ in range(60):
            loss = training.step()
            if watched:
                monitor.step(loss)
        modes = [module.training for module in training.model.modules()]
        drawn = [torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()]  # noqa: NPY002
        gradients = [parameter.grad for parameter in training.model.parameters()]
        states.append(([training.model.state_dict(), training.optimizer.state_dict(), gradients], modes, drawn))
    assert same(states[0][0], states[1][0])
    assert states[0][1:] == states[1][1:]
    assert len(monitor.dataset()["time"]) > 20


def test_the_comparison_would_notice(data):
    """The control: one more random number, and one evaluation in training mode."""
    states = []
    for disturb in (None, lambda model: torch.rand(1), lambda model: model(data[1][0])):
        training = Training(data)
        for _ in range(3):
            training.step()
            if disturb is not None:
                disturb(training.model)
        states.append(training.model.state_dict())
    assert not same(states[0], states[1])
    assert not same(states[0], states[2])


def test_no_hook_outlives_a_record(data):
    training = Training(data)
    monitor = monitored(training, data)
    seen = []
    watch = monitored(training, data, others={"hooks": lambda: seen.append(hooks(training.model)) or 0.0})
    for each in (monitor, watch):
        each.step(training.step())
        assert hooks(training.model) == 0

    def broken():
        seen.append(hooks(training.model))
        training.model(data[1][0])
        raise KeyboardInterrupt

    training.model.train()
    failing = monitored(training, data, test=broken)
    with pytest.raises(KeyboardInterrupt):
        failing.step(1.0)
    assert seen == [0, 1]  # only while the test error is evaluated
    assert hooks(training.model) == 0
    assert all(module.training for module in training.model.modules())
    with pytest.raises(ValueError, match="no record yet"):  # half a record is none
        failing.dataset()


def test_can_be_measured_and_put_together(data):
    """The effective dimension falls and the training error reaches zero, for each of three seeds."""
    datasets = []
    for seed in range(3):
        training = Training(data, seed)
        monitor = monitored(training, data, member=seed)
        for _ in range(300):
            monitor.step(training.step())
        datasets.append(monitor.dataset())
    runs = xr.concat(datasets, "member")
    assert dict(runs.sizes) == {"member": 3, "time": len(log_spaced(20, 300))}
    transition = gp.measure(runs)
    assert transition.zero_train_time.reached.all()
    errors = runs["train_error"].values
    for member, time in enumerate(transition.zero_train_time.value):
        assert time == runs["time"].values[np.flatnonzero(errors[member] == 0)[0]]
    assert gp.spikes(runs["train_loss"][0], runs["time"]) is not None
    assert "grokk" in transition.describe()


def test_goes_on_after_an_interruption(data, tmp_path):
    """A checkpoint read with torch.load's safe defaults; records made after it are made again, and the same."""
    whole, training = [], Training(data)
    monitor = monitored(training, data)
    for step in range(1, 81):
        monitor.step(training.step())
        if step == 50:
            checkpoint = {
                "model": training.model.state_dict(),
                "optimizer": training.optimizer.state_dict(),
                "monitor": monitor.state_dict(),
                "random": torch.get_rng_state(),
            }
            torch.save(checkpoint, tmp_path / "checkpoint.pt")
    whole = monitor.dataset()

    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    resumed = Training(data, seed=5)
    resumed.model.load_state_dict(checkpoint["model"])
    resumed.optimizer.load_state_dict(checkpoint["optimizer"])
    again = monitored(resumed, data)
    again.load_state_dict(checkpoint["monitor"])
    torch.set_rng_state(checkpoint["random"])
    for _ in range(30):
        again.step(resumed.step())
    xr.testing.assert_identical(again.dataset(), whole)

    monitor.load_state_dict(checkpoint["monitor"])  # back in the same process
    assert monitor.dataset()["time"].values[-1] == 50
    with pytest.raises(ValueError, match="same others"):
        monitored(resumed, data, others={"x": lambda: 0.0}).load_state_dict(checkpoint["monitor"])


def test_a_diverged_model_is_no_good_model(data):
    """Outputs that are NaN are wrong, even if the first class, which the largest NaN would be, is the target."""
    training = Training(data)
    inputs, targets = data[1]
    monitor = monitored(training, data, test=(inputs, torch.zeros_like(targets)))
    training.step()
    with torch.no_grad():
        for parameter in training.model.parameters():
            parameter.fill_(float("nan"))
    assert monitor.step(float("nan"))
    runs = monitor.dataset()
    assert runs["test_error"].item() == runs["train_error"].item() == 1
    assert np.isnan(runs["train_loss"].item())
    assert np.isnan(runs["effective_dimension"].item())


def test_a_representation_without_spread_has_no_dimension(data):
    training = Training(data)
    monitor = monitored(training, data)
    with torch.no_grad():
        training.model.hidden[0].weight.zero_()
    monitor.step()
    runs = monitor.dataset()
    assert np.isnan(runs["effective_dimension"].item())
    assert np.isnan(runs["train_loss"].item())  # none was handed over


def test_log_spaced():
    for per_decade in (1, 3, 20, 100):
        steps = log_spaced(per_decade, 10**6)
        exact = np.unique(np.round(10 ** (np.arange(6 * per_decade + 1) / per_decade)))
        assert steps == exact.tolist()
    assert log_spaced(5, 1) == [1]


def test_times_told_from_outside(data):
    """A trainer that reports every third step, and one whose time goes back."""
    training = Training(data)
    monitor = monitored(training, data, schedule=5)
    for step in range(3, 40, 3):
        monitor.step(1.0, step=step)
    times = monitor.dataset()["time"].values.tolist()
    assert times == [3, 6, 12, 18, 27]  # the first reported at or after 1, 4, 10 (6 serves 4 and 6), 16, 25
    assert not monitor.step(1.0, step=38)
    with pytest.raises(ValueError, match="later than the last record at 27"):
        monitor.step(1.0, step=20)
    monitor.record()
    with pytest.raises(ValueError, match="38 is recorded already"):
        monitor.record()


class Sequences(nn.Module):
    """Outputs of several kinds, with features of shape (batch, position, feature) and (batch, feature, position)."""

    def __init__(self, kind):
        super().__init__()
        self.embedding, self.head, self.kind = nn.Embedding(5, 6), nn.Linear(6, 4), kind

    def forward(self, tokens):
        scores = self.head(self.embedding(tokens))
        if self.kind == "channels":
            return scores.movedim(-1, 1)
        return {"tensor": scores, "tuple": (scores, None), "mapping": {"scores": scores}}[self.kind]


@pytest.mark.parametrize("kind", ["tensor", "tuple", "mapping", "channels"])
def test_outputs_of_many_shapes(kind):
    torch.manual_seed(0)
    model = Sequences(kind)
    tokens, targets = torch.randint(5, (30, 7)), torch.randint(4, (30, 7))
    pair = (tokens, targets)
    monitor = TransitionMonitor(model, train=pair, test=pair, features=model.embedding, samples=1000, budget=None)
    monitor.step()
    with torch.no_grad():
        cloud = model.embedding(tokens)
        error = (model.head(cloud).argmax(-1) != targets).float().mean().item()
    runs = monitor.dataset()
    assert runs["test_error"].item() == pytest.approx(error, rel=1e-6)
    # 210 samples in six dimensions: rounding is below 1e-6.
    expected = float(gp.effective_dimension(cloud.reshape(-1, 6).numpy()))
    assert runs["effective_dimension"].item() == pytest.approx(expected, rel=1e-6)
    axis = TransitionMonitor(
        model,
        train=pair,
        test=pair,
        features=model.embedding,
        feature_axis=1,
        select=lambda output: output.movedim(-1, 1),
        samples=1000,
    )
    axis.step()
    assert axis.dataset()["effective_dimension"].item() == pytest.approx(expected, rel=1e-6)


def test_subset_of_samples_is_the_same_every_time_and_does_not_follow_positions():
    """Positions differ in scale: a stride of seven would see one of them, and a dimension of six."""
    torch.manual_seed(0)
    scale = torch.tensor([1.0, 0, 0, 0, 0, 0, 0])[:, None]
    model = nn.Identity()
    sequences = torch.randn(300, 7, 6) * scale
    evaluate = lambda: (model(sequences), 0.0)[1]  # noqa: E731
    monitor = TransitionMonitor(model, train=evaluate, test=evaluate, features=model, samples=300, schedule=[1, 2])
    monitor.step()
    monitor.step()
    dimensions = monitor.dataset()["effective_dimension"].values[0]
    assert dimensions[0] == dimensions[1]
    assert 5 < dimensions[0] <= 6  # 43 of 300 rows vary: isotropic in six dimensions up to 1/√43


def test_one_hot_targets_and_many_batches():
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    inputs, targets = torch.randn(10000, 3), torch.randint(4, (10000,))
    one_hot = nn.functional.one_hot(targets, 4).float()
    monitor = TransitionMonitor(model, train=(inputs, targets), test=(inputs, one_hot), features=model)
    monitor.step()
    with torch.no_grad():
        error = (model(inputs).argmax(1) != targets).double().mean().item()
    runs = monitor.dataset()
    assert runs["train_error"].item() == runs["test_error"].item() == error


def test_records_beyond_the_budget_are_left_out(data, monkeypatch):
    """On a clock of our own: a step takes 1, a record 30; so 5 % allow one about every 600 steps."""
    now = [0.0]
    monkeypatch.setattr(monitor_module.time, "perf_counter", lambda: now[0])

    def slow():
        now[0] += 30
        return 0.5

    training = Training(data)
    within = monitored(training, data, train=slow, budget=0.05)
    for step in range(1, 3001):
        now[0] += 1
        if within.step(1.0) and step > 1:
            assert within.overhead <= 0.05
    times = within.dataset()["time"].values.astype(int).tolist()
    assert times[0] == 1
    assert set(times) <= set(log_spaced(20, 3000))
    # After n records and s steps, one more is afforded where 30 (n + 1) ≤ .05 (s + 30 (n + 1)).
    expected = [1]
    for step in log_spaced(20, 3000)[1:]:
        if 30 * (len(expected) + 1) <= 0.05 * (step + 30 * (len(expected) + 1)):
            expected.append(step)
    assert times == expected
    assert len(times) == 4


def test_steps_that_are_named_are_recorded_whatever_they_take(data):
    monitor = monitored(Training(data), data, schedule=[1, 2, 3], budget=1e-6)
    assert [monitor.step(1.0) for _ in range(4)] == [True, True, True, False]


def test_overhead_is_measured(data):
    training = Training(data)
    monitor = monitored(training, data)
    assert monitor.overhead == 0
    for _ in range(20):
        monitor.step(training.step())
    assert 0 < monitor.overhead < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "nonsense"}, "one of: hidden, hidden.0"),
        ({"features": nn.ReLU()}, "features must be a module of the model"),
        ({"train": 3}, "train must be a pair"),
        ({"test": (torch.zeros(3), torch.zeros(2))}, "as many inputs as targets, got 3 and 2"),
        ({"schedule": 0}, "schedule"),
        ({"schedule": []}, "schedule"),
        ({"schedule": [0, 1]}, "schedule"),
        ({"budget": 0}, "budget"),
        ({"budget": 5}, "budget"),
        ({"samples": 1}, "samples"),
        ({"feature_axis": 0.5}, "feature_axis"),
        ({"select": 1}, "select"),
        ({"others": {"test_error": lambda: 0}}, "names of their own"),
    ],
)
def test_bad_arguments(data, options, message):
    with pytest.raises(ValueError, match=message):
        monitored(Training(data), data, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": lambda: 0.5}, "'hidden' was not run by the evaluation"),
        ({"test": lambda: 1.5}, "test must return an error between 0 and 1, got 1.5"),
        ({"train": (torch.zeros(3, 2 * DIGITS), torch.zeros(3, 2))}, "train must have targets that number the outputs"),
        ({"select": lambda output: output[:, 0]}, "at least two axes"),
        ({"select": lambda output: output[:1]}, "single sample"),
    ],
)
def test_bad_evaluations(data, options, message):
    training = Training(data)
    with pytest.raises(ValueError, match=message):
        monitored(training, data, **options).step(1.0)
    with pytest.raises(ValueError, match="loss must be a single number"):
        monitored(training, data).step(torch.zeros(3))
