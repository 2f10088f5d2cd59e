"""A model of the plan as typed data: architecture, origin of the weights, and how it is run.

Models are created with the plan and read by plan, weights, inference, jobs, report and compare.
This module reads and writes nothing and does not import torch. ``as_dict`` returns the plain data
that records, headers of checkpoints and the report keep; ``from_dict`` reads it. Do not change the
lists and dicts inside a model; use ``dataclasses.replace`` to make another model.

Try: ``python -c "from irbench import plan; print(plan.load('config.yaml').models['compacter'])"``
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from irbench.catalog.recipes import Recipe
from irbench.core import forms
from irbench.core.errors import unknown

EXTERNAL = "external"   # architecture of third-party weights, and the kind of their checkpoint
OUTPUTS = "outputs"     # the same of a model of which only result images are given
MODULE = "python"       # architecture of a torch module that a Python program hands in
SELF_ENSEMBLE = "self-ensemble (mean over 8 flips and rotations)"
OF_SOME = ("reference", "own", "seed_of", "seed")   # fields of a model that few have
KINDS = ("none", "trained", "bundled", "file", "url", EXTERNAL, OUTPUTS)


@dataclass(frozen=True)
class Inference:
    """How a network is run. The default changes nothing; ``irbench.inference.options`` checks it.

    Attributes:
        dtype: type of weights and arithmetic: float32, float64, float16, bfloat16.
        channels_last: whether weights and input are in torch's NHWC layout.
        compile: whether torch.compile is used.
        tile: auto (tiles where memory does not suffice), off, or the largest side of a tile in
            pixels of the input.
        overlap: pixels of the input that two neighbouring tiles share; None: chosen per network.
        memory_gib: memory the process may use with ``auto``; None: 80 % of the available memory.
        self_ensemble: whether the output is the mean over the 8 flips and rotations of the input.
    """

    dtype: str = "float32"
    channels_last: bool = False
    compile: bool = False
    tile: int | str = "auto"
    overlap: int | None = None
    memory_gib: float | None = None
    self_ensemble: bool = False

    def as_dict(self) -> dict:
        """Return all options as plain data."""
        return _plain(self)

    @classmethod
    def from_dict(cls, given: dict) -> Inference:
        """Return options from ``as_dict``'s data, unchecked. Raises UserError for unknown keys."""
        return forms.make(cls, given, "inference")

    def unlike(self, usual: Inference) -> dict:
        """Return the options that differ from ``usual``, as plain data."""
        return {name: value for name, value in _plain(self).items()
                if value != getattr(usual, name)}


@dataclass(frozen=True)
class Checkpoint:
    """Where the weights of a model come from.

    Attributes:
        kind: none: the model has no weights. trained: by a training of the run. bundled: shipped
            with irbench; for a given protocol they become a file. file: irbench's own format, at
            ``path``. url: the same, fetched from ``url``. external: third-party weights, at
            ``path`` or ``url``, or those of a ``peer``. outputs: no weights, but result images at
            ``path``, with ``sha256`` over all of them (``irbench.data.outputs``).
        path: the file. In the plan's models it may hold {protocol}, {task} and {level}, which are
            filled in for each protocol.
        url: the file's address, which may hold the same.
        sha256: the digest that the file must have; None if it is not known (yet). In the plan's
            models also a mapping from levels to digests.
        peer: the peer of the catalog that the file belongs to.
        needs: a package that must be installed to load it, as pip names it.
        weights_key: which set of weights to take from a file that holds several; None: a running
            mean (EMA) first, see ``irbench.weights.naming``.
        network: of a peer whose network is in ``irbench.models.peers``: its ``architecture`` and
            the options of its builder. None: spandrel recognises the file.
    """

    kind: str = "none"
    path: str | None = None
    url: str | None = None
    sha256: str | dict[str, str] | None = None
    peer: str | None = None
    needs: str | None = None
    weights_key: str | None = None
    network: dict | None = None

    def __post_init__(self) -> None:
        """Raise UserError for a kind that does not exist."""
        if self.kind not in KINDS:
            raise unknown("kind", self.kind, KINDS, "checkpoint")

    def as_dict(self) -> dict:
        """Return the known values as plain data; ``sha256`` is included if a file is named."""
        return {name: value for name, value in _plain(self).items() if value is not None
                or (name == "sha256" and (self.path or self.url))}

    @classmethod
    def from_dict(cls, given: dict) -> Checkpoint:
        """Return the checkpoint from ``as_dict``'s data. Raises UserError for a bad key or kind."""
        return forms.make(cls, given, "checkpoint")


