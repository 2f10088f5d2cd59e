"""The registry of models, which finds them without importing them.

A model is a module with a literal ``CARDS`` and the builders it names. The registry reads ``CARDS``
from the source text, so that listing models and planning a run do not import torch. Modules in this
package are found automatically; a user's own are named in the config (``plugins:``) or announced by
a package through the entry point group ``irbench.models``.

A card's fields:
    title           the name in tables
    builder         the function of the module that builds it:
                    ``builder(task: str, scale: int, channels: int, **options) -> torch.nn.Module``,
                    a module from (B, channels, H, W) to (B, channels, scale*H, scale*W), float32
                    in [0, 1], for any H, W >= 2
    tasks           the tasks it can do; "*" stands for any task whose output is as large as its
                    input, those of a user's own protocols included
    levels          (optional) task -> levels, if it does not support all levels of a task
    in_paper        whether the paper describes exactly this variant
    note            (optional) a note that tables must show, e.g. that it is not in the paper
    published_as    (optional) its name in published.csv
    source          paper, section, what is inferred
    learned         whether it has weights
    options         name -> default, for every option of the builder; a config's values must have
                    the default's type (``Card.check``), or any type if the default is null
    free            (optional) the options that do not change weights: one checkpoint runs with
                    several values of them, which a config's ``variants`` compares
    dtypes          the floating types it runs in
    reference       (optional) True: a third-party network with random weights, only for comparing
                    speed (``profile.references``); it is never trained or evaluated
    any_scale       (optional) True: in super-resolution it also enlarges by factors that are not
                    whole, such as 2.5
    size_multiple   (optional) the sides of images that the network takes are multiples of this
                    number: irbench pads images on the bottom and right by reflection and crops the
                    result (irbench/inference/guard.py)

The module that a builder returns may offer more methods, which report its attention, facts about
its forward pass, and its multiply-adds: see ``irbench.models.interface``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from irbench.core import files, forms, plugin_files
from irbench.core.errors import UserError, unknown
from irbench.core.files import expanded

REQUIRED = {"title", "builder", "tasks", "in_paper", "source", "learned"}
OPTIONAL = {"levels", "note", "published_as", "options", "free", "dtypes", "reference",
            "any_scale", "size_multiple"}
DTYPES = ("float32", "float64", "float16", "bfloat16")
EVERY = "*"     # among the tasks of a card
PLUGIN = "plugin"   # in messages
ABOUT = ("CARDS is a dict that describes the file's models: `irbench init` writes an example, and "
         "docs/my-model.md explains it.")
HERE = Path(__file__).resolve().parent
# the networks of irbench.models.peers
PEERS = tuple(sorted(path.stem for path in (HERE / "peers").glob("[!_]*.py")))

Test = Callable[[object], bool]


def _list_of(valid: Test) -> Test:
    return lambda value: isinstance(value, list | tuple) and all(map(valid, value))


def _mapping(key: Test, item: Test = lambda _: True) -> Test:
    return lambda value: isinstance(value, dict) and all(
        key(name) and item(one) for name, one in value.items())


def _flag(value: object) -> bool:
    return isinstance(value, bool)


# field -> the test of its value, and what it takes, in words
FORMS: dict[str, tuple[Test, str]] = {
    "title": (forms.line, "a text of one line"),
    **dict.fromkeys(("builder", "source", "note", "published_as"), (forms.text, "a text")),
    **dict.fromkeys(("in_paper", "learned", "reference", "any_scale"), (_flag, "True or False")),
    **dict.fromkeys(("tasks", "free"), (_list_of(forms.text), "a list of texts")),
    "dtypes": (_list_of(DTYPES.__contains__), f"a list of {', '.join(DTYPES)}"),
    "options": (_mapping(forms.text), "a mapping from names to defaults"),
    "levels": (_mapping(forms.text, _list_of(forms.text)), "a mapping from tasks to lists of "
                                                          "levels"),
    "size_multiple": (lambda value: type(value) is int and value >= 1,
                      "a whole number of at least 1"),
}


@dataclass(frozen=True)
class Card:
    """The facts about a model that are known before its code is imported."""

    name: str
    path: Path
    title: str
    builder: str
    tasks: tuple[str, ...]
    in_paper: bool
    source: str
    learned: bool
    levels: dict[str, list[str]] = field(default_factory=dict)
    note: str = ""
    published_as: str = ""
    options: dict = field(default_factory=dict)
    free: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float32",)
    reference: bool = False
    any_scale: bool = False
    size_multiple: int = 1

    @property
    def builtin(self) -> bool:
        """Whether it is one of irbench's own models, not a plugin's."""
        return self.path.parent == HERE

    @property
    def summary(self) -> str:
        """The line that ``irbench list`` shows."""
        return f"{self.title}: {self.note}" if self.reference and self.note else self.title

    def can(self, task: str, level: str, scale: int | float = 1) -> bool:
        """Whether the model supports a task at a level; ``scale`` is output size / input size."""
        named = task in self.tasks or (EVERY in self.tasks and scale == 1)
        return (named and level in self.levels.get(task, [level])
                and (scale == int(scale) or self.any_scale))

    def check(self, where: str, given: dict) -> None:
        """Check a config's options against the defaults, before any job.

        A value must have the default's type (an int is accepted for a float, but not the other way
        round), and be at least 1 if the default is a whole number of at least 1. If the default is
        null, any value is valid.

        Args:
            where: the options' place in the config, for messages.
            given: some of the options, by name.

        Raises:
            UserError: an unknown name or an invalid value.
        """
        for name, value in given.items():
            if name not in self.options:
                raise unknown(f"option of {self.name}", name, self.options, where)
            usual = self.options[name]
            if not _alike(usual, value):
                raise UserError(f"{where}: {name} is {value!r}; it takes {_kind(usual)}, as "
                                f"{usual!r}.")
            if type(usual) is int and value < 1 <= usual:
                raise UserError(f"{where}: {name} is {value}; it must be at least 1.")

    def load(self) -> Callable:
        """Import the model's module and return its builder.

        Raises UserError if a plugin cannot be imported, or the module lacks the builder.
        """
        if self.builtin:
            module = importlib.import_module(f"irbench.models.{self.path.stem}")
        else:
            module = plugin_files.load(self.path, PLUGIN)
        try:
            return getattr(module, self.builder)
        except AttributeError:
            raise UserError(f"{self.path}: CARDS names the builder {self.builder!r}, "
                            "which the module does not define.") from None


def _alike(usual: object, value: object) -> bool:
    if isinstance(usual, float):
        return type(value) in (int, float)
    return usual is None or type(value) is type(usual)


def _kind(usual: object) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a word",
            list: "a list"}.get(type(usual), f"a {type(usual).__name__}")


def cards(plugins: tuple[str, ...] = ()) -> dict[str, Card]:
    """Return all known models by name. Raises UserError for an invalid card or a duplicate name."""
    return dict(_cards(_resolved(plugins)))


def _resolved(plugins: tuple[str, ...]) -> tuple[tuple[Path, tuple[int, ...]], ...]:
    """Return the plugins' paths, and what changes with each edit: a session may go on after it."""
    return tuple((path, files.version_of(path)) for path in (
        expanded(p).resolve() for p in plugins))


