# Train a model for a protocol. The weights and the resumable state are no outputs: Snakemake
# deletes the outputs of interrupted jobs, and these must survive. The record holds their checksum.
rule train:
    input:
        data=training_data,
    output:
        f"{RUN}/training/{{protocol}}/{{model}}.json",
    params:
        config=CONFIG,
        attempt=attempt("trainings"),
    threads: 1
    resources:
        gpu=GPU,
    log:
        f"{RUN}/logs/training/{{protocol}}/{{model}}.log",
    message:
        "Train {wildcards.model} for {wildcards.protocol}"
    shell:
        "irbench train --config {params.config} --protocol {wildcards.protocol}"
        " --model {wildcards.model} --threads {threads}"
        " --on-failure record --attempt {params.attempt} --log {log} > /dev/null"
