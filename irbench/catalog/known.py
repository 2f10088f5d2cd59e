"""What a run can name beside datasets and protocols: peers, recipes and printed values.

irbench's own and those of the config's ``catalog_paths``, read once per plan.

Try: ``python -c "from irbench.catalog.known import Known; print(len(Known.of(()).peers))"``
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from irbench.catalog import peers, published, recipes
from irbench.core.errors import unknown


@dataclass(frozen=True)
class Known:
    """The catalogs of a run by name; ``figures`` are the printed values of its user alone."""

    peers: dict[str, peers.Peer]
    recipes: dict[str, dict]
    figures: tuple[published.Figure, ...] = ()

    @classmethod
    def of(cls, paths: tuple[str | Path, ...] = ()) -> Known:
        """Read the catalogs. Raises UserError for a broken file, or a name defined twice."""
        return cls(peers.catalog(paths), recipes.catalog(paths), published.of_users(paths))

    @property
    def methods(self) -> list[str]:
        """The names of all printed methods."""
        return published.methods((*published.load(), *self.figures))

    def check_datasets(self, known: Collection[str]) -> None:
        """Raise UserError for a printed value on a dataset that the run does not know."""
        for figure in self.figures:
            if figure.dataset not in known:
                raise unknown("dataset", figure.dataset, known,
                              f"catalog_paths: published value of {figure.method!r}")
