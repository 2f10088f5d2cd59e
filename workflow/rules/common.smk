# The requested run, and names that the other rules use (irbench/snakefile.py).
from irbench import snakefile

RUN = snakefile.start(workflow)
FOLDER = RUN.folder  # the paths of the run's files
PLAN = str(FOLDER.plan)  # from which each job reads its entry; written when a run starts


wildcard_constraints:
    protocol=r"[^/]+",
    dataset=r"[^/]+",
    model=r"[^/]+",
    bench=r"[^/]+",
