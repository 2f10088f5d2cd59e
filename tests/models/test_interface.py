"""What networks offer the harness: a user's own as much as irbench's, and none by name."""

import ast
import re

import pytest
import torch
from torch import nn

from irbench.catalog.model import Inference
from irbench.core.errors import UserError
from irbench.inference.prepare import prepare
from irbench.jobs.profiling import macs, profile
from irbench.models import interface, registry
from tests.helpers.paths import ROOT

torch.set_num_threads(1)
PACKAGE = ROOT / "irbench"
SIZE = {"channels": 3, "height": 8, "width": 10, "warmup": 1, "samples": 1, "threads": 1}

# -- a user's network --------------------------------------------------------------------------

PLUGIN = '''
from contextlib import contextmanager

import torch
from torch import nn

CARDS = {"toy": {"title": "Toy", "builder": "build", "tasks": ["denoise_color"],
                 "in_paper": False, "source": "a test", "learned": True, "options": {}}}


@torch.library.custom_op("irbench_interface_test::kernel", mutates_args=())
def kernel(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


class Gate(nn.Module):
    """A kernel that no trace can look into, and an einsum of three that has no one count."""

    def forward(self, x, *, gain):
        flat = x.flatten(2)
        return kernel(x) * gain + 0 * torch.einsum("bij,bkj,bkl->bil", flat, flat, flat).sum()

    def count_macs(self, output, x, *, gain):
        return {"attention": x.numel() * gain, "other": output.shape[-1]}


class Sparse(nn.Module):
    fast = True

    def forward(self, x):
        if self.fast:
            return x
        flat = x.flatten(2)
        return (flat @ flat.mT @ flat).view_as(x)

    def to_textbook(self):
        self.fast = False

    def saved_macs(self, output, x):
        batch, channels, height, width = x.shape
        return batch * height * width * channels


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.gate, self.sparse = Gate(), Sparse()

    def forward(self, x):
        return self.sparse(self.gate(self.conv(x), gain=5))

    def attention_choice(self):
        return {"implementation": "gated", "reason": f"in {self.conv.weight.dtype}"}

    @contextmanager
    def diagnose(self):
        facts = []
        hook = self.gate.register_forward_hook(
            lambda module, args, output: facts.append(
                {"stage": "gate", "n": output.shape[-1], "k": None, "open": 0.5}))
        yield facts
        hook.remove()

    def diagnosis_in_words(self, facts):
        return f"{len(facts)} gate is half open"


def build(task, scale, channels):
    return Toy()
'''


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The builder of a user's network that offers every method."""
    path = tmp_path_factory.mktemp("plugins") / "toy.py"
    path.write_text(PLUGIN)
    build = registry.get("toy", (str(path),)).load()
    return lambda: build("denoise_color", 1, 3).eval()


FACTS = [{"stage": "gate", "n": 10, "k": None, "open": 0.5}]
CONV, GATE, SPARSE = 8 * 10 * 3 * 3, 3 * 8 * 10 * 5, 2 * 3 * 3 * 80


def test_a_profile_of_a_users_network_holds_what_it_offers(toy):
    result = profile.profile(toy(), **SIZE)
    assert result["attention"] == {"implementation": "gated", "reason": "in torch.float32"}
    assert result["dictionary"] == FACTS
    assert result["dictionary_of"].startswith("photograph")
    # the gate's kernel and einsum are its own, and the other one is counted in its textbook form
    assert result["macs_by_kind"] == {"conv": CONV, "linear": 0, "attention": GATE + SPARSE,
                                      "dictionary": 0, "other": 10}
    assert result["macs"] - result["macs_keys_only"] == 3 * 8 * 10
    assert result["uncounted"] == {} and "macs" not in result["missing"]


@pytest.mark.parametrize("options", [{"dtype": "float64"}, {"channels_last": True}])
def test_a_prepared_network_offers_what_its_network_does(toy, options):
    network = prepare(toy(), Inference(**options))
    assert network is not network.network
    with interface.diagnose(network) as facts:
        network(torch.rand(1, 3, 8, 10))
    assert facts == FACTS
    assert interface.diagnosis_in_words(network, facts) == "1 gate is half open"
    assert "torch.float" in interface.attention_choice(network)["reason"]


def test_the_network_itself_is_left_as_it_was(toy):
    network = toy()
    macs.count(network, (torch.rand(1, 3, 8, 10),))
    assert network.sparse.fast
    assert not any(module._forward_hooks for module in network.modules())


