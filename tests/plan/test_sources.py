"""The code of a job: prose in any module moves no job, an expression moves those that run it."""

import ast
import contextlib
import fnmatch
import functools
import io
import shutil
import tokenize
from pathlib import Path
from types import SimpleNamespace

import pytest

from irbench import plan
from irbench.catalog.model import MODULE, OUTPUTS, Checkpoint, Model
from irbench.core import code as code_digests
from irbench.plan import sources
from tests.helpers import tiny

REPOSITORY = code_digests.ROOT.parent


# -- the jobs of the default run -----------------------------------------------------------------

def load():
    with contextlib.chdir(REPOSITORY):
        return plan.load("config.yaml")


default_plan = functools.cache(load)


@functools.cache
def jobs():
    """Return what each job runs: its name -> (kind, own module)."""
    run, found = default_plan(), {}
    for job in run.jobs():
        if "code" in job.spec:
            own = (sources.own_module(job.model, ()) if job.model
                   else sources.PARTS.get(job.kind))
            found[job.title] = job.kind, own
    return found | {"report": ("report", None)}


def fingerprints(run):
    with contextlib.chdir(REPOSITORY):
        return {job.title: job.fingerprint for job in run.jobs()} | {
            "report": run.report_fingerprint}


def codes(texts=None):
    """Return the digest of the code of each job."""
    known = {what: sources.closure(*what, texts).digest for what in set(jobs().values())}
    return {title: known[what] for title, what in jobs().items()}


