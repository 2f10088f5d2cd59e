# Time and memory of the attention implementations, if the config has `attention_bench`. Like a
# latency job it takes all cores, so that it runs alone.
rule bench:
    input:
        RUN.inputs("benches"),
    output:
        report(
            RUN.record("bench"),
            caption="../report/bench.rst",
            category="Benchmarks of parts",
            labels=RUN.labels("benches"),
        ),
    params:
        plan=PLAN,
    threads: RUN.cores
    resources:
        gpu=RUN.gpu,
        mem_mb=RUN.memory("benches"),
        resubmit=0,
    log:
        FOLDER.log("bench"),
    message:
        "Measure {wildcards.bench} by itself"
    shell:
        "trap : TERM; irbench bench {wildcards.bench:q} --plan {params.plan:q} --threads {threads:q}"
        " --on-failure record --resubmit {resources.resubmit:q} --log {log:q} > /dev/null"
