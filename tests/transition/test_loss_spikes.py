"""Loss spikes that were put there are found, where and as high as they are, and noise is not one."""

import numpy as np
import pytest

import grokphase as gp

TIME = np.arange(2000)


def decaying(rng, noise=0.05):
    return np.exp(-TIME / 800 + rng.normal(0, noise, TIME.size))


def with_spikes(loss, spikes):
    """Exponential rise within one record and decay over ``length`` records."""
    log = np.log(loss)
    for place, factor, length in spikes:
        log[place:] += np.log(factor) * np.exp(-np.arange(TIME.size - place) / length)
    return np.exp(log)


@pytest.mark.parametrize("seed", range(5))
def test_finds_what_was_put_there(seed):
    rng = np.random.default_rng(seed)
    planted = [(300, 30.0, 5.0), (900, 5.0, 20.0), (1600, 100.0, 10.0)]
    found = gp.spikes(with_spikes(decaying(rng), planted), TIME * 0.1)
    assert [round(spike.time * 10) for spike in found] == pytest.approx([300, 900, 1600], abs=2)
    for spike, (_, factor, length) in zip(found, planted, strict=True):
        # The feet lie up to four standard deviations of noise (0.2) lower, and the peak as much higher.
        assert np.log(spike.height) == pytest.approx(np.log(factor), abs=0.4)
        # Half of the prominence is reached length·ln 2 records after the peak, and noise moves that by a share of
        # 0.4/ln(factor).
        assert spike.duration * 10 == pytest.approx(length * np.log(2), rel=0.35, abs=1.5)
        assert spike.start <= spike.time <= spike.end


def test_noise_and_trends_are_no_spikes():
    """Noise of any size.

    Ten deviations between two of the 2e4 records: at least one is five deviations off, which has a chance of 1e-2, and
    the other then must be as well: below 1e-4 altogether.
    """
    rng = np.random.default_rng(0)
    for noise in (0.0, 0.01, 0.3):
        for _ in range(5):
            assert gp.spikes(decaying(rng, noise), factor=1.0001 if noise else 2.0) == []
    assert gp.spikes(np.exp(TIME / 800)) == []
    assert gp.spikes([1.0, 2.0]) == []
    assert len(gp.spikes(with_spikes(decaying(rng, 0.3), [(700, 50.0, 10.0)]))) == 1  # the control


def test_effect_on_the_representation():
    rng = np.random.default_rng(1)
    loss = with_spikes(decaying(rng), [(300, 30.0, 10.0), (900, 30.0, 10.0), (1600, 30.0, 10.0)])
    dimension = 5 + rng.normal(0, 0.05, TIME.size)
    dimension[305:] -= 2
    dimension[905:] += 1
    found = gp.spikes(loss, effective_dimension=dimension)
    assert [spike.effect for spike in found] == ["simplified", "complicated", "unclear"]
    assert found[0].dimension_before == pytest.approx(5, abs=0.1)
    assert found[0].dimension_after == pytest.approx(3, abs=0.1)
    assert gp.spikes(loss)[0].effect is None


def test_bad_input():
    with pytest.raises(ValueError, match="loss must be > 0"):
        gp.spikes([1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="one run at a time"):
        gp.spikes(np.ones((2, 5)))
    with pytest.raises(ValueError, match="time must ascend"):
        gp.spikes([1.0, 2.0, 1.0], [0, 2, 1])
    with pytest.raises(ValueError, match="effective_dimension must have shape"):
        gp.spikes([1.0, 2.0, 1.0], effective_dimension=[1.0])
    with pytest.raises(ValueError, match="factor must be > 1"):
        gp.spikes([1.0, 2.0, 1.0], factor=1.0)
