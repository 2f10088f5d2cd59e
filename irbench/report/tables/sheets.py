"""All other tables of a run (not those of methods), by the stem of their files.

Reads nothing but the collected run; ``irbench.report.build`` writes ``tables/<stem>.{md,tex,csv}``.
"""

from __future__ import annotations

from irbench.present.table import Table
from irbench.report.plots import attention
from irbench.report.run import Run
from irbench.report.tables import costs, dictionary, efficiency, trainings, variants


def build(run: Run) -> dict[str, Table]:
    """Return the tables that have rows: training, variants, profiles, operations, ..."""
    made = [trainings.sheet(run), variants.sheet(run), efficiency.sheet(run), *costs.sheets(run),
            dictionary.sheet(run), attention.sheet(run)]
    return {sheet.stem: sheet for sheet in made if sheet is not None}