@functools.cache
def _cards(plugins: tuple[tuple[Path, tuple[int, ...]], ...]) -> dict[str, Card]:
    found: dict[str, Card] = {}
    paths = [*((p.resolve(), ()) for p in (*_builtin(), *_entry_points())), *plugins]
    for path, version in dict(paths).items():   # a file named twice is still one
        for card in _read(path, version):
            if card.name in found:
                raise UserError(f"{card.path}: the model name {card.name!r} is already taken by "
                                f"{found[card.name].path}. Rename one of them.")
            found[card.name] = card
    return found


def get(name: str, plugins: tuple[str, ...] = ()) -> Card:
    """Return one model's card. Raises UserError with near names if there is none."""
    known = _cards(_resolved(plugins))
    if name not in known:
        raise unknown("model", name, known)
    return known[name]


def build_peer(architecture: str, scale: int, channels: int, **options):
    """Build a network of ``irbench.models.peers`` with random weights.

    Args:
        architecture: one of ``PEERS``.
        scale: output size / input size: 2 to 4 for super-resolution, else 1.
        channels: of the image; the authors' weights are for 3.
        options: of the network's own ``build``.

    Returns:
        A network from (B, channels, H, W), values in [0, 1], to (B, channels, scale*H, scale*W).

    Raises:
        UserError: an unknown architecture, or one of another scale.
    """
    if architecture not in PEERS:
        raise unknown("architecture", architecture, PEERS)
    module = importlib.import_module(f"irbench.models.peers.{architecture}")
    return module.build(scale, channels, **options)


