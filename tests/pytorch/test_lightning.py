"""Callbacks for Lightning: against a stand-in that calls what Lightning calls, and against Lightning itself."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import xarray as xr  # noqa: E402
from small_models import DIGITS, Perceptron, hooks, modular_addition, same  # noqa: E402
from torch import nn  # noqa: E402

import grokphase as gp  # noqa: E402
from grokphase.torch import SpikeRule, TransitionMonitor  # noqa: E402
from grokphase.torch.lightning import SpikeGuardCallback, TransitionCallback  # noqa: E402

RULE = SpikeRule(window=10)


@pytest.fixture
def data():
    return modular_addition(torch.Generator().manual_seed(0))


class StandIn:
    """Calls callbacks in Lightning's order: state from the checkpoint, train start, every batch."""

    def __init__(self, module, data, callbacks, accumulate=1):
        self.module, self.callbacks, self.accumulate = module, callbacks, accumulate
        self.inputs, self.targets = data[0]
        self.optimizers = [torch.optim.Adam(module.parameters(), lr=0.01)]
        scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizers[0], 0.999)
        self.lr_scheduler_configs = [SimpleNamespace(scheduler=scheduler)]
        self.global_step, self.is_global_zero = 0, True

    def fit(self, batches, states=None, spoil=None, returns_loss=True):
        for callback, state in zip(self.callbacks, states or [], strict=False):
            callback.load_state_dict(state)
        for callback in self.callbacks:
            callback.on_train_start(self, self.module)
        for index in range(batches):
            loss = nn.functional.cross_entropy(self.module(self.inputs), self.targets) / self.accumulate
            loss.backward()
            if (index + 1) % self.accumulate == 0:
                self.optimizers[0].step()
                self.optimizers[0].zero_grad()
                self.lr_scheduler_configs[0].scheduler.step()
                self.global_step += 1
            if spoil is not None and index == spoil:
                loss = loss * float("nan")
            for callback in self.callbacks:
                outputs = {"loss": loss.detach()} if returns_loss else None
                callback.on_train_batch_end(self, self.module, outputs, None, index)


def test_monitor_records_steps_and_the_sum_of_accumulated_losses(data):
    torch.manual_seed(0)
    module = nn.Linear(2 * DIGITS, DIGITS)
    callback = TransitionCallback(train=data[0], test=data[1], features=module, schedule=[1, 4])
    assert callback.monitor is None
    assert callback.state_dict() == {}
    first = nn.functional.cross_entropy(module(data[0][0]), data[0][1]).item()
    StandIn(module, data, [callback], accumulate=3).fit(14)
    runs = callback.monitor.dataset()
    assert runs["time"].values.tolist() == [1, 4]
    assert runs["train_loss"].values[0, 0] == pytest.approx(first, rel=1e-6)  # single precision


def test_guard_takes_back_optimiser_and_schedule(data):
    torch.manual_seed(0)
    module = nn.Linear(2 * DIGITS, DIGITS)
    callback = SpikeGuardCallback(data[1][0], features=module, every=1, rule=RULE)
    trainer = StandIn(module, data, [callback])
    trainer.fit(26, spoil=24)
    [event] = callback.guard.events
    assert (event.action, event.step, event.back_to) == ("rolled back", 25, 20)
    torch.manual_seed(0)
    bare = StandIn(nn.Linear(2 * DIGITS, DIGITS), data, [])
    bare.fit(21)  # twenty, and the one step after going back
    assert same(module.state_dict(), bare.module.state_dict())
    assert same(trainer.optimizers[0].state_dict(), bare.optimizers[0].state_dict())
    schedules = [each.lr_scheduler_configs[0].scheduler.state_dict() for each in (trainer, bare)]
    assert schedules[0] == schedules[1]
    assert schedules[0]["last_epoch"] == 21


def test_states_go_through_checkpoints(data):
    torch.manual_seed(0)
    module = nn.Linear(2 * DIGITS, DIGITS)
    callbacks = [
        TransitionCallback(train=data[0], test=data[1], features=module, schedule=10, budget=None),
        SpikeGuardCallback(data[1][0], features=module, every=1, rule=RULE),
    ]
    trainer = StandIn(module, data, callbacks)
    trainer.fit(20)
    states = [callback.state_dict() for callback in callbacks]
    assert len(states[0]["records"]["time"]) == 11
    trainer.fit(15, states=states, spoil=12)
    times = callbacks[0].monitor.dataset()["time"].values
    assert times.tolist() == [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32]
    assert [event.step for event in callbacks[1].guard.events] == [33]
    fresh = TransitionCallback(train=data[0], test=data[1], features=module)
    fresh.load_state_dict(states[0])
    assert fresh.state_dict() == states[0]  # saved again before training starts


