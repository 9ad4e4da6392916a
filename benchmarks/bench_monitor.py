"""What TransitionMonitor and SpikeGuard cost: processor time within them against that of the training around them.

On one thread.  A monitor's cost is its number of records, which grows with the logarithm of the number of steps, times
the cost of one: that is measured, and said for any number of steps.  "apart" is the same cost from the difference to a
plain loop; on a shared machine it scatters by several percent, so the goal is held against the time within.
"""

import sys
import time

import torch
from torch import nn

from grokphase.torch import SpikeGuard, TransitionMonitor, log_spaced

GOAL = 0.05
PER_DECADE = 20


class Quadratic(nn.Module):
    """Two layers with a squared activation, which learn modular addition by squared loss (arXiv 2301.02679)."""

    def __init__(self, modulus, width):
        super().__init__()
        self.hidden = nn.Linear(2 * modulus, width, bias=False)
        self.head = nn.Linear(width, modulus, bias=False)

    def forward(self, inputs):
        return self.head(self.hidden(inputs) ** 2)


def modular_addition(modulus):
    """All pairs, one-hot; half for training, half for tests."""
    pairs = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus))
    inputs = nn.functional.one_hot(pairs, modulus).flatten(1).float()
    targets = nn.functional.one_hot(pairs.sum(1) % modulus, modulus).float()
    order = torch.randperm(len(pairs))
    half = len(order) // 2
    return (inputs[order[:half]], targets[order[:half]]), (inputs[order[half:]], targets[order[half:]])


def train(steps, batch, width, modulus, watcher):
    """Seconds of a training loop, those of them within what watched it, and the latter."""
    torch.manual_seed(0)
    data = modular_addition(modulus)
    inputs, targets = data[0]
    model = Quadratic(modulus, width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    watching = None
    if watcher == "monitor":
        watching = TransitionMonitor(
            model, train=data[0], test=data[1], features="hidden", schedule=PER_DECADE, budget=None
        )
    elif watcher == "guard":
        watching = SpikeGuard(model, optimizer, data[1][0][:512], features="hidden")
    within, start = 0.0, time.process_time()
    for step in range(steps):
        chosen = slice(None)
        if batch:
            first = step * batch % (len(inputs) - batch + 1)
            chosen = slice(first, first + batch)
        loss = nn.functional.mse_loss(model(inputs[chosen]), targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if watching is not None:
            begin = time.process_time()
            watching.step(loss)
            within += time.process_time() - begin
    return time.process_time() - start, within, watching


def enough_steps(steps_a_record):
    """Smallest number of steps from which on recording takes less than the goal, by tenths of a decade."""
    counts = [round(10 ** (tenth / 10)) for tenth in range(20, 71)]
    good = [len(log_spaced(PER_DECADE, count)) * steps_a_record / count < GOAL for count in counts]
    return next((count for place, count in enumerate(counts) if all(good[place:])), None)


def main(quick: bool) -> None:
    torch.set_num_threads(1)
    part = 10 if quick else 1
    cases = [
        ("full batch of 1404, width 256", {"steps": 1200 // part, "batch": 0, "width": 256, "modulus": 53}),
        ("batches of 128, width 128", {"steps": 10000 // part, "batch": 128, "width": 128, "modulus": 53}),
    ]
    train(**{**cases[1][1], "steps": 100}, watcher="monitor")  # loads what is loaded once
    for name, options in cases:
        steps = options["steps"]
        plain, _, _ = train(**options, watcher=None)
        print(f"\n{name}: {1e3 * plain / steps:.2f} ms a step")
        seconds, within, monitor = train(**options, watcher="monitor")
        records = monitor.dataset().sizes["time"]
        training = (seconds - within) / steps
        each = within / records / training
        shares = {count: len(log_spaced(PER_DECADE, count)) * each / count for count in (steps, 10**4, 10**5)}
        print(
            f"  monitor: {1e3 * within / records:.1f} ms a record, as {each:.1f} steps; "
            + ", ".join(f"{share:.1%} of {count:,} steps" for count, share in shares.items())
            + f"; below {GOAL:.0%} from {enough_steps(each)} steps on (apart: {seconds / plain - 1:.1%})"
        )
        seconds, within, guard = train(**options, watcher="guard")
        share = within / (seconds - within)
        print(
            f"  guard: {1e6 * within / steps:.0f} us a step, {share:.1%} (apart: {seconds / plain - 1:.1%}), "
            f"{len(guard.events)} spikes judged"
        )


if __name__ == "__main__":
    main("--quick" in sys.argv)
