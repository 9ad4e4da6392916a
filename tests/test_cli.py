"""The command line as a user meets it: results, files, and one line with exit code 2 for every mistake."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import grokphase as gp
from grokphase import experiments
from grokphase.cli import main

QUICK = ("fig03", "fig04")  # under a second each


def outcome(capsys, *arguments):
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


# --- predict ---


def test_predict_exponential_as_json(capsys):
    code, out, err = outcome(
        capsys, "predict", "exponential", "--gap", "0.4", "--samples", "10", "--l2", "0.1", "--json"
    )
    data = json.loads(out)
    model = gp.ExponentialModel(class_gap=0.4, l2=0.1)
    assert (code, err) == (0, "")
    assert data["grokking_probability"]["value"] == model.grokking_probability(10)
    assert data["grokking_time"]["mean"] == model.grokking_time(10).mean()
    assert data["grokking_time"]["quantiles"]["0.95"] == model.grokking_time(10).ppf(0.95)
    assert data["exponent"] == 1.0


# The JSON form is a contract: fields may be added, none may vanish.
JSON_FIELDS = {
    "exponential": {
        *("schema", "model", "note", "exponent", "effective_gap"),
        *("parameters.class_gap", "parameters.samples_per_class", "parameters.l1", "parameters.l2"),
        *("grokking_probability.value", "grokking_probability.complement", "grokking_probability.method"),
        *("grokking_time.mean", "grokking_time.std", "grokking_time.method"),
        *("grokking_time.quantiles.0.05", "grokking_time.quantiles.0.5", "grokking_time.quantiles.0.95"),
    },
    "ball": {
        *("schema", "model", "note", "exponent", "parameters.dimension", "parameters.class_gap"),
        *("parameters.samples_per_class", "parameters.l1", "parameters.l2", "parameters.trials", "parameters.seed"),
        *("grokking_probability.value", "grokking_probability.stderr", "grokking_probability.method"),
        *("grokking_probability.first_order", "grokking_probability.lower_bound"),
        *("grokking_time.idealised.mean", "grokking_time.idealised.quantiles.0.5"),
        *("grokking_time.idealised.atom.position", "grokking_time.idealised.atom.weight"),
        *("grokking_time.simulated.mean", "grokking_time.simulated.mean_stderr", "grokking_time.simulated.runs"),
        *("grokking_time.simulated.runs_with_zero_test_error", "grokking_time.simulated.quantiles.0.5"),
    },
}


def flat_names(data, prefix=""):
    for key, value in data.items():
        yield from flat_names(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]


@pytest.mark.parametrize("model", JSON_FIELDS)
def test_json_keeps_its_fields(capsys, model):
    arguments = ["--gap", "1.5", "--samples", "5"]
    arguments += ["--dimension", "3", "--trials", "200"] if model == "ball" else []
    _, out, _ = outcome(capsys, "predict", model, *arguments, "--json")
    data = json.loads(out)
    assert JSON_FIELDS[model] <= set(flat_names(data))
    assert data["schema"] == 1


def test_predict_ball_agrees_with_the_library(capsys):
    arguments = ["predict", "ball", "--dimension", "4", "--gap", "1.05", "--samples", "10", "--l2", "0.1"]
    _, out, _ = outcome(capsys, *arguments, "--trials", "2000", "--seed", "3", "--json")
    data = json.loads(out)
    model = gp.BallModel(dimension=4, class_gap=1.05, l2=0.1)
    estimate, stderr = model.grokking_probability(10, "monte-carlo", trials=2000, rng=3)
    probability = data["grokking_probability"]
    assert (probability["value"], probability["stderr"]) == (estimate, stderr)
    assert probability["first_order"] == model.grokking_probability(10)
    resolved = model.grokking_time().resolve()
    assert data["grokking_time"]["idealised"]["mean"] == resolved.mean()
    # independent sets, the same law: the fraction of simulated runs that generalise (5 s.e.: false alarm 6e-7)
    simulated = data["grokking_time"]["simulated"]
    fraction = simulated["runs_with_zero_test_error"] / simulated["runs"]
    assert abs(fraction - estimate) < 5 * np.sqrt(stderr**2 + estimate * (1 - estimate) / simulated["runs"])


def test_predict_speaks_plainly(capsys):
    _, out, _ = outcome(capsys, "predict", "exponential", "--gap", "0.4", "--samples", "10")
    text = " ".join(out.split())
    assert "92.5% of random training sets with 10 samples a class end with zero test error" in text
    assert "falls linearly to zero" in text
    _, out, _ = outcome(capsys, "predict", "exponential", "--gap", "0", "--samples", "10")
    text = " ".join(out.split())
    assert "None of random training sets" in text
    assert "no grokking time" in text
    _, out, _ = outcome(capsys, "predict", "exponential", "--gap", "3", "--samples", "1000")
    assert "More than 99.9% of random training sets" in " ".join(out.split())  # never rounded to certainty
    arguments = ["--dimension", "3", "--gap", "0.5", "--samples", "3", "--trials", "100"]
    _, out, _ = outcome(capsys, "predict", "ball", *arguments)
    assert "None of 100 drawn training sets" in " ".join(out.split())
    assert "none of 100 simulated runs got there" in " ".join(out.split())


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
@pytest.mark.parametrize(
    "model",
    [
        ["exponential"],
        ["ball", "--dimension", "3", "--trials", "100"],
        ["ball", "--dimension", "3", "--l1", "9", "--trials", "100"],  # nothing generalises: an empty histogram
    ],
)
def test_predict_draws(capsys, tmp_path, suffix, model):
    path = tmp_path / f"picture.{suffix}"
    code, _, _ = outcome(capsys, "predict", *model, "--gap", "1.5", "--samples", "5", "--plot", str(path))
    assert code == 0
    assert path.stat().st_size > 3000


# --- experiments ---


def test_list_names_every_experiment(capsys):
    code, out, _ = outcome(capsys, "list")
    assert code == 0
    assert set(experiments.NAMES) <= set(out.split())


def test_run_writes_numbers_and_picture(capsys, tmp_path):
    code, out, _ = outcome(capsys, "run", "fig04", "--out", str(tmp_path / "new"))
    assert code == 0
    assert "agrees" in out
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        *("fig04-published.svg", "fig04.nc", "fig04.svg")
    ]
    with xr.open_dataset(tmp_path / "new" / "fig04.nc", engine="scipy") as data:
        probability = data["probability"].sel(samples_per_class=10).interp(gap=0.5)
        assert float(probability) == pytest.approx(gp.ExponentialModel(class_gap=0.5).grokking_probability(10))
        assert data["probability"].attrs["symbol"] == "P_G"


def test_an_earlier_result_is_used_again_only_if_it_is_the_same(capsys, tmp_path, monkeypatch):
    calls = []
    experiment = experiments.load("fig04")
    compute = experiment.compute
    monkeypatch.setattr(
        "grokphase.reproduce.load",
        lambda name: replaced(experiment, lambda *a, **k: calls.append(a) or compute(*a, **k)),
    )
    for arguments, computed in (
        (("--seed", "1"), 1),
        (("--seed", "1"), 1),
        (("--seed", "2"), 2),
        (("--seed", "2"), 2),
    ):
        assert outcome(capsys, "run", "fig04", "--out", str(tmp_path), *arguments)[0] == 0
        assert len(calls) == computed
    picture = (tmp_path / "fig04.svg").read_bytes()
    (tmp_path / "fig04.nc").write_bytes((tmp_path / "fig04.nc").read_bytes()[:500])  # a damaged file
    outcome(capsys, "run", "fig04", "--out", str(tmp_path), "--seed", "2")
    assert len(calls) == 3
    assert (tmp_path / "fig04.svg").read_bytes() == picture
    monkeypatch.setattr("grokphase.reproduce._code_digest", lambda: "other code")
    outcome(capsys, "run", "fig04", "--out", str(tmp_path), "--seed", "2")
    assert len(calls) == 4


def replaced(experiment, compute):
    from dataclasses import replace

    return replace(experiment, compute=compute)


def test_reproduce_writes_a_report_that_needs_nothing_else(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "NAMES", QUICK)
    code, out, _ = outcome(capsys, "reproduce", "--out", str(tmp_path))
    assert code == 0
    assert str(tmp_path / "report.html") in out.replace("\n", "")
    text = (tmp_path / "report.html").read_text("utf-8")
    for name in QUICK:
        experiment = experiments.load(name)
        assert experiment.title in text
        assert text.count(f'id="{name}"') == 1
    assert text.count("<img") == text.count("data:image/svg+xml;base64,") == 2 * len(QUICK)
    assert not re.search(r'(src|href)="(?!data:|#)', text)  # no external asset, no link that leaves the page
    assert text.count('class="verdict') == text.count("<tr>") - len(QUICK)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_interrupted_reproduction_goes_on_where_it_stopped(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "NAMES", QUICK)
    second = experiments.load("fig04")
    whole = experiments.load

    def interrupt(*_, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "grokphase.reproduce.load",
        lambda name: replaced(second, interrupt) if name == "fig04" else whole(name),
    )
    code, _, err = outcome(capsys, "reproduce", "--out", str(tmp_path))
    assert code == 130
    assert "interrupted" in err.splitlines()[-1]
    assert (tmp_path / "fig03.nc").exists()
    assert not (tmp_path / "report.html").exists()
    stamp = (tmp_path / "fig03.nc").stat().st_mtime_ns
    monkeypatch.setattr("grokphase.reproduce.load", whole)
    assert outcome(capsys, "reproduce", "--out", str(tmp_path))[0] == 0
    assert (tmp_path / "fig03.nc").stat().st_mtime_ns == stamp
    assert "computed earlier" in (tmp_path / "report.html").read_text("utf-8")


# --- mistakes ---


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["predict", "exponential", "--gap", "-1", "--samples", "10"], "class_gap must be ≥ 0, got -1"),
        (["predict", "exponential", "--gap", "nan", "--samples", "10"], "class_gap must be finite, got nan"),
        (["predict", "exponential", "--gap", "x", "--samples", "10"], "--gap"),
        (["predict", "exponential", "--gap", "1"], "--samples"),
        (["predict", "exponential", "--gap", "1", "--samples", "0"], "samples_per_class must be integer, from 1"),
        (["predict", "exponential", "--gap", "1", "--samples", "2", "--plot", "x.docx"], "plot must end in one of"),
        (["predict", "exponential", "--gap", "1", "--samples", "2", "--plot", "/proc/x.svg"], "plot must be a file"),
        (["predict", "ball", "--dimension", "0", "--gap", "1", "--samples", "2"], "dimension must be integer"),
        (["predict", "ball", "--dimension", "2", "--gap", "1", "--samples", "2", "--l1", "-1"], "l1 must be"),
        (["run", "fig99"], "experiment must be one of 'fig03'"),
        (["run", "fig04", "--colour", "red"], "fig04 has no option --colour"),
        (["run", "fig04", "--scale", "huge"], "--scale"),
        (["run", "fig04", "--seed", "-1"], "seed must be integer, from 0"),
        (["run", "fig04", "--out", "/proc/x"], "out must be a folder that can be written, got '/proc/x'"),
        (["reproduce", "--out", "/dev/null"], "out must be a folder that can be written, got '/dev/null'"),
        (["nonsense"], "nonsense"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(capsys, arguments, named):
    code, out, err = outcome(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert named in err


def test_installed_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "grokphase", "predict", "exponential", "--gap", "-1", "--samples", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "grokphase: class_gap must be ≥ 0, got -1.0\n"


def test_a_reader_who_has_seen_enough_is_no_mistake():
    """As "head" does: no message, and the shell's code for a closed pipe."""
    command = [sys.executable, "-m", "grokphase", "predict", "exponential", "--gap", "0.4", "--samples", "10", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