def test_other_processes_and_lost_losses(data):
    torch.manual_seed(0)
    module = nn.Linear(2 * DIGITS, DIGITS)
    callback = TransitionCallback(train=data[0], test=data[1], features=module)
    trainer = StandIn(module, data, [callback])
    trainer.is_global_zero = False
    trainer.fit(3)
    with pytest.raises(ValueError, match="no record yet"):
        callback.monitor.dataset()
    trainer.is_global_zero = True
    trainer.fit(3, returns_loss=False)
    assert np.isnan(callback.monitor.dataset()["train_loss"]).all()
    guard = SpikeGuardCallback(data[1][0], features=module)
    with pytest.raises(ValueError, match="training_step must return the loss"):
        StandIn(module, data, [guard]).fit(1, returns_loss=False)


# --- the real one ---


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def pl(request):
    pl = pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    if not issubclass(TransitionCallback, pl.Callback):
        pytest.skip("the callbacks were made for the other Lightning")
    return pl


def module_of(pl, seed):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = Perceptron()

        def training_step(self, batch, index):
            inputs, targets = batch
            loss = nn.functional.cross_entropy(self.network(inputs), targets)
            spoiled = getattr(self, "spoil", None) == self.global_step
            return loss * float("nan") if spoiled else loss

        def forward(self, inputs):
            return self.network(inputs)

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 10)]

    torch.manual_seed(seed)
    return Module()


def trainer_of(pl, folder, callbacks, steps):
    checkpoints = pl.callbacks.ModelCheckpoint(folder, filename="{step}", every_n_train_steps=30, save_top_k=-1)
    return pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        callbacks=[*callbacks, checkpoints],
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def loader(data):
    pairs = torch.utils.data.TensorDataset(*data[0])
    return torch.utils.data.DataLoader(pairs, batch_size=8, shuffle=False)


@pytest.mark.filterwarnings("ignore")
def test_lightning_monitor(pl, data, tmp_path):
    """Weights unchanged, although dropout draws random numbers; and the same again from a checkpoint."""

    def fitted(folder, checkpoint=None, watched=True):
        module = module_of(pl, 0)
        callback = TransitionCallback(train=data[0], test=data[1], features="network.hidden", budget=None)
        torch.manual_seed(1)
        trainer = trainer_of(pl, tmp_path / folder, [callback] if watched else [], 60)
        trainer.fit(module, loader(data), ckpt_path=checkpoint)
        return module, callback

    module, callback = fitted("a")
    runs = callback.monitor.dataset()
    assert gp.measure(runs).runs is not None
    assert hooks(module) == 0
    unwatched, _ = fitted("b", watched=False)
    assert same(module.state_dict(), unwatched.state_dict())

    _, again = fitted("c", checkpoint=next((tmp_path / "a").glob("*30.ckpt")))
    repeated, before = again.monitor.dataset(), slice(0, 30)
    assert repeated["time"].values.tolist() == runs["time"].values.tolist()
    xr.testing.assert_identical(repeated.sel(time=before), runs.sel(time=before))


@pytest.mark.filterwarnings("ignore")
def test_lightning_monitor_records_what_a_plain_loop_does(pl, data, tmp_path):
    def made():
        module = module_of(pl, 0)
        module.network.dropout.p = 0.0  # random numbers are drawn elsewhere too
        return module, {"train": data[0], "test": data[1], "features": "network.hidden", "budget": None}

    module, options = made()
    callback = TransitionCallback(**options)
    trainer_of(pl, tmp_path, [callback], 60).fit(module, loader(data))

    plain, options = made()
    monitor = TransitionMonitor(plain, **options)
    [optimizer], [scheduler] = plain.configure_optimizers()
    batches = list(loader(data))
    for step in range(60):
        inputs, targets = batches[step % len(batches)]
        loss = nn.functional.cross_entropy(plain(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.step(loss)
        if (step + 1) % len(batches) == 0:
            scheduler.step()
    assert same(plain.state_dict(), module.state_dict())
    found, expected = callback.monitor.dataset(), monitor.dataset()
    xr.testing.assert_identical(found, expected)


@pytest.mark.filterwarnings("ignore")
def test_lightning_guard(pl, data, tmp_path):
    """A loss that is not finite in step 45: back to the state after step 40, which a checkpoint of its own confirms."""
    module = module_of(pl, 0)
    module.spoil = 44
    guard = SpikeGuardCallback(data[1][0], features="network.hidden", every=1, rule=RULE)
    seen = {}

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            states = [pl_module.state_dict(), trainer.optimizers[0].state_dict()]
            seen[trainer.global_step] = [
                tensor.clone() for state in (states[0], *states[1]["state"].values()) for tensor in state.values()
            ]

    trainer = trainer_of(pl, tmp_path, [guard, Watch()], 50)
    trainer.fit(module, loader(data))
    [event] = guard.guard.events
    assert (event.action, event.step, event.back_to) == ("rolled back", 45, 40)
    assert same(seen[45], seen[40])
    assert not same(seen[44], seen[40])
    assert trainer.global_step == 50
