"""The layers of docs/architecture.md, held against what every module imports."""

import ast
import functools
import re
from collections import defaultdict

import pytest

import irbench
from tests.helpers.paths import ROOT

PACKAGE = ROOT / "irbench"
PAGE = ROOT / "docs" / "architecture.md"
# an import inside a function is for these, which take a second or more, and for what loads them
HEAVY = {"torch", "torchvision", "matplotlib", "pandas", "seaborn", "pyiqa", "lpips", "fvcore",
         "huggingface_hub",
         "spandrel", "spandrel_extra_arches", "accelerate", "triton", "safetensors.torch"}
# and for these, which few commands need -> milliseconds of CPU time that the import takes.
# Quicker ones (tabulate 60, tqdm 50, psutil 20, PIL 20) are imported at a module's head.
SLOW = {"scipy": 780, "cv2": 130, "numpy": 100, "requests": 95, "pooch": 80, "jsonschema": 80,
        "h5py": 50, "PIL": 50}
OPTIONAL = {"shtab"}    # of an extra, and not installed everywhere
# these import a module by a name that is data; elsewhere such an import would hide an arrow
BY_NAME = {"irbench": "its public names", "irbench.plan": "the names of its face",
           "irbench.report.plots": "the list of plots",
           "irbench.models.registry": "architectures",
           "irbench.models.attention": "implementations, one of which needs triton"}
LINES, MODULES = 400, 15


