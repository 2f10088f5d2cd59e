# Train a model for a protocol. The weights and the resumable state are not declared as outputs,
# because Snakemake deletes the outputs of interrupted jobs, and these must survive. The record holds
# their checksum.
#
#   --set-resources train:max_minutes=50         pause after 50 minutes; the next run continues
#   --set-resources train:resubmit=1             with --retries: a paused training is started again
#   --set-resources train:gpu=4                  four GPUs share each batch
#   --set-resources train:graph=1                CUDA graphs, for small networks on one GPU each
#
# These are resources: a change of them must not repeat a training.
rule train:
    input:
        RUN.inputs("trainings"),
    output:
        report(
            RUN.record("training"),
            caption="../report/training.rst",
            category="Trainings",
            subcategory=RUN.subcategory("trainings"),
            labels=RUN.labels("trainings"),
        ),
    params:
        plan=PLAN,
        processes=lambda wildcards, resources: max(1, int(resources.gpu)),
        more=lambda wildcards, resources: ["--graph"] if int(resources.graph) else [],
    threads: 1
    priority: 1  # the longest jobs first: the short ones run beside them
    resources:
        gpu=RUN.gpu,
        mem_mb=RUN.memory("trainings"),
        resubmit=0,
        max_minutes=0,
        graph=0,
    log:
        FOLDER.log("training"),
    message:
        "Train {wildcards.model} for {wildcards.protocol}"
    shell:
        "trap : TERM; irbench train --plan {params.plan:q} --protocol {wildcards.protocol:q}"
        " --model {wildcards.model:q} --threads {threads:q} --max-minutes {resources.max_minutes:q}"
        " --processes {params.processes:q} {params.more:q}"
        " --on-failure record --resubmit {resources.resubmit:q} --log {log:q} > /dev/null"