def test_a_module_speaks_for_all_inside_of_it(toy):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.after = toy(), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.after(self.inner(x)) @ x.mT

        def count_macs(self, output, x):
            return {"other": 7}

    x = torch.rand(1, 3, 8, 10)
    found = macs.count(Whole(), (x,))
    assert (found.total, found.by_kind["other"], found.uncounted) == (7, 7, {})
    twice = macs.count(nn.Sequential(Whole(), nn.Conv2d(3, 2, 1), nn.Conv2d(2, 3, 1)), (x,))
    assert twice.by_kind == {"conv": 2 * 8 * 8 * 3 * 2, "linear": 0, "attention": 0,
                             "dictionary": 0, "other": 7}


# -- those that offer nothing, or the wrong thing ----------------------------------------------

def test_a_network_that_offers_nothing_is_not_asked():
    network = nn.Conv2d(3, 3, 1)
    with interface.diagnose(network) as facts:
        network(torch.rand(1, 3, 8, 10))
    assert facts == [] and interface.attention_choice(network) is None
    assert interface.diagnosis_in_words(network, FACTS) == ""
    assert interface.diagnosis_in_words(network, None) == ""


def test_an_attribute_that_is_no_method_is_no_offer():
    network = nn.Conv2d(3, 3, 1)
    network.count_macs = network.diagnose = 5
    result = profile.profile(network, **SIZE)
    assert result["macs"] == CONV and result["dictionary"] is None


@pytest.mark.parametrize("choice", ["mask", {"implementation": "mask"},
                                    {"implementation": "mask", "reason": None}])
def test_a_choice_without_its_reason_is_refused(toy, choice):
    network = toy()
    network.attention_choice = lambda: choice
    with pytest.raises(UserError, match=r"Toy\.attention_choice returned .*'reason', or None"):
        profile.profile(network, **SIZE)
    network.attention_choice = lambda: None
    assert interface.attention_choice(network) is None


@pytest.mark.parametrize("fact", [1, {"open": torch.ones(1)}, {"open": [0.5]}, {1: 2}])
def test_facts_that_no_record_could_hold_are_refused(toy, fact):
    network = toy()
    with (pytest.raises(UserError, match=r"Toy\.diagnose yielded .*list of flat dicts"),
          interface.diagnose(network) as facts):
        facts.append(fact)


@pytest.mark.parametrize("counts", [5, {"gates": 5}])
def test_counts_of_no_kind_are_refused(toy, counts):
    network = toy()
    network.gate.count_macs = lambda *_, **__: counts
    with pytest.raises(UserError, match=r"Gate\.count_macs returned .*Valid kinds: conv, linear"):
        macs.count(network, (torch.rand(1, 3, 8, 10),))


# -- the source --------------------------------------------------------------------------------

# What the harness may import of irbench.models: none of them is one network's.
GENERAL = {"interface", "padding", "registry"}
# It measures that one attention, whatever network uses it.
BENCH = "jobs/profiling/attention.py"


def harness():
    """Yield the path and the syntax tree of every module that is not a network's."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.is_relative_to(PACKAGE / "models"):
            yield path, ast.parse(path.read_text())


def imported(tree):
    """Yield the modules of irbench.models that a module imports, in its functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if found := re.match(r"irbench\.models\.(\w+)", name):
                yield found[1]


def test_the_harness_imports_no_network():
    found = {(path.relative_to(PACKAGE).as_posix(), module)
             for path, tree in harness() for module in imported(tree)}
    assert {(name, module) for name, module in found if module not in GENERAL} == {
        (BENCH, "attention")}
    assert {module for _, module in found} >= GENERAL


def prose(tree):
    """Return the ids of a module's docstrings."""
    return {id(node.body[0].value) for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and isinstance(node.body[0], ast.Expr)}


def test_the_harness_names_no_class_of_a_network():
    """Neither in code nor as a text. The report is left out: it shows what records hold."""
    shared = GENERAL | {"layers", "linear", "reach"}
    classes = {node.name for path in (PACKAGE / "models").rglob("*.py") if path.stem not in shared
               for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)}
    assert {"KeyDictionary", "SemanticAttention", "SemanIR", "Compacter"} <= classes
    found = set()
    for path, tree in harness():
        if path.is_relative_to(PACKAGE / "report"):
            continue
        docstrings = prose(tree)
        for node in ast.walk(tree):
            named = {ast.Name: "id", ast.Attribute: "attr", ast.Constant: "value"}.get(type(node))
            if named and id(node) not in docstrings and getattr(node, named) in classes:
                found.add((path.relative_to(PACKAGE).as_posix(), getattr(node, named)))
    found = {(name, text) for name, text in found if name != BENCH}
    # what a paper calls its method in its tables
    assert found == {("catalog/published.py", "SemanIR")}
