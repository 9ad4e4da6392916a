"""A network that groks, trained in PyTorch as a user of grokphase would, with his logs: TensorBoard and CSV.

The task is a + b modulo a prime, given as one-hot vectors; the network has one hidden layer with quadratic
activation, no biases, squared loss; the batch is the whole training set, half of all pairs: A. Gromov, *Grokking
modular arithmetic*, arXiv 2301.02679.  Beside his setting: AdamW with weight decay, which makes the test error exactly
zero within 2000 steps.

    python modular_addition.py FOLDER

writes ``FOLDER/metrics.csv`` and ``FOLDER/runs/seed0``, ``seed1``, ... in about a minute.  Nothing here knows of
grokphase.
"""

import csv
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

PRIME, WIDTH = 23, 256
TRAINED_SHARE = 0.5
LEARNING_RATE, WEIGHT_DECAY = 0.01, 0.3
STEPS, EVERY = 1700, 5


class Quadratic(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x**2


def pairs(prime: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All pairs as concatenated one-hot vectors, and their sums modulo the prime."""
    a, b = torch.cartesian_prod(torch.arange(prime), torch.arange(prime)).T
    inputs = torch.cat([nn.functional.one_hot(a, prime), nn.functional.one_hot(b, prime)], dim=1)
    return inputs.float(), (a + b) % prime


def network(prime: int, width: int) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2 * prime, width, bias=False), Quadratic(), nn.Linear(width, prime, bias=False))
    nn.init.normal_(model[0].weight, std=(2 / prime) ** 0.5)
    nn.init.normal_(model[2].weight, std=1 / width)
    return model


def train(seed: int, writer: SummaryWriter, rows: "csv._writer", *, steps: int = STEPS, every: int = EVERY) -> None:
    """One run: both accuracies every few steps, to TensorBoard and as rows of a table."""
    torch.manual_seed(seed)
    inputs, sums = pairs(PRIME)
    targets = nn.functional.one_hot(sums, PRIME).float()
    order = torch.randperm(len(sums))
    known, unknown = order[: int(TRAINED_SHARE * len(sums))], order[int(TRAINED_SHARE * len(sums)) :]
    model = network(PRIME, WIDTH)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for step in range(steps + 1):
        if step % every == 0:
            with torch.no_grad():
                right = (model(inputs).argmax(dim=1) == sums).float()
            train_accuracy, test_accuracy = right[known].mean().item(), right[unknown].mean().item()
            writer.add_scalar("accuracy/train", train_accuracy, step)
            writer.add_scalar("accuracy/test", test_accuracy, step)
            rows.writerow([seed, step, train_accuracy, test_accuracy])
        loss = nn.functional.mse_loss(model(inputs[known]), targets[known])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def main(folder: Path, seeds: int = 12) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["seed", "step", "train_acc", "val_acc"])
        for seed in range(seeds):
            with SummaryWriter(str(folder / "runs" / f"seed{seed}")) as writer:
                train(seed, writer, rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
