# Parameters, MACs, latency, memory. A latency job takes all cores, so that it runs alone.
rule profile:
    input:
        RUN.inputs("profiles"),
    output:
        report(
            RUN.record("profile"),
            caption="../report/profile.rst",
            category="Costs",
            subcategory=RUN.subcategory("profiles"),
            labels=RUN.labels("profiles"),
        ),
    params:
        plan=PLAN,
    threads: RUN.cores
    resources:
        gpu=RUN.gpu,
        mem_mb=RUN.memory("profiles"),
        resubmit=0,
    log:
        FOLDER.log("profile"),
    message:
        "Measure {wildcards.model} for {wildcards.protocol}"
    shell:
        "trap : TERM; irbench profile --plan {params.plan:q} --protocol {wildcards.protocol:q}"
        " --model {wildcards.model:q} --threads {threads:q}"
        " --on-failure record --resubmit {resources.resubmit:q} --log {log:q} > /dev/null"
