"""Fixtures that several test files share."""

import os
import random
import signal
import sys
from pathlib import Path

import numpy
import pytest
from hypothesis import HealthCheck, settings

from irbench.core import metrics
from tests.helpers import tiny

BESIDE = Path(__file__).parents[2] / "shared" / "mirror"
GIVEN = os.environ.get("IRBENCH_MIRROR")
SEED = int(os.environ.get("IRBENCH_TEST_SEED", "0"))
STRAY = Path(__file__).parents[1] / "results" / "tiny"     # the run that most tests make
STRAY_BEFORE = STRAY.exists()
LONGEST = ("workflow/test_workflow.py", "report/test_page.py", "jobs/training/test_interrupted.py",
           "cli/test_cli.py", "report/test_fast.py", "workflow/test_records_decide.py")
# tests assert no times: neither an example nor making one fails because the machine is busy
settings.register_profile("untimed", deadline=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest: of two processes none is left alone at the end."""
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in order)
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_sessionfinish(session):
    """Fail if a test wrote its run into the checkout, beside the user's own."""
    if STRAY.exists() and not STRAY_BEFORE:
        print(f"\n{STRAY}: a test wrote it. Its run belongs into tmp_path (monkeypatch.chdir).")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def no_mirror_by_accident(request, monkeypatch):
    """Only tests marked ``mirror`` read the mirror; the others mean the URLs they give."""
    if not request.node.get_closest_marker("mirror"):
        monkeypatch.delenv("IRBENCH_MIRROR", raising=False)


@pytest.fixture(autouse=True)
def seeded():
    """Weights and images that a test draws are the same in every run; IRBENCH_TEST_SEED=N: others.

    A test that passes with most seeds only fails one day for somebody who changed nothing.
    """
    random.seed(SEED)
    numpy.random.seed(SEED)
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(SEED)    # torch.manual_seed takes milliseconds


@pytest.fixture
def usual_signals():
    """Answer signals as a program in a terminal does: nohup and shells' & let some be ignored."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def restored():
    """Take metrics off the table again that a config or a record added."""
    before = dict(metrics.METRICS)
    yield
    metrics.METRICS.clear()
    metrics.METRICS.update(before)
    if scoring := sys.modules.get("irbench.imaging.metrics"):
        for known in (scoring.COMPUTED, scoring.FILES):
            for name in set(known) - set(before):
                del known[name]


# of one test, and of a module: its fixtures add theirs before the first test begins
metrics_as_before = pytest.fixture(autouse=True)(restored)
metrics_as_before_the_module = pytest.fixture(autouse=True, scope="module")(restored)


@pytest.fixture(scope="session")
def mirror():
    """The folder (or address) of the public test sets, set as IRBENCH_MIRROR for the session."""
    found = GIVEN or (str(BESIDE) if BESIDE.is_dir() else None)
    if not found:
        pytest.skip("no mirror of the public test sets (IRBENCH_MIRROR, or ../shared/mirror)")
    before = os.environ.get("IRBENCH_MIRROR")
    os.environ["IRBENCH_MIRROR"] = found
    yield found
    if before is None:
        del os.environ["IRBENCH_MIRROR"]


@pytest.fixture
def plugin(tmp_path):
    """The plugins of a config with the tiny model: its file."""
    (tmp_path / "tiny_model.py").write_text(tiny.PLUGIN)
    return (str(tmp_path / "tiny_model.py"),)
