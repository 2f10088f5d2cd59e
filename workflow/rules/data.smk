# Fetch and check datasets; the images go to data_root, shared by all runs.
rule data:
    output:
        report(
            f"{RUN}/data/{{dataset}}.json",
            caption="../report/data.rst",
            category="Datasets",
            labels=told("data"),
        ),
    params:
        config=CONFIG,
        attempt=attempt("data"),
    log:
        f"{RUN}/logs/data/{{dataset}}.log",
    message:
        "Fetch {wildcards.dataset}"
    shell:
        "irbench data fetch {wildcards.dataset} --config {params.config}"
        " --on-failure record --attempt {params.attempt} --log {log} > /dev/null"


# Look for images of the training sets in the test sets. A leak stops nothing: the report tells it.
rule leaks:
    input:
        data=leak_data,
    output:
        report(
            f"{RUN}/leaks.json",
            caption="../report/leaks.rst",
            category="Leaks",
            labels=told("leaks"),
        ),
    params:
        config=CONFIG,
        attempt=lambda wildcards: records.next_attempt(
            f"{RUN}/leaks.json", PLAN.leaks[SETTINGS["run"]].spec
        ),
    log:
        f"{RUN}/logs/leaks.log",
    message:
        "Look for test images in the training sets"
    shell:
        "irbench data leak --config {params.config}"
        " --on-failure record --attempt {params.attempt} --log {log} > /dev/null"
