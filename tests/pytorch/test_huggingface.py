"""Callbacks for the Hugging Face Trainer: against a stand-in that calls what it calls, and against itself."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import xarray as xr  # noqa: E402
from small_models import DIGITS, hooks, modular_addition, same  # noqa: E402
from torch import nn  # noqa: E402

import grokphase as gp  # noqa: E402
from grokphase.torch import SpikeRule, TransitionMonitor  # noqa: E402
from grokphase.torch.huggingface import SpikeGuardCallback, TransitionCallback  # noqa: E402

RULE = SpikeRule(window=10)


@pytest.fixture
def data():
    return modular_addition(torch.Generator().manual_seed(0))


class Classifier(nn.Module):
    """Returns a loss where there are labels, as models of that library do."""

    def __init__(self, returns="mapping"):
        super().__init__()
        self.hidden, self.head, self.returns = nn.Linear(2 * DIGITS, 20), nn.Linear(20, DIGITS), returns
        self.dropout = nn.Dropout(0.1)

    def forward(self, inputs=None, labels=None):
        logits = self.head(self.dropout(self.hidden(inputs).relu()))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        if self.returns == "tuple":
            return (logits,) if loss is None else (loss, logits)
        if self.returns == "object":
            return SimpleNamespace(loss=loss, logits=logits)
        return {"logits": logits} if loss is None else {"loss": loss, "logits": logits}


class StandIn:
    """Calls callbacks in the library's order, with its keywords."""

    def __init__(self, model, data, callback, folder, parts=1):
        self.model, self.callback, self.parts = model, callback, parts
        self.inputs, self.targets = data[0]
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.99)
        self.args = SimpleNamespace(output_dir=str(folder))
        self.state = SimpleNamespace(global_step=0, is_world_process_zero=True)

    def call(self, event):
        more = {"model": self.model, "optimizer": self.optimizer, "lr_scheduler": self.scheduler}
        getattr(self.callback, event)(self.args, self.state, None, **more)

    def train(self, steps, spoil=None, labels=True, fail=None):
        self.call("on_train_begin")
        for _ in range(steps):
            self.model.train()
            for part in range(self.parts):
                chosen = slice(part, None, self.parts)
                output = self.model(self.inputs[chosen], self.targets[chosen] if labels else None)
                if labels:
                    output["loss"].backward() if isinstance(output, dict) else None
                if spoil == self.state.global_step:
                    self.callback._losses[-1] = torch.tensor(float("nan"))
            self.model.eval()
            self.model(self.inputs, self.targets)  # an evaluation, which is no step
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
            self.state.global_step += 1
            if fail == self.state.global_step:
                raise KeyboardInterrupt
            self.call("on_step_end")
        self.call("on_train_end")


def options(model, data, **more):
    return {"train": data[0], "test": data[1], "features": "hidden", "budget": None, **more}


@pytest.mark.parametrize("returns", ["mapping", "object", "tuple"])
def test_loss_is_the_mean_over_the_parts_of_a_step(data, tmp_path, returns):
    torch.manual_seed(0)
    model = Classifier(returns)
    model.dropout.p = 0.0
    callback = TransitionCallback(**options(model, data, schedule=[1]))
    assert callback.monitor is None
    parts = [
        nn.functional.cross_entropy(model.head(model.hidden(x).relu()), y).item()
        for x, y in ((data[0][0][part::3], data[0][1][part::3]) for part in range(3))
    ]
    StandIn(model, data, callback, tmp_path, parts=3).train(2)
    runs = callback.monitor.dataset()
    assert runs["train_loss"].item() == pytest.approx(np.mean(parts), rel=1e-6)  # single precision
    assert hooks(model) == 0


def test_guard_takes_back_optimiser_and_schedule(data, tmp_path):
    torch.manual_seed(0)
    model = Classifier()
    model.dropout.p = 0.0
    callback = SpikeGuardCallback({"inputs": data[1][0]}, features="hidden", every=1, rule=RULE)
    trainer = StandIn(model, data, callback, tmp_path)
    trainer.train(26, spoil=24)
    [event] = callback.guard.events
    assert (event.action, event.step, event.back_to) == ("rolled back", 25, 20)
    torch.manual_seed(0)
    bare = Classifier()
    bare.dropout.p = 0.0
    plain = StandIn(bare, data, TransitionCallback(**options(bare, data)), tmp_path)
    plain.train(21)
    assert same(model.state_dict(), bare.state_dict())
    assert same(trainer.optimizer.state_dict(), plain.optimizer.state_dict())
    assert trainer.scheduler.state_dict() == plain.scheduler.state_dict()
    assert trainer.scheduler.state_dict()["last_epoch"] == 21


