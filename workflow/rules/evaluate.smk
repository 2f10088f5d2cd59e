# One cell: one model on one dataset under one protocol.
rule evaluate:
    input:
        data=f"{RUN}/data/{{dataset}}.json",
        weights=weights,
    output:
        report(
            f"{RUN}/cells/{{protocol}}/{{dataset}}/{{model}}.json",
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
        f"{RUN}/logs/cells/{{protocol}}/{{dataset}}/{{model}}.log",
    message:
        "Evaluate {wildcards.model} on {wildcards.dataset} under {wildcards.protocol}"
    shell:
        "irbench eval --config {params.config} --protocol {wildcards.protocol}"
        " --dataset {wildcards.dataset} --model {wildcards.model}"
        " --threads {threads} --on-failure record --attempt {params.attempt} --log {log}"
        " > /dev/null"
