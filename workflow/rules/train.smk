# Train a model for a protocol. The weights and the resumable state are no outputs: Snakemake
# deletes the outputs of interrupted jobs, and these must survive. The record holds their checksum.
rule train:
    input:
        config=ancient(rules.config.output),
        data=training_data,
    output:
        f"{RUN}/training/{{protocol}}/{{model}}.json",
    params:
        fingerprint=fingerprint("trainings"),
        attempt=attempt("trainings"),
        device=SETTINGS["device"],
    threads: 1
    resources:
        gpu=GPU,
    log:
        f"{RUN}/logs/training/{{protocol}}/{{model}}.log",
    message:
        "Train {wildcards.model} for {wildcards.protocol}"
    shell:
        "irbench train --config {input.config} --protocol {wildcards.protocol}"
        " --model {wildcards.model} --device {params.device} --threads {threads}"
        " --on-failure record --attempt {params.attempt} --log {log} > /dev/null"