def _builtin() -> list[Path]:
    return sorted(p for p in HERE.glob("*.py") if "\nCARDS" in p.read_text(encoding="utf-8"))


@functools.cache  # looking for entry points reads the metadata of every installed package
def _entry_points() -> tuple[Path, ...]:
    paths = []
    for point in importlib.metadata.entry_points(group="irbench.models"):
        try:
            spec = importlib.util.find_spec(point.value)
        except ModuleNotFoundError:  # the package that should hold it is missing
            spec = None
        if spec is None or not spec.origin:
            raise UserError(f"entry point {point.name!r} of group irbench.models names the module "
                            f"{point.value!r}, which is not installed.")
        paths.append(Path(spec.origin))
    return tuple(paths)


@functools.cache
def _read(path: Path, version: tuple[int, ...]) -> tuple[Card, ...]:
    return tuple(_card(path, name, fields)
                 for name, fields in plugin_files.table(path, "CARDS", PLUGIN, ABOUT).items())


def _card(path: Path, name: str, fields: dict) -> Card:
    missing, extra = REQUIRED - set(fields), set(fields) - REQUIRED - OPTIONAL
    if missing or extra:
        raise UserError(f"{path}: card {name!r}: " + "; ".join(
            ([f"missing {', '.join(sorted(missing))}"] if missing else [])
            + ([f"unknown {', '.join(sorted(extra))}"] if extra else []))
            + f". Valid: {', '.join(sorted(REQUIRED | OPTIONAL))}.")
    if not isinstance(name, str):
        raise UserError(f"{path}: card {name!r}: a model's name is a text.")
    for key, value in fields.items():
        test, valid = FORMS[key]
        if not test(value):
            raise UserError(f"{path}: card {name!r}: {key} is {value!r}; it takes {valid}.")
    for option in fields.get("free", []):
        if option not in fields.get("options", {}):
            raise unknown("option", option, fields.get("options", {}),
                          f"{path}: card {name!r}: free")
    fields = {**fields, "tasks": tuple(fields["tasks"]), "free": tuple(fields.get("free", ())),
              "dtypes": tuple(fields.get("dtypes", ("float32",)))}
    return Card(name=name, path=path, **fields)


def object_of(path: str | Path, name: str) -> object:
    """Import a Python file and return the object of a name, such as the class of a network.

    Raises UserError if the file cannot be read or imported, or has no such name.
    """
    path = expanded(path).resolve()
    if not path.is_file():
        raise UserError(f"{path}: no such file. Give FILE.py:NAME, the path of a Python file and "
                        "the name of a class in it.")
    found = vars(plugin_files.load(path, PLUGIN))
    if name not in found:
        raise unknown("name", name, (one for one, value in found.items()
                                     if getattr(value, "__module__", "") == found["__name__"]),
                      str(path))
    return found[name]