@dataclass(frozen=True)
class Model:
    """A model of a run: an architecture with its options, its weights and a way to run it.

    Attributes:
        name: its name in the run; BASE.NAME for a variant.
        arch: its card in the registry; ``EXTERNAL`` for third-party weights, ``MODULE`` for a torch
            module of a Python program.
        title: its name in tables.
        in_paper: whether the paper describes exactly this model.
        note: a note that tables must show beside it.
        published_as: its name in published.csv, "" for none.
        learned: whether it has weights.
        options: all options of the architecture.
        checkpoint: where its weights come from.
        training: how its weights are trained; None if they are not trained in this run.
        inference: how it is run.
        base: the model whose weights a variant uses; None if the model is not a variant.
        base_options: the options of the base, with which the weights were trained.
        variant: the ``options`` and ``inference`` in which a variant differs from its base.
        reference: whether it has random weights and is only profiled.
        own: whether its architecture is a user's, from a plugin.
        seed_of: the model whose training this one repeats with another seed; None for the first
            seed, and for a model that is trained with one.
        seed: which of the seeds of that training this is, from 2 on; None for the first.
    """

    name: str
    arch: str
    title: str = ""
    in_paper: bool = False
    note: str = ""
    published_as: str = ""
    learned: bool = True
    options: dict = field(default_factory=dict)
    checkpoint: Checkpoint = Checkpoint()
    training: Recipe | None = None
    inference: Inference = Inference()
    base: str | None = None
    base_options: dict | None = None
    variant: dict[str, dict] | None = None
    reference: bool = False
    own: bool = False
    seed_of: str | None = None
    seed: int | None = None

    @property
    def external(self) -> bool:
        """Whether it has third-party weights, whose file determines the architecture."""
        return self.arch == EXTERNAL

    @property
    def given(self) -> bool:
        """Whether it is scored from result images that somebody else made, instead of being run."""
        return self.arch == OUTPUTS

    @property
    def owner(self) -> str:
        """The model that the weights are named after: for a variant its base."""
        return self.base or self.name

    @property
    def entry(self) -> str:
        """The config's model that it comes from: for a variant or another seed the base."""
        return self.base or self.seed_of or self.name

    @property
    def trained_options(self) -> dict:
        """The options that the weights were trained with."""
        return self.options if self.base_options is None else self.base_options

    def as_dict(self) -> dict:
        """Return the model as plain data; what only some models have is omitted if not set."""
        plain = _plain(self) | {
            "checkpoint": self.checkpoint.as_dict(), "inference": self.inference.as_dict(),
            "training": self.training and self.training.as_dict()}
        return {name: value for name, value in plain.items() if name not in OF_SOME or value}

    @classmethod
    def from_dict(cls, given: dict) -> Model:
        """Return the model from ``as_dict``'s data; missing keys get their defaults.

        Raises:
            UserError: an unknown key at any depth, or an incomplete recipe.
        """
        parts = {name: kind.from_dict(given[name]) for name, kind in (
            ("checkpoint", Checkpoint), ("training", Recipe), ("inference", Inference))
            if given.get(name) is not None}
        return forms.make(cls, {**given, **parts}, f"model {given.get('name', '')}".strip())


def teacher_of(recipe: Recipe | None) -> Model | None:
    """Return the teacher of a recipe that was fitted to a protocol, as a model; None without one.
    """
    teacher = recipe.teacher if recipe else None
    if not teacher or "checkpoint" not in teacher:
        return None
    return Model.from_dict({"name": teacher["model"], **{
        name: teacher[name] for name in ("arch", "title", "options", "checkpoint", "inference")
        if name in teacher}})


def _plain(one: object) -> dict:
    return {field.name: getattr(one, field.name) for field in fields(one)}
