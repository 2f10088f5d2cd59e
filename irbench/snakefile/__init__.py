"""The Python code behind the Snakefile: the run, the jobs that must run, and labels for reports.

``start`` is called by workflow/rules/common.smk; the rules use the ``Workload`` it returns.

Try: ``snakemake -n``
"""

from irbench.snakefile.rows import drawing, file_labels, labels, outcome, subcategory
from irbench.snakefile.workload import Workload, start

__all__ = ["Workload", "drawing", "file_labels", "labels", "outcome", "start", "subcategory"]
