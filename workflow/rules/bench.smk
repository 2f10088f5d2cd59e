# Time and memory of the attention implementations, if the config has `attention_bench`. Like a
# latency job it takes all cores, so that it runs alone.
rule bench:
    input:
        RUN.inputs("benches"),
    output:
        report(
            record("bench"),
            caption="../report/bench.rst",
            category="Benchmarks of parts",
            labels=RUN.labels("benches"),
        ),
    params:
        plan=PLAN,
        attempt=RUN.attempt("benches"),
    threads: RUN.cores
    resources:
        gpu=RUN.gpu,
    log:
        FOLDER.log("bench"),
    message:
        "Measure {wildcards.bench} by itself"
    shell:
        "irbench bench {wildcards.bench:q} --plan {params.plan:q} --threads {threads:q}"
        " --on-failure record --attempt {params.attempt:q} --log {log:q} > /dev/null"
