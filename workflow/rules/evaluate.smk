# One cell: one model on one dataset under one protocol.
rule evaluate:
    input:
        data=record("data"),
        weights=weights,
    output:
        report(
            record("cell"),
            caption="../report/cell.rst",
            category="Cells",
            subcategory=table_of("cells"),
            labels=told("cells"),
        ),
    params:
        config=CONFIG,
        attempt=attempt("cells"),
    threads: 1
    resources:
        gpu=GPU,
    log:
        FOLDER.log("cell"),
    message:
        "Evaluate {wildcards.model} on {wildcards.dataset} under {wildcards.protocol}"
    shell:
        "irbench eval --config {params.config} --protocol {wildcards.protocol}"
        " --dataset {wildcards.dataset} --model {wildcards.model}"
        " --threads {threads} --on-failure record --attempt {params.attempt} --log {log}"
        " > /dev/null"
