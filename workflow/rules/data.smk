# Fetch and check datasets; the images go to data_root, shared by all runs.
rule data:
    output:
        f"{RUN}/data/{{dataset}}.json",
    params:
        config=CONFIG,
        fingerprint=fingerprint("data"),
        attempt=attempt("data"),
    log:
        f"{RUN}/logs/data/{{dataset}}.log",
    message:
        "Fetch {wildcards.dataset}"
    shell:
        "irbench data fetch {wildcards.dataset} --config {params.config}"
        " --on-failure record --attempt {params.attempt} --log {log} > /dev/null"
