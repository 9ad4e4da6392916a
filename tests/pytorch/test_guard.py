"""The guard goes back exactly, and only where a spike complicated the representation."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from small_models import hooks, same  # noqa: E402
from torch import nn  # noqa: E402

from grokphase.torch import SpikeEvent, SpikeGuard, SpikeRule  # noqa: E402

RULE = SpikeRule(window=20, patience=100)


class Training:
    """Two layers that learn the sign of the first input, from minibatches out of a generator of their own."""

    def __init__(self, seed=0, rate=0.02, batch=128):
        torch.manual_seed(seed)
        self.inputs = torch.randn(256, 8)
        self.inputs[:, 1:] *= 0.3
        self.targets = (self.inputs[:, :1] > 0).float()
        self.model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.Tanh(), nn.Linear(16, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0)
        self.generator = torch.Generator().manual_seed(seed)
        self.batch = batch

    def guard(self, **options):
        options = {"rule": RULE, "every": 1, "features": "0", **options}
        return SpikeGuard(self.model, self.optimizer, self.inputs, **options)

    def step(self):
        chosen = torch.randint(len(self.targets), (self.batch,), generator=self.generator)
        loss = nn.functional.binary_cross_entropy_with_logits(self.model(self.inputs[chosen]), self.targets[chosen])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return loss

    def state(self):
        return [self.model.state_dict(), self.optimizer.state_dict()]

    @torch.no_grad()
    def break_representation(self, weight):
        """Exchange the first layer, so that the loss spikes and training has to recover."""
        self.model[0].weight.copy_(weight)


def isotropic():
    """Eight equally long, orthogonal directions for inputs scaled as above: D_eff = 8 on average."""
    basis = torch.linalg.qr(torch.randn(16, 8, generator=torch.Generator().manual_seed(1)))[0]
    return 3 * basis / torch.tensor([1.0] + [0.3] * 7)


def one_directional():
    """The first input with the wrong sign, all others left out: D_eff = 1."""
    weight = torch.zeros(16, 8)
    weight[:, 0] = -torch.randn(16, generator=torch.Generator().manual_seed(1))
    return weight


def played(training, guard, steps, at=None, weight=None):
    """States after every step and what the guard said, with the representation exchanged once."""
    states, events = [], []
    for step in range(1, steps + 1):
        if step == at:
            training.break_representation(weight)
        loss = training.step()
        events.append(guard.step(loss))
        states.append([tensor.clone() for part in training.state() for tensor in _tensors(part)])
    return states, [event for event in events if event is not None]


def _tensors(state):
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else []
    return [tensor for value in values for tensor in _tensors(value)]


def test_goes_back_where_the_representation_was_complicated():
    training = Training()
    guard = training.guard()
    states, events = played(training, guard, 200, at=101, weight=isotropic())
    [event] = events
    assert (event.action, event.effect) == ("rolled back", "complicated")
    assert event.dimension_after > 1.5 * event.dimension_before
    assert event.height > 2
    assert event.back_to < 100 < event.step
    assert same(states[event.step - 1], states[event.back_to - 1])  # weights and optimiser, to the last bit
    assert not same(states[event.step - 2], states[event.back_to - 1])
    assert guard.events == events
    assert hooks(training.model) == 0


def test_snapshots_do_not_change_with_the_training_that_goes_on_from_them():
    """An optimiser would go on in the very tensors that it is given."""
    training = Training()
    guard = training.guard()
    played(training, guard, 60)
    training.step()
    assert guard.step(float("nan")).action == "rolled back"
    snapshots = guard.state_dict()["snapshots"]
    before = [tensor.clone() for tensor in _tensors(snapshots)]
    assert len(before) > 10
    played(training, guard, 5)
    assert same(before, _tensors(snapshots))


def test_keeps_going_where_it_was_simplified():
    training = Training()
    training.break_representation(isotropic())
    states, events = played(training, training.guard(), 200, at=101, weight=one_directional())
    [event] = events
    assert (event.action, event.effect, event.back_to) == ("kept", "simplified", None)
    assert event.dimension_after < event.dimension_before
    # No state comes back: training went on as without a guard.
    bare = Training()
    bare.break_representation(isotropic())
    for step in range(1, 201):
        if step == 101:
            bare.break_representation(one_directional())
        bare.step()
    assert same(states[-1], bare.state())


def test_changes_nothing_while_nothing_happens():
    training, bare = Training(), Training()
    guard = training.guard()
    for _ in range(100):
        guard.step(training.step())
        bare.step()
    assert guard.events == []
    assert same(training.state(), bare.state())


@pytest.mark.parametrize("broken", ["loss", "weights"])
def test_recovers_from_what_is_not_finite(broken):
    """With its generator taken back too, training then is what it would have been without."""
    training = Training()
    guard = training.guard(generators=[training.generator], also=[training.scheduler])
    undisturbed = Training()
    events = []
    for step in range(1, 151):
        loss = training.step()
        if step == 77:
            if broken == "weights":
                with torch.no_grad():
                    training.model[2].bias.fill_(float("nan"))
            else:
                loss = torch.tensor(float("inf"))
        events.append(guard.step(loss))
    [event] = [event for event in events if event is not None]
    assert (event.action, event.effect) == ("rolled back", "not finite")
    assert event.step == (78 if broken == "weights" else 77)  # the loss is of the weights before
    assert event.height == np.inf
    for _ in range(event.back_to + 150 - event.step):
        undisturbed.step()
    assert same(training.state(), undisturbed.state())
    assert torch.equal(training.generator.get_state(), undisturbed.generator.get_state())
    assert training.scheduler.state_dict()["last_epoch"] == undisturbed.scheduler.state_dict()["last_epoch"]
    assert all(parameter.grad is not None for parameter in training.model.parameters())


def spiking_schedule(training):
    """A learning rate that is far too large for two steps, and only those."""
    training.scheduler = torch.optim.lr_scheduler.LambdaLR(
        training.optimizer, lambda step: 300.0 if step in (100, 101) else 1.0
    )


def test_a_spike_that_repeats_itself_is_let_pass_in_the_end():
    """Schedule and batches are taken back, so the same spike comes again; from the same snapshot, still unharmed."""
    training = Training()
    spiking_schedule(training)
    rule = SpikeRule(window=20, patience=60, max_rollbacks=2, tolerance=0.0)
    seen = []
    guard = training.guard(
        rule=rule,
        also=[training.scheduler],
        generators=[training.generator],
        on_rollback=lambda event: seen.append((event, training.state()[0]["0.weight"].clone())),
    )
    _, events = played(training, guard, 400)
    assert [event.action for event in events] == ["rolled back", "rolled back", "gave up"]
    assert events[0].back_to < 100
    assert [event for event, _ in seen] == events[:2]
    assert torch.equal(seen[0][1], seen[1][1])
    assert events[0].dimension_after == events[1].dimension_after  # it repeated itself to the last bit


def test_a_schedule_that_goes_on_does_not_repeat_it():
    training = Training()
    spiking_schedule(training)
    rule = SpikeRule(window=20, patience=60, tolerance=0.0)
    _, events = played(training, training.guard(rule=rule), 400)
    assert [event.action for event in events] == ["rolled back"]


@pytest.mark.parametrize("interruption", [60, 104, 107, 130])
def test_goes_on_after_an_interruption(interruption, tmp_path):
    """In calm, in the spike, before the decision and after it: as if there had been none."""

    def parts(training):
        return {"model": training.model, "optimizer": training.optimizer, "scheduler": training.scheduler}

    def run(training, guard, steps):
        for step in steps:
            if step == 101:
                training.break_representation(isotropic())
            guard.step(training.step())

    whole = Training()
    guard = whole.guard(also=[whole.scheduler], generators=[whole.generator], every=2)
    run(whole, guard, range(1, interruption + 1))
    checkpoint = {name: part.state_dict() for name, part in parts(whole).items()}
    checkpoint |= {"generator": whole.generator.get_state(), "guard": guard.state_dict()}
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    run(whole, guard, range(interruption + 1, 301))
    assert [event.action for event in guard.events] == ["rolled back"]

    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    resumed = Training(seed=3)
    resumed.inputs, resumed.targets = whole.inputs, whole.targets
    for name, part in parts(resumed).items():
        part.load_state_dict(checkpoint[name])
    resumed.generator.set_state(checkpoint["generator"])
    again = resumed.guard(also=[resumed.scheduler], generators=[resumed.generator], every=2)
    again.load_state_dict(checkpoint["guard"])
    run(resumed, again, range(interruption + 1, 301))
    assert again.events == guard.events
    assert all(isinstance(event, SpikeEvent) for event in again.events)
    assert same(resumed.state(), whole.state())


def test_a_state_of_something_else_is_refused():
    training = Training()
    state = training.guard().state_dict()
    with pytest.raises(ValueError, match="same rule and every"):
        training.guard(every=3).load_state_dict(state)
    with pytest.raises(ValueError, match="same rule and every"):
        training.guard(rule=SpikeRule()).load_state_dict(state)
    with pytest.raises(ValueError, match="state must hold 3 parts and 0 generators, it holds 2 and 0"):
        training.guard(also=[training.scheduler]).load_state_dict(state)


def test_record_is_the_mean_of_its_steps():
    """Five steps a record: one loss of 11 among ones of 1 is a mean of 3, a spike; one of 4 is not."""
    for peak, count in ((11.0, 1), (4.0, 0)):
        training = Training()
        guard = training.guard(every=5, rule=SpikeRule(window=10))
        for step in range(1, 151):
            guard.step(torch.tensor(peak, dtype=torch.bfloat16) if step == 100 else 1.0)
        assert len(guard.events) == count
        assert all(event.step % 5 == 0 and event.height == pytest.approx(3.0) for event in guard.events)


def test_more_than_one_optimiser_and_other_generators():
    training = Training()
    training.optimizer = [
        torch.optim.SGD(training.model[0].parameters(), lr=0.1, momentum=0.9),
        torch.optim.Adam(training.model[2].parameters()),
    ]
    numbers = np.random.default_rng(0)
    guard = training.guard(generators=[numbers], device="cpu")
    saved = []
    for step in range(1, 51):
        loss = nn.functional.binary_cross_entropy_with_logits(training.model(training.inputs), training.targets)
        for optimizer in training.optimizer:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in training.optimizer:
            optimizer.step()
        numbers.random()
        tensors = [t.clone() for part in (training.model, *training.optimizer) for t in _tensors(part.state_dict())]
        saved.append((tensors, numbers.bit_generator.state))
        event = guard.step(loss if step < 50 else float("nan"))
    now = [tensor for part in (training.model, *training.optimizer) for tensor in _tensors(part.state_dict())]
    assert same(now, saved[event.back_to - 1][0])
    assert numbers.bit_generator.state == saved[event.back_to - 1][1]
    assert all(parameter.grad is None for parameter in training.model.parameters())


def test_nothing_to_measure_is_no_reason_to_go_back():
    """A representation that collapses to a point has no dimension: unclear."""
    training = Training()
    guard = training.guard()
    for step in range(1, 81):
        training.step()
        if step >= 51:
            with torch.no_grad():
                training.model[0].weight.zero_()
        guard.step(5.0 if 51 <= step < 55 else 0.1)
    [event] = guard.events
    assert (event.action, event.effect) == ("kept", "unclear")
    assert np.isnan(event.dimension_after)


def test_versions_of_modules_survive_a_snapshot():
    """load_state_dict reads a hidden attribute of what state_dict gave; without it, old layouts are assumed."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    guard = SpikeGuard(model, torch.optim.SGD(model.parameters(), lr=0.1), torch.zeros(4, 2), features="0")
    kept = guard.state_dict()["snapshots"][0][0][0]
    assert kept._metadata == model.state_dict()._metadata
    assert kept["1.running_mean"] is not model.state_dict()["1.running_mean"]


