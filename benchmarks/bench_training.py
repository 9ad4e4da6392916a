"""Ensembles of the full student: microseconds a model-step, all in, against a straightforward PyTorch loop.

Run ``python benchmarks/bench_training.py [--bonds 10 20 40] [--members 256] [--threads 2] [--torch]`` on an idle
machine.  Times are wall times of whole blocks, tests and zero criterion included, over the optimiser steps of
their members.  For comparison: the rate at which the machine multiplies matrices, and what the arithmetic of a
step would take at it.  The PyTorch loop trains one member at a time, string by string in a batch, as one would
write it from the paper (``pip install torch``).
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from _timing import best_time
from grokphase.training import Scenario, chunk, run_block
from grokphase.training.numerics import compiled, pinned
from grokphase.training.strings import half_lengths

GOALS = {10: 30.0, 20: 50.0, 40: 120.0}  # microseconds a model-step on two cores


def product_rate() -> float:
    """Single-precision matrix products of the whole machine, flop/s."""
    import jax
    import jax.numpy as jnp

    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(1024, 1024)), jnp.float32)
    program = jax.jit(lambda a: a @ a)
    return 2 * 1024**3 / best_time(lambda: jax.block_until_ready(program(matrix)), repeats=20)


def flops_of_a_step(scenario: Scenario) -> float:
    """Of the matrix products of the halves kernel, forward and twice that backward, mean over lengths."""
    bond, total = scenario.bond, []
    for length in range(scenario.lengths[0], scenario.lengths[1] + 1):
        flops = 0
        for half in half_lengths(length):
            rows = sum(2**depth for depth in range(half)) * 2 + sum(depth * 2**depth for depth in range(half))
            flops += rows * bond * 2 * bond * 2  # contexts, insertions, rows carried on
            flops += half * 2**length * bond * 2  # pairs
        total.append(3 * flops)
    return float(np.mean(total))


def ours(scenario: Scenario, members: int, threads: int) -> tuple[float, float]:
    """Microseconds a model-step of a whole block, and the part of them that is no training step."""
    run_block(scenario.replace(seed=1), range(chunk.WIDTH))  # compiles everything
    start = time.perf_counter()
    trajectories = run_block(scenario, range(members), threads=threads)
    took = time.perf_counter() - start
    epochs = trajectories.last_time.values.sum() / scenario.learning_rate
    a_step = took / (epochs * scenario.steps_per_epoch)
    return 1e6 * a_step, 1 - steps_alone(scenario, threads) / a_step


def steps_alone(scenario: Scenario, threads: int) -> float:
    """Seconds a model-step with all threads busy and without any test."""
    import jax

    shape, epochs = chunk.program(scenario), 128 // scenario.steps_per_epoch
    with pinned(scenario):
        given = chunk.inputs(scenario)
        state = chunk.begin(shape)(jax.random.key_data(jax.random.key(0)), np.arange(chunk.WIDTH, dtype=np.int32))
        state = state._replace(hunting=np.zeros(chunk.WIDTH, bool))
        program = compiled(lambda now: chunk._epochs(now, given, shape, epochs)[0].rows)
        jax.block_until_ready(program(state))

    def once(_: int) -> None:
        with pinned(scenario):
            jax.block_until_ready(program(state))

    with ThreadPoolExecutor(threads) as pool:
        took = best_time(lambda: list(pool.map(once, range(4 * threads))))
    return took / (4 * threads * epochs * scenario.steps_per_epoch * chunk.WIDTH)


def torch_loop(scenario: Scenario, steps: int = 30) -> float:
    """Microseconds a model-step of the straightforward loop, training only."""
    import torch

    torch.manual_seed(0)
    bond, (shortest, longest) = scenario.bond, scenario.lengths
    attention = torch.randn(2, bond, bond, requires_grad=True)
    classifier = torch.randn(2, bond, bond, requires_grad=True)
    scale = torch.ones((), requires_grad=True)
    edge = torch.zeros(bond)
    edge[0] = 1
    parameters = [attention, classifier, scale]
    optimiser = torch.optim.Adam(parameters, lr=scenario.learning_rate, weight_decay=scenario.l2)
    every = torch.tensor((np.arange(2**longest)[:, None] >> np.arange(longest)) & 1)
    rule = scenario.rule
    size = 2**longest if scenario.batch == "all" else scenario.batch
    rng = np.random.default_rng(0)

    def step() -> None:
        length = int(rng.integers(shortest, longest + 1))
        offset = int(rng.integers(0, longest - length + 1))
        strings = every[torch.as_tensor(rng.permutation(2**longest)[:size])][:, offset : offset + length]
        labels = torch.as_tensor((rule(2 * strings.numpy() - 1) + 1) / 2, dtype=torch.float32)
        start = edge.expand(size, bond)
        lefts, rights = [start], [start]
        for cell in range(length - 1):
            left = torch.einsum("nd,nde->ne", lefts[-1], attention[strings[:, cell]])
            lefts.append(left / left.norm(dim=1, keepdim=True))
            right = torch.einsum("nde,ne->nd", attention[strings[:, length - 1 - cell]], rights[-1])
            rights.append(right / right.norm(dim=1, keepdim=True))
        left, right = torch.stack(lefts, 1), torch.stack(rights[::-1], 1)
        pair = torch.einsum("nld,sde,nle->nls", left, classifier, right)
        pair = scale * pair / pair.norm(dim=2, keepdim=True)
        output = torch.sigmoid(pair.gather(2, strings[:, :, None])[:, :, 0])
        loss = ((output - labels) ** 2).mean()
        if scenario.l1:
            loss = loss + scenario.l1 * sum(part.abs().sum() for part in parameters)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    for _ in range(3):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return 1e6 * (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bonds", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--members", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--torch", action="store_true", help="time the PyTorch loop as well")
    options = parser.parse_args()
    rate = product_rate()
    print(f"matrix products: {rate / 1e9:.0f} Gflop/s; blocks on {options.threads} threads")
    print(f"{'protocol':12s} {'bond':>4s} {'us/step':>8s} {'goal':>5s} {'met':>4s} {'tests':>6s}", end="")
    print(f" {'Mflop':>6s} {'at that rate/us':>15s} {'PyTorch/us':>11s}")
    for protocol in ("published", "all-inputs"):
        for bond in options.bonds:
            scenario = Scenario(30, bond, l1=0.001, protocol=protocol, duration=3.0)
            took, tests = ours(scenario, options.members, options.threads)
            flops = flops_of_a_step(scenario)
            goal = GOALS.get(bond)
            met = "" if goal is None else "yes" if took <= goal else "NO"
            naive = f"{torch_loop(scenario):11.0f}" if options.torch else ""
            line = f"{protocol:12s} {bond:4d} {took:8.1f} {goal or '':>5} {met:>4s} {tests:6.0%}"
            print(f"{line} {flops / 1e6:6.2f} {1e6 * flops / rate:15.1f} {naive}", flush=True)


if __name__ == "__main__":
    main()
