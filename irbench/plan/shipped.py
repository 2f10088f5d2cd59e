"""The files that come with irbench beside its Python code: Snakefile, rules, configs and profiles.

In a checkout they lie at the top; a wheel carries the same files in ``irbench/pipeline``
(``pyproject.toml``). Reads which files there are; writes nothing.

Try: ``python -c "from irbench.plan import shipped; print(shipped.home(), *shipped.configs())"``
"""

from __future__ import annotations

from pathlib import Path

from irbench.core.errors import UserError

PACKAGE = Path(__file__).parents[1]
PLACES = (PACKAGE / "pipeline", PACKAGE.parent)     # installed; in a checkout
SNAKEFILE, DEFAULT = "Snakefile", "config.yaml"
CONFIGS = Path("workflow", "configs")
PROFILE = Path("profiles", "default")
PROFILES = ("default", "slurm")     # folders beside it


def home() -> Path:
    """Return the folder that holds Snakefile, config.yaml, workflow and profiles.

    Raises UserError if they are missing.
    """
    for place in PLACES:
        if (place / SNAKEFILE).is_file() and (place / CONFIGS).is_dir():
            return place
    raise UserError(f"irbench in {PACKAGE} comes without its Snakefile. Install it again, from its "
                    "wheel or from a checkout.")


def configs() -> dict[str, Path]:
    """Return the configs that come with irbench: ``default``, and those of workflow/configs."""
    found = home()
    return {"default": found / DEFAULT,
            **{path.stem: path for path in sorted((found / CONFIGS).glob("*.yaml"))}}


def is_ours(config: Path) -> bool:
    """Return whether a file is in the folder of configs that come with irbench."""
    folder = config.absolute().parent
    return any(folder == place / CONFIGS for place in PLACES)
