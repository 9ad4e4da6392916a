"""The named ensembles of the published figures, and who enters the published averages."""

import numpy as np
import pytest
import xarray as xr

from grokphase import CellularAutomaton, Scenario
from grokphase.experiments import SCALES
from grokphase.experiments._ensembles import BONDS, LATEST, REGULARISATIONS, bonds_of, name_of, published, selected


class TestPublished:
    @pytest.mark.parametrize(("scale", "members", "bonds"), [("quick", 32, (10,)), ("paper", 1000, BONDS)])
    def test_scales(self, scale, members, bonds):
        found = published(scale, 7, reaches=(1, 2, 3))
        assert list(found) == [name_of(k, key, bond) for k in (1, 2, 3) for key in REGULARISATIONS for bond in bonds]
        for ensemble in found.values():
            assert ensemble.snapshots == ()
            assert (ensemble.scenario.members, ensemble.scenario.seed) == (members, 7)

    def test_scenarios_are_the_published_ones_observed_as_far_as_drawn(self):
        found = published("paper", 0, reaches=(2,))
        scenario = found["K=2, L1, d=40"].scenario
        twice = CellularAutomaton(535945230, 2)  # rule 30 applied twice
        assert scenario == Scenario(twice, 40, l1=1e-3, members=1000, protocol="published", observe=1.0)
        assert [found[f"K=2, {key}, d=10"].scenario.duration for key in LATEST] == list(LATEST.values())

    def test_options(self):
        found = published("quick", 0, reaches=(1,), members=5, bonds="20,40")
        assert {(item.scenario.members, item.scenario.bond) for item in found.values()} == {(5, 20), (5, 40)}

    def test_what_is_refused(self):
        for arguments, named in (
            ({"bonds": "10,x"}, "bonds must be real numbers, got 'x'"),
            ({"bonds": "1"}, "bonds must be integer, from 2"),
            ({"bonds": [10, 10]}, "bonds must be different"),
            ({"members": -1}, "members must be integer, from 0"),
            ({"reaches": (0,)}, "times must be"),
        ):
            with pytest.raises(ValueError, match=named):
                published("quick", 0, **{"reaches": (1,), **arguments})
        with pytest.raises(ValueError, match="scale must be one of"):
            published("huge", 0, reaches=(1,))
        with pytest.raises(ValueError, match="scale must be one of"):
            bonds_of("huge", "10")
        with pytest.raises(ValueError, match="regularisation must be one of"):
            name_of(1, "L3", 10)
        assert bonds_of(SCALES[0], " 10, 20") == (10, 20)


class TestSelected:
    def run(self, regularisation, train, test):
        l1, l2 = REGULARISATIONS[regularisation]
        times = {"zero_train_time": ("member", train), "zero_test_time": ("member", test)}
        return xr.Dataset(times, attrs={"scenario": Scenario(30, l1=l1, l2=l2).to_text()})

    @pytest.mark.parametrize(("regularisation", "latest"), LATEST.items())
    def test_later_than_training_and_in_time(self, regularisation, latest):
        cases = {  # (t_train, t_ε): whether it is in
            (0.5, 1.0): True,
            (0.995, 1.0): True,
            (1.0, 1.0): False,
            (1.5, 1.0): False,
            (0.5, latest - 0.005): True,
            (0.5, latest): False,
            (0.5, np.inf): False,
            (np.inf, 1.0): False,
            (np.inf, np.inf): False,
        }
        train, test = np.array(list(cases)).T
        assert selected(self.run(regularisation, train, test)).tolist() == list(cases.values())