@pytest.mark.parametrize("probe", ["tensor", "tuple", "mapping", "function"])
def test_probes_of_many_kinds(probe):
    training = Training()
    inputs = training.inputs
    given = {
        "tensor": inputs,
        "tuple": (inputs,),
        "mapping": {"input": inputs},
        "function": lambda: training.model(inputs),
    }[probe]
    guard = SpikeGuard(training.model, training.optimizer, given, features="0", every=1, rule=RULE)
    for step in range(1, 60):
        event = guard.step(5.0 if 40 <= step < 43 else 0.1) or (guard.events[0] if guard.events else None)
    with torch.no_grad():
        features = training.model[0](inputs).numpy()
    from grokphase import effective_dimension

    # Single precision activations of 256 samples.
    assert event.dimension_before == pytest.approx(float(effective_dimension(features)), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": 3}, "rule must be a SpikeRule"),
        ({"every": 0}, "every"),
        ({"measure_every": 0}, "measure_every"),
        ({"features": "x"}, "one of: 0, 1, 2"),
        ({"also": [3]}, "must have state_dict"),
        ({"generators": [3]}, "generators must be of torch or numpy"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Training().guard(**options)


def test_bad_use(monkeypatch):
    training = Training()
    with pytest.raises(ValueError, match="probe must be"):
        SpikeGuard(training.model, training.optimizer, [1.0], features="0")
    with pytest.raises(ValueError, match="loss must not be negative"):
        training.guard().step(-1.0)
    with pytest.raises(ValueError, match="loss must be a single number"):
        training.guard().step(torch.ones(2))
    with pytest.raises(ValueError, match="was not run by the evaluation"):
        SpikeGuard(training.model, training.optimizer, lambda: None, features="0", every=1).step(1.0)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="one process"):
        training.guard()
