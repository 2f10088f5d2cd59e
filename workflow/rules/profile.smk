# Parameters, MACs, latency, memory. A latency job takes all cores, so that it runs alone.
rule profile:
    input:
        RUN.inputs("profiles"),
    output:
        report(
            record("profile"),
            caption="../report/profile.rst",
            category="Costs",
            subcategory=RUN.subcategory("profiles"),
            labels=RUN.labels("profiles"),
        ),
    params:
        plan=PLAN,
        attempt=RUN.attempt("profiles"),
    threads: RUN.cores
    resources:
        gpu=RUN.gpu,
    log:
        FOLDER.log("profile"),
    message:
        "Measure {wildcards.model} for {wildcards.protocol}"
    shell:
        "irbench profile --plan {params.plan:q} --protocol {wildcards.protocol:q}"
        " --model {wildcards.model:q} --threads {threads:q}"
        " --on-failure record --attempt {params.attempt:q} --log {log:q} > /dev/null"
