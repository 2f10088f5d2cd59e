# Parameters, MACs, latency, memory. A latency job takes all cores, so that it runs alone.
rule profile:
    input:
        config=ancient(rules.config.output),
    output:
        f"{RUN}/profiles/{{protocol}}/{{model}}.json",
    params:
        fingerprint=fingerprint("profiles"),
        attempt=attempt("profiles"),
        device=SETTINGS["device"],
    threads: workflow.cores or 1
    resources:
        gpu=GPU,
    log:
        f"{RUN}/logs/profiles/{{protocol}}/{{model}}.log",
    message:
        "Measure {wildcards.model} for {wildcards.protocol}"
    shell:
        "irbench profile --config {input.config} --protocol {wildcards.protocol}"
        " --model {wildcards.model} --device {params.device} --threads {threads}"
        " --on-failure record --attempt {params.attempt} --log {log} > /dev/null"
