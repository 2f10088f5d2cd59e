# Cells: one model under one protocol, on several sets. One process loads the network once and writes
# the record of each cell when it is done, so that a kill costs only the cell in work.
#
#   --set-resources evaluate:cells=8      as many cells a job at most (default: 4); also in a profile
for BATCH in RUN.batches:

    rule:
        name:
            BATCH.rule
        input:
            RUN.inputs_of(BATCH),
        output:
            [
                report(
                    RUN.record("cell", dataset=DATASET),
                    caption="../report/cell.rst",
                    category="Cells",
                    subcategory=RUN.subcategory("cells", dataset=DATASET),
                    labels=RUN.labels("cells", dataset=DATASET),
                )
                for DATASET in BATCH.datasets
            ],
        wildcard_constraints:
            protocol=BATCH.protocols,
        params:
            plan=PLAN,
            datasets=RUN.each(BATCH, "dataset"),
            logs=RUN.logs(BATCH),
        threads: 1
        resources:
            gpu=RUN.gpu,
            mem_mb=RUN.memory("cells", BATCH),
            resubmit=0,
        log:
            RUN.log_patterns(BATCH),
        message:
            "Evaluate {wildcards.model} on {params.datasets} under {wildcards.protocol}"
        shell:
            "trap : TERM; irbench eval --plan {params.plan:q} --protocol {wildcards.protocol:q}"
            " --model {wildcards.model:q} --dataset {params.datasets:q} --threads {threads:q}"
            " --on-failure record --resubmit {resources.resubmit:q} --log {params.logs:q}"
            " > /dev/null"


# A cell that the config splits (`shards`) waits for a job for each of its parts, and takes over their
# images. A part keeps what it has done in a file that is not declared, for the reason in train.smk; its
# output is a note that it has ended. What is set for `evaluate` holds for parts, too; RUN.batches sees to
# that, so this rule must come after the others.
rule evaluate_part:
    input:
        RUN.inputs_of_part,
    output:
        temp(touch(RUN.parts.note)),
    wildcard_constraints:
        part=r"\d+",
        parts=r"\d+",
    params:
        plan=PLAN,
        part=lambda wildcards: f"{wildcards.part}/{wildcards.parts}",
    threads: 1
    resources:
        gpu=RUN.gpu,
        mem_mb=RUN.memory("cells"),
        resubmit=0,
    log:
        FOLDER.log("part"),
    message:
        "Evaluate {wildcards.model} on part {wildcards.part} of {wildcards.parts} of"
        " {wildcards.dataset} under {wildcards.protocol}"
    shell:
        "trap : TERM; irbench eval --plan {params.plan:q} --protocol {wildcards.protocol:q}"
        " --model {wildcards.model:q} --dataset {wildcards.dataset:q}"
        " --part {params.part:q} --threads {threads:q}"
        " --on-failure record --resubmit {resources.resubmit:q} --log {log:q} > /dev/null"
