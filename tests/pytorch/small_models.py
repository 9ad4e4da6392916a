"""Small models and data of the tests."""

import torch
from torch import nn

DIGITS = 7


def modular_addition(generator):
    """All pairs of digits as one-hot inputs, their sums as targets, half of them for training."""
    first, second = torch.meshgrid(torch.arange(DIGITS), torch.arange(DIGITS), indexing="ij")
    first, second = first.flatten(), second.flatten()
    inputs = torch.cat([nn.functional.one_hot(first, DIGITS), nn.functional.one_hot(second, DIGITS)], dim=1).float()
    targets = (first + second) % DIGITS
    order = torch.randperm(len(targets), generator=generator)
    half = len(order) // 2
    return (inputs[order[:half]], targets[order[:half]]), (inputs[order[half:]], targets[order[half:]])


class Perceptron(nn.Module):
    """Two layers with dropout and batch normalisation: both depend on the mode, one on random numbers."""

    def __init__(self, width=24):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(2 * DIGITS, width), nn.BatchNorm1d(width), nn.ReLU())
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(width, DIGITS)

    def forward(self, inputs):
        return self.head(self.dropout(self.hidden(inputs)))


def hooks(model):
    """Number of forward hooks on a model's modules."""
    return sum(len(module._forward_hooks) for module in model.modules())


def numbers(state):
    """All tensors in a nested state, in order."""
    if isinstance(state, torch.Tensor):
        return [state.clone()]
    if isinstance(state, dict):
        return [tensor for value in state.values() for tensor in numbers(value)]
    if isinstance(state, list | tuple):
        return [tensor for value in state for tensor in numbers(value)]
    return []


def same(first, second):
    """Whether two nested states hold the same tensors to the last bit."""
    first, second = numbers(first), numbers(second)
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
