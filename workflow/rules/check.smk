# Check the pipeline on rows with known values (irbench/catalog/anchors.yaml). Not part of the default
# run: `snakemake anchors --cores all`. The command exits with 1 if a row fails, and with 3 if nothing
# could be compared. Then this rule fails too, and the table stays visible.
from irbench.fidelity import anchor_run


rule anchors:
    input:
        RUN.inputs_of_anchors,
    output:
        str(anchor_run.FOLDER.anchors_note),  # not the tables, for the reason in report.smk
    params:
        attempt=lambda wildcards: anchor_run.next_attempt(),
        # from a function, since Snakemake would take braces in a text for wildcards
        data_root=lambda wildcards: RUN.plan.config["data_root"],
    threads: RUN.cores
    log:
        str(anchor_run.FOLDER.anchors("log")),
    message:
        "Compare the anchors with their known values"
    shell:
        "irbench anchors --jobs {threads:q} --data-root={params.data_root:q}"
        " --attempt {params.attempt:q} --log {log:q}"
