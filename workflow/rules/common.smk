# The run that Snakemake was asked for, and what the other rules need of it (irbench/snakefile.py).
from irbench import snakefile

RUN = snakefile.start(workflow, config)
FOLDER = RUN.folder  # says where each file of the run lies
record = FOLDER.pattern  # of a kind, e.g. of cells: results/RUN/cells/{protocol}/{dataset}/{model}.json
PLAN = str(FOLDER.plan)  # with which a job reads what it is; written when a run starts


wildcard_constraints:
    protocol=r"[^/]+",
    dataset=r"[^/]+",
    model=r"[^/]+",
    bench=r"[^/]+",
