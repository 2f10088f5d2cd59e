# One cell: one model on one dataset under one protocol.
rule evaluate:
    input:
        RUN.inputs("cells"),
    output:
        report(
            record("cell"),
            caption="../report/cell.rst",
            category="Cells",
            subcategory=RUN.subcategory("cells"),
            labels=RUN.labels("cells"),
        ),
    params:
        plan=PLAN,
        attempt=RUN.attempt("cells"),
    threads: 1
    resources:
        gpu=RUN.gpu,
    log:
        FOLDER.log("cell"),
    message:
        "Evaluate {wildcards.model} on {wildcards.dataset} under {wildcards.protocol}"
    shell:
        "irbench eval --plan {params.plan:q} --protocol {wildcards.protocol:q}"
        " --dataset {wildcards.dataset:q} --model {wildcards.model:q}"
        " --threads {threads:q} --on-failure record --attempt {params.attempt:q} --log {log:q}"
        " > /dev/null"
