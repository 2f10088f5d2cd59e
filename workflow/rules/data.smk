# Fetch and check datasets; the images go to data_root, shared by all runs.
rule data:
    output:
        report(
            record("data"),
            caption="../report/data.rst",
            category="Datasets",
            labels=told("data"),
        ),
    params:
        config=CONFIG,
        attempt=attempt("data"),
    log:
        FOLDER.log("data"),
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
            record("leaks"),
            caption="../report/leaks.rst",
            category="Leaks",
            labels=told("leaks"),
        ),
    params:
        config=CONFIG,
        attempt=lambda wildcards: records.next_attempt(
            record("leaks"), PLAN.leaks[SETTINGS["run"]].spec
        ),
    log:
        FOLDER.log("leaks"),
    message:
        "Look for test images in the training sets"
    shell:
        "irbench data leak --config {params.config}"
        " --on-failure record --attempt {params.attempt} --log {log} > /dev/null"