def modules():
    return {".".join(("irbench", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"): path for path in sorted(PACKAGE.rglob("*.py"))}


MODULES_BY_NAME = modules()


@functools.cache
def tree(name):
    return ast.parse(MODULES_BY_NAME[name].read_text())


def layer(name):
    """The row of the table that a module belongs to: its package, or itself at the top."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "irbench"


def table():
    """Read {package: what it may import} from the page, which is the one source."""
    rows = re.findall(r"^\| `([\w.]+?)/?(?:\.py)?` \|[^|]*\|([^|]*)\|$", PAGE.read_text(), re.M)
    names = [name for name, _ in rows]
    found = {}
    for place, (name, may) in enumerate(rows):
        may = may.strip()
        if may == "all above":
            found[name] = set(names[:place])
        elif may == "nothing":
            found[name] = set()
        elif may.startswith("all"):
            left_out = set(re.findall(r"`(\w+)`", may))
            assert left_out <= {*names}, may
            found[name] = set(names) - left_out
        else:
            found[name] = set(re.findall(r"`(\w+)`", may))
            assert found[name] <= set(names), may
    return found


def imports(name):
    """Yield (imported module, line, inside a function, for types only) for each import."""
    own = MODULES_BY_NAME[name]
    package = name if own.name == "__init__.py" else name.rpartition(".")[0]

    def walk(node, inside, types):
        for child in ast.iter_child_nodes(node):
            deeper = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            only = types or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test))
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield alias.name, child.lineno, inside, types
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parts = package.split(".")[:len(package.split(".")) - child.level + 1]
                    base = ".".join([*parts, *filter(None, [base])])
                for alias in child.names:
                    whole = f"{base}.{alias.name}"
                    yield whole if whole in MODULES_BY_NAME else base, child.lineno, inside, types
            else:
                yield from walk(child, deeper, only)

    yield from walk(tree(name), False, False)


@functools.cache
def arrows(name):
    return tuple(imports(name))


@functools.cache
def outside(name):
    """The modules not of irbench that importing a module loads, found without importing it."""
    seen, waiting, found = set(), [name], set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if "." in one:
            waiting.append(one.rpartition(".")[0])     # Python imports the package first
        for target, _, inside, types in arrows(one):
            if inside or types:
                continue
            if target in MODULES_BY_NAME:
                waiting.append(target)
            else:
                found.add(target)
    return found


def among(names, packages):
    """Say whether any of some modules is, or lies in, one of some packages."""
    return any(name == one or name.startswith(f"{one}.") for name in names for one in packages)


def test_the_table_names_every_package_and_nothing_else():
    there = {layer(name) for name in MODULES_BY_NAME} - {"irbench", "__main__"}
    assert set(table()) - {"irbench"} == there


def test_the_page_names_files_that_exist():
    named = re.findall(r"`([a-z_./]+/[a-z_./]*)`", PAGE.read_text())
    assert len(named) > 40 and not [
        one for one in named if not any((folder / one).exists() for folder in (PACKAGE, ROOT))]


def test_no_import_goes_against_the_table():
    may = table() | {"irbench": {"api", "core"}}
    wrong = [f"{name}:{line} imports {target}" for name in MODULES_BY_NAME
             for target, line, _, _ in arrows(name)
             if target in MODULES_BY_NAME and layer(name) != "__main__"
             and layer(target) not in {layer(name), *may[layer(name)]}]
    # the version is the one name that anybody may take from the package itself
    wrong = [one for one in wrong if not one.endswith(" imports irbench")]
    assert not wrong, "\n".join(wrong)


def test_nobody_imports_the_command_line_but_main():
    wrong = [f"{name}:{line}" for name in MODULES_BY_NAME for target, line, _, _ in arrows(name)
             if target.startswith("irbench.cli") and layer(name) not in ("cli", "__main__")]
    assert not wrong


def test_there_is_no_circle():
    # the public names are typed, but imported on first use: any module may ask for the version
    graph = {name: {target for target, _, _, types in arrows(name) if target in MODULES_BY_NAME
                    and target != name and not (types and name == "irbench")}
             for name in MODULES_BY_NAME}
    done, path = set(), []

    def visit(name):
        if name in path:
            pytest.fail(" -> ".join([*path[path.index(name):], name]))
        if name in done:
            return
        path.append(name)
        for target in sorted(graph[name]):
            visit(target)
        path.pop()
        done.add(name)

    for name in graph:
        visit(name)


def test_an_import_inside_a_function_is_for_what_takes_long():
    wrong = []
    for name in MODULES_BY_NAME:
        for target, line, inside, _ in arrows(name):
            if not inside:
                continue
            if target in MODULES_BY_NAME:
                allowed = among(outside(target), HEAVY)
            else:
                allowed = among({target}, HEAVY | SLOW.keys() | OPTIONAL)
            if not allowed:
                wrong.append(f"{name}:{line} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_planning_and_the_command_line_load_nothing_heavy():
    for name in ("irbench.cli", "irbench.plan.compose", "irbench.snakefile"):
        assert not [one for one in outside(name) if among({one}, HEAVY)], name


def test_the_public_names_are_of_the_api_and_load_nothing():
    """The names that type checkers see are those that are imported on first use."""
    typed = {(target, alias.name) for target, line, _, types in arrows("irbench") if types
             for node in ast.walk(tree("irbench")) if getattr(node, "lineno", 0) == line
             and isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == {(home, name) for name, home in irbench.HOMES.items()}
    assert {home for home, _ in typed} <= {*MODULES_BY_NAME}
    assert all(layer(home) == "api" or home == "irbench.core.errors" for home, _ in typed)
    assert sorted(irbench.HOMES) == sorted(irbench.__all__)
    assert not [one for one in outside("irbench") if one not in ("importlib", "typing")]


def test_few_modules_import_others_by_a_name_that_is_data():
    found = {name for name in MODULES_BY_NAME for node in ast.walk(tree(name))
             if isinstance(node, ast.Call) and "import_module" in ast.dump(node.func)}
    assert found == set(BY_NAME)


def test_only_jobs_make_records():
    wrong = [name for name in MODULES_BY_NAME if layer(name) != "jobs"
             and re.search(r"\brecords\.make\(", MODULES_BY_NAME[name].read_text())]
    assert not wrong


def test_no_two_public_classes_have_one_name():
    homes = defaultdict(list)
    for name in MODULES_BY_NAME:
        for node in tree(name).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name)
    assert not {cls: where for cls, where in homes.items() if len(where) > 1}


def test_packages_and_modules_stay_small():
    long = {name: lines for name, path in MODULES_BY_NAME.items()
            if (lines := len(path.read_text().splitlines())) > LINES}
    assert not long
    folders = defaultdict(int)
    for path in MODULES_BY_NAME.values():
        folders[str(path.parent.relative_to(PACKAGE))] += path.name != "__init__.py"
    # cli/ has one module a verb
    assert not {one: n for one, n in folders.items() if n > MODULES and one != "cli"}
