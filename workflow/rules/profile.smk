# Parameters, MACs, latency, memory. A latency job takes all cores, so that it runs alone.
rule profile:
    output:
        report(
            record("profile"),
            caption="../report/profile.rst",
            category="Costs",
            subcategory=table_of("profiles"),
            labels=told("profiles"),
        ),
    params:
        config=CONFIG,
        attempt=attempt("profiles"),
    threads: CORES
    resources:
        gpu=GPU,
    log:
        FOLDER.log("profile"),
    message:
        "Measure {wildcards.model} for {wildcards.protocol}"
    shell:
        "irbench profile --config {params.config} --protocol {wildcards.protocol}"
        " --model {wildcards.model} --threads {threads}"
        " --on-failure record --attempt {params.attempt} --log {log} > /dev/null"
