# Rows whose figures are known (irbench/catalog/anchors.yaml): is this pipeline right? No part of
# the default run: `snakemake anchors --cores all`. The command exits with 1 if a row fails, and
# with 3 if nothing could be compared; then this rule fails, too, with the table in sight.
from irbench.fidelity import anchor_run


rule anchors:
    output:
        "results/anchors/anchors.csv",
    params:
        fingerprint=lambda wildcards: anchor_run.fingerprint(),
        attempt=lambda wildcards: anchor_run.next_attempt(),
        data_root=SETTINGS["data_root"],
    threads: CORES
    log:
        "results/anchors/anchors.log",
    message:
        "Compare the anchors with their known figures"
    shell:
        "irbench anchors --jobs {threads} --data-root {params.data_root}"
        " --attempt {params.attempt} --log {log}"
