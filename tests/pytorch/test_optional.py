"""PyTorch is optional: what holds without it, and that grokphase does not load it unasked."""

import subprocess
import sys

WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Without())
"""


def fresh_interpreter(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_missing_torch_is_one_clear_line():
    code = WITHOUT + ("try:\n    import grokphase.torch\nexcept ImportError as error:\n    print(str(error))")
    said = fresh_interpreter(code).stdout.splitlines()
    assert said == ["grokphase.torch needs PyTorch: install it with  pip install 'grokphase[torch]'"]


def test_grokphase_and_the_rule_need_no_torch():
    code = WITHOUT + (
        "import grokphase as gp; gp.measure; gp.spikes\n"
        "from grokphase.transition.spike_rule import SpikeRule; rule = SpikeRule()\n"
        "print(int(rule.update(rule.start(), 1.0)[1].action))"
    )
    assert fresh_interpreter(code).stdout.split() == ["0"]


def test_import_does_not_load_torch():
    code = "import sys, grokphase as gp; gp.measure; gp.spikes; print('torch' in sys.modules)"
    assert fresh_interpreter(code).stdout.split() == ["False"]


def test_name_does_not_hide_the_real_torch():
    code = (
        "import importlib.util, grokphase\n"
        "spec = importlib.util.find_spec('torch')\n"
        "print(spec is None or 'grokphase' not in str(spec.origin) + str(spec.submodule_search_locations))"
    )
    assert fresh_interpreter(code).stdout.split() == ["True"]
