# Time and memory of the attention implementations, if the config has `attention_bench`. Like a
# latency job it takes all cores, so that it runs alone.
rule bench:
    output:
        report(
            record("bench"),
            caption="../report/bench.rst",
            category="Benchmarks of parts",
            labels=told("benches"),
        ),
    params:
        config=CONFIG,
        attempt=attempt("benches"),
    threads: CORES
    resources:
        gpu=GPU,
    log:
        FOLDER.log("bench"),
    message:
        "Measure {wildcards.bench} by itself"
    shell:
        "irbench bench {wildcards.bench} --config {params.config} --threads {threads}"
        " --on-failure record --attempt {params.attempt} --log {log} > /dev/null"