def test_states_stay_in_checkpoint_folders(data, tmp_path):
    torch.manual_seed(0)
    model = Classifier()
    callback = TransitionCallback(**options(model, data, schedule=10))
    trainer = StandIn(model, data, callback, tmp_path)
    trainer.train(20)
    trainer.call("on_save")  # there is no folder, so nothing was saved
    assert not list(tmp_path.iterdir())
    (tmp_path / "checkpoint-20").mkdir()
    trainer.call("on_save")
    trainer.callback = TransitionCallback(**options(model, data, schedule=10))
    trainer.train(15)
    times = trainer.callback.monitor.dataset()["time"].values
    assert times.tolist() == [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32]

    trainer.callback = TransitionCallback(**options(model, data, schedule=10))
    with pytest.warns(UserWarning, match="checkpoint-35.*starts anew"):
        trainer.train(1)
    trainer.callback.load_state_dict(callback.monitor.state_dict())
    trainer.train(1)  # by hand, without a warning
    assert trainer.callback.monitor.dataset()["time"].values[0] == 1


def test_interrupted_training_leaves_one_hook_at_most(data, tmp_path):
    torch.manual_seed(0)
    model = Classifier()
    trainer = StandIn(model, data, TransitionCallback(**options(model, data)), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(5, fail=3)
    assert hooks(model) == 1
    trainer.state.global_step = 0
    trainer.train(2)
    assert hooks(model) == 0
    assert trainer.callback.monitor.dataset()["train_loss"].notnull().all()


def test_models_without_a_loss(data, tmp_path):
    model = Classifier()
    guard = SpikeGuardCallback(data[1][0], features="hidden")
    with pytest.raises(ValueError, match="the model must return a loss"):
        StandIn(model, data, guard, tmp_path).train(1, labels=False)
    callback = TransitionCallback(**options(model, data))
    StandIn(model, data, callback, tmp_path).train(3, labels=False)
    assert np.isnan(callback.monitor.dataset()["train_loss"]).all()


# --- the real one ---


@pytest.fixture
def transformers():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    assert issubclass(TransitionCallback, transformers.TrainerCallback)
    return transformers


def trained(transformers, data, folder, callbacks, steps, resume=None):
    torch.manual_seed(0)
    model = Classifier()
    rows = [{"inputs": x, "labels": y} for x, y in zip(*data[0], strict=True)]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        max_steps=steps,
        learning_rate=0.01,
        lr_scheduler_type="constant",
        save_steps=30,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.filterwarnings("ignore")
def test_trainer_monitor(transformers, data, tmp_path):
    """Weights unchanged, losses as the trainer logs them, and the same again from a checkpoint."""
    callback = TransitionCallback(**options(None, data))
    trainer = trained(transformers, data, tmp_path / "a", [callback], 60)
    runs = callback.monitor.dataset()
    assert gp.measure(runs).runs is not None
    assert hooks(trainer.model) == 0
    assert isinstance(callback.monitor, TransitionMonitor)
    unwatched = trained(transformers, data, tmp_path / "b", [], 60)
    assert same(trainer.model.state_dict(), unwatched.model.state_dict())
    logged = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    for time, loss in zip(runs["time"].values, runs["train_loss"].values[0], strict=True):
        assert loss == pytest.approx(logged[int(time)], abs=6e-5)  # which may be rounded to four digits

    again = TransitionCallback(**options(None, data))
    resumed = trained(transformers, data, tmp_path / "a", [again], 60, resume=str(tmp_path / "a" / "checkpoint-30"))
    xr.testing.assert_identical(again.monitor.dataset(), runs)
    assert same(resumed.model.state_dict(), trainer.model.state_dict())


@pytest.mark.filterwarnings("ignore")
def test_trainer_guard(transformers, data, tmp_path):
    """Weights that are not finite after step 45: noticed in step 46, back to those after step 40."""
    seen = {}

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, model=None, optimizer=None, **more):
            if state.global_step == 45:
                with torch.no_grad():
                    model.head.bias.fill_(float("nan"))
            moments = [tensor for each in optimizer.state_dict()["state"].values() for tensor in each.values()]
            seen[state.global_step] = [tensor.clone() for tensor in [*model.state_dict().values(), *moments]]

    guard = SpikeGuardCallback(data[1][0], features="hidden", every=1, rule=RULE)
    trainer = trained(transformers, data, tmp_path, [guard, Watch()], 60)
    [event] = guard.guard.events
    assert (event.action, event.effect, event.step, event.back_to) == ("rolled back", "not finite", 46, 40)
    assert same(seen[46], seen[40])
    assert trainer.state.global_step == 60
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())