def reworded(text):
    """Return Python source with other comments, docstrings, quotes and blank lines."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    lines = text.splitlines(keepends=True)
    layout = (tokenize.NL, tokenize.COMMENT)
    solid = [token for token in tokens if token.type not in layout]
    begins = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    changes = {}
    for before, token, after in zip([None, *solid], solid, [*solid[1:], None], strict=False):
        if token.type == tokenize.NEWLINE:
            changes[token] = "\n# new\n\n"
        if token.type != tokenize.STRING:
            continue
        if (before is None or before.type in begins) and after.type == tokenize.NEWLINE:
            changes[token] = '"""Other words."""'
        elif token.string[0] in "'\"" and not set("'\"\\\n") & set(token.string[1:-1]):
            other = {"'": '"', '"': "'"}[token.string[0]]
            changes[token] = f"{other}{token.string[1:-1]}{other}"
    changes |= {token: "# other words" for token in tokens if token.type == tokenize.COMMENT}
    for token in sorted(changes, key=lambda one: one.start, reverse=True):
        (row, column), (end, last) = token.start, token.end
        tail = lines[end - 1][last:]
        lines[row - 1:end] = [lines[row - 1][:column] + changes[token] + tail]
    return "# new\n\n" + "".join(lines)


class Unannotated(ast.NodeTransformer):
    """Gives every annotation that only people read another text."""

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        if not any(name in ast.dump(one) for one in node.decorator_list
                   for name in code_digests.READ_ANNOTATIONS):
            node.returns = ast.Name("Anything")
            for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
                argument.annotation = ast.Name("Anything")
        return node


@pytest.fixture
def fresh():
    """Let nothing of another copy of the package stay in the caches."""
    def clear():
        sources._known.cache_clear()
        sources._of_kind.cache_clear()
        sources._parts_of_the_report.cache_clear()
    clear()
    yield clear
    clear()


@pytest.mark.slow
def test_prose_in_every_module_moves_no_job(tmp_path, monkeypatch, fresh):
    """Comments, docstrings, quotes, blank lines: in every module of a copy of the package."""
    before = fingerprints(default_plan())
    assert len(before) > 30
    copy = tmp_path / "irbench"
    shutil.copytree(sources.ROOT, copy, ignore=shutil.ignore_patterns(
        "__pycache__", "*.safetensors", "*.yaml", "*.csv"))
    for path in copy.rglob("*.py"):
        text = path.read_text()
        new = reworded(text)
        assert new != text
        path.write_text(new)
    monkeypatch.setattr(sources, "ROOT", copy)
    fresh()
    assert fingerprints(load()) == before
    leaks = sources.stage("leaks")
    (copy / "data" / "leaks.py").write_text("CHANGED = 1")
    fresh()
    assert sources.stage("leaks") != leaks  # it was the copy that counted


@pytest.mark.slow
def test_annotations_move_no_job():
    """In every module that some job runs, but those of the report, to save time."""
    texts = {}
    for label, path in all_files().items():
        if not label.startswith("irbench.report."):
            tree = Unannotated().visit(ast.parse(path.read_text()))
            texts[path] = ast.unparse(ast.fix_missing_locations(tree))
    assert len(texts) > 50
    assert codes(texts) == codes()


def all_files():
    found = {}
    for kind, own in set(jobs().values()):
        found |= sources.closure(kind, own).files
    return found


def changed(text):
    """Return source with one constant changed, or one more where there is none."""
    tree = ast.parse(text)
    body = [node for node in tree.body if not isinstance(node, ast.Expr)]
    numbers = [node for statement in body for node in ast.walk(statement)
               if isinstance(node, ast.Constant) and type(node.value) in (int, float)]
    if not numbers:
        return f"{text}\nCHANGED = 1\n"
    numbers[len(numbers) // 2].value += 1
    return ast.unparse(tree)


@pytest.mark.slow
def test_a_changed_constant_moves_exactly_the_jobs_that_run_it():
    """Module after module of all that some job runs."""
    before = codes()
    members = {what: set(sources.closure(*what).modules) for what in set(jobs().values())}
    for label, path in all_files().items():
        after = codes({path: changed(path.read_text())})
        moved = {title for title in before if after[title] != before[title]}
        assert moved == {title for title, what in jobs().items() if label in members[what]}, label
        assert moved, label


@functools.cache
def modules_of(kind, own):
    return sources.closure(kind, own).modules


def users(label):
    """Return the kinds and architectures of the jobs that run a module."""
    return {f"{kind} {Path(str(own)).suffix.removeprefix('.') or own}".removesuffix(" None")
            for kind, own in set(jobs().values()) if label in modules_of(kind, own)}


@pytest.mark.parametrize(("module", "expected"), [
    ("models.classical", {"cell classical"}),
    ("models.compacter", {"cell compacter", "profile compacter", "training compacter"}),
    ("models.strips", {"cell compacter", "profile compacter", "training compacter"}),
    ("models.semanir", {"cell semanir", "profile semanir"}),
    ("models.semanir_unet", set()),
    ("models.reference", set()),
    ("weights.external", set()),
    ("models.attention.triton_kernel", {"cell semanir", "profile semanir", "bench attention"}),
    ("models.attention.flex", {"cell semanir", "profile semanir", "bench attention"}),
    ("models.attention.health", {"cell semanir", "profile semanir", "bench attention"}),
    ("imaging.metrics", {"cell classical", "cell compacter", "cell semanir", "training compacter"}),
    ("imaging.degrade", {"cell classical", "cell compacter", "cell semanir", "training compacter"}),
    ("jobs.evaluate", {"cell classical", "cell compacter", "cell semanir"}),
    ("jobs.training.losses", {"training compacter"}),
    ("jobs.profiling.energy", {"profile compacter", "profile semanir", "bench attention"}),
    ("data.leaks", {"leaks"}),
    ("report.plots.radar", {"report"}), ("present.table", {"report"}),
    ("catalog.published", {"report"}),
    ("cli.train", set()), ("plan.compose", set()), ("plan.config", set()),
    ("plan.sources", set()), ("jobs.verify", set()),
])
def test_a_module_counts_for_the_jobs_that_run_it(module, expected):
    assert (sources.ROOT / f"{module.replace('.', '/')}.py").is_file()
    assert users(f"irbench.{module}") == expected


def test_third_party_weights_count_with_the_module_that_runs_them():
    code = sources.closure("cell", sources.own_module(SimpleNamespace(
        external=True, checkpoint=Checkpoint("external")), ()))
    assert "irbench.weights.external" in code.modules
    assert "irbench.jobs.profiling.profile" not in code.modules


def test_a_peer_whose_network_irbench_has_counts_with_that_network():
    network = {"architecture": "imdn"}
    own = sources.own_module(SimpleNamespace(
        external=True, checkpoint=Checkpoint("external", network=network)), ())
    code = sources.closure("cell", own)
    assert own == "irbench.models.peers.imdn" and own in code.modules
    assert "irbench.models.peers.ramit" not in code.modules
    assert "irbench.weights.external" not in code.modules


def test_the_module_of_a_network(tmp_path):
    """By name, or the path of a user's file; none where no file of irbench's runs."""
    plugin = tmp_path / "tiny_model.py"
    plugin.write_text(tiny.PLUGIN)
    assert sources.own_module(Model("a", "compacter"), ()) == "irbench.models.compacter"
    assert sources.own_module(Model("a", "tiny"), (str(plugin),)) == plugin
    assert sources.own_module(Model("a", MODULE), ()) is None
    assert sources.own_module(Model("a", OUTPUTS), ()) is None


@pytest.fixture
def asked(monkeypatch, fresh):
    """The packages whose versions a digest asks for."""
    names = []
    monkeypatch.setattr(sources.machine, "versions_of", lambda *given: names.extend(given))
    return names


def test_only_networks_of_a_package_count_its_version(asked):
    """irbench itself imports spandrel only to read names in nested files."""
    sources.stage("bench")
    assert "torch" in asked and not {*sources.NETWORKS.values()} & {*asked}
    assert len(sources.stage("bench")) == 64
    own = SimpleNamespace(external=True, checkpoint=Checkpoint("external"), training=None)
    sources.digest("profile", own, ())
    assert {"torch", "spandrel"} < {*asked} <= sources.DISTRIBUTIONS
    del asked[:]
    assert sources.of_network(own, ()) != sources.of_network(Model("a", "compacter"), ())
    assert {"torch", "spandrel"} < {*asked} <= sources.DISTRIBUTIONS


def test_a_package_of_another_version_is_another_digest(monkeypatch, fresh):
    def found(version):
        monkeypatch.setattr(sources.machine, "versions_of",
                            lambda *names: dict.fromkeys(names, version))
        fresh()
        model = Model("a", "compacter")
        return sources.of_network(model, ()), sources.digest("profile", model, ())

    assert not {*found("1")} & {*found("2")} and found("1") == found("1")


def test_the_network_of_a_teacher_counts_for_a_training_alone():
    teacher = {"model": "t", "arch": "semanir-s", "checkpoint": {"kind": "file"}}
    alone, taught, other = (
        Model("a", "compacter", training=SimpleNamespace(teacher=one))
        for one in (None, teacher, {**teacher, "arch": "compacter"}))
    digests = [sources.digest("training", one, ()) for one in (alone, taught, other)]
    assert len({*digests}) == 3 and {len(one) for one in digests} == {64}
    assert len({sources.digest("profile", one, ()) for one in (alone, taught, other)}) == 1


# -- what is not followed ------------------------------------------------------------------------

OWN = ("models.classical", "models.compacter", "models.semanir", "models.semanir_unet",
       "models.reference", "models.peers.imdn", "models.peers.smfanet", "models.peers.ramit",
       "weights.external")


@functools.cache
def every_closure():
    """Return the closures of every kind with every network of irbench, by kind and module."""
    return {(kind, own): sources.closure(kind, own) for kind in sources.ENTRIES
            for own in [sources.PARTS.get(kind), *(f"irbench.{name}" for name in OWN)]}


@pytest.mark.parametrize("module", sources.OUTSIDE)
def test_a_module_is_not_followed_only_where_something_imports_it(module, monkeypatch):
    """The list holds no module that would not be followed anyway."""
    monkeypatch.setattr(sources, "OUTSIDE", {
        name: why for name, why in sources.OUTSIDE.items() if name != module})
    assert any(fnmatch.filter(sources.closure(kind).modules, module) for kind in sources.ENTRIES)


def test_every_package_that_counts_is_imported_by_some_job():
    imported = frozenset().union(*(code.packages for code in every_closure().values()))
    assert imported >= {*sources.PACKAGES, *sources.NETWORKS}


def test_no_job_imports_by_a_name_that_cannot_be_read():
    """``import_module(x)`` would not be followed."""
    calls = 0
    for path in {path for code in every_closure().values() for path in code.files.values()}:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(
                    node.func, "id", "")) in ("import_module", "__import__", "exec", "eval"):
                name = node.args[0] if node.args else None
                if isinstance(node.func, ast.Attribute) and node.func.attr == "eval":
                    continue  # of a network
                calls += 1
                assert isinstance(name, ast.Constant | ast.JoinedStr), path
    assert calls  # of the attention implementations


def test_the_report_counts_printed_figures_by_their_values(monkeypatch, fresh):
    before = sources.stage("report")
    figures = sources.published.load()
    fresh()
    assert sources.stage("report") == before
    monkeypatch.setattr(sources.published, "load", lambda: figures[:-1])
    fresh()
    assert sources.stage("report") != before


def test_a_template_counts_for_the_report_alone(tmp_path, monkeypatch, fresh):
    before, leaks = sources.stage("report"), sources.stage("leaks")
    copy = tmp_path / "irbench"
    shutil.copytree(sources.ROOT, copy,
                    ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    monkeypatch.setattr(sources, "ROOT", copy)
    fresh()
    assert sources.stage("report") == before
    page = copy / "report" / "page" / "page.html.j2"
    page.write_text(page.read_text() + "<p>")
    fresh()
    assert (sources.stage("report") != before, sources.stage("leaks")) == (True, leaks)


def test_the_parts_of_a_users_code(tmp_path, monkeypatch):
    """Of the plugin and what it imports by file, so that a change can be named."""
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    own = tmp_path / "tiny_model.py"
    (tmp_path / "mine.py").write_text("FACTOR = 1\n")
    own.write_text("import mine\n" + own.read_text())
    model = plan.load("config.yaml").models["tiny"]
    before = sources.parts("cell", model, (str(own),))
    assert set(before["files"]) == {"tiny_model.py", "mine.py"}
    (tmp_path / "mine.py").write_text("FACTOR = 2\n")
    after = sources.parts("cell", model, (str(own),))
    assert after["irbench"] == before["irbench"]
    assert [name for name in before["files"] if after["files"][name] != before["files"][name]] == [
        "mine.py"]
    assert sources.parts("cell", plan.load("config.yaml").models["bicubic"], (str(own),)) is None
