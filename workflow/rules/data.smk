# Fetch and check datasets; the images go to data_root, shared by all runs.
rule data:
    input:
        RUN.inputs("data"),
    output:
        report(
            record("data"),
            caption="../report/data.rst",
            category="Datasets",
            labels=RUN.labels("data"),
        ),
    params:
        plan=PLAN,
        attempt=RUN.attempt("data"),
    log:
        FOLDER.log("data"),
    message:
        "Fetch {wildcards.dataset}"
    shell:
        "irbench data fetch {wildcards.dataset:q} --plan {params.plan:q}"
        " --on-failure record --attempt {params.attempt:q} --log {log:q} > /dev/null"


# Search for test images in the training sets. A leak does not stop the run; the report shows it.
rule leaks:
    input:
        RUN.inputs("leaks"),
    output:
        report(
            record("leaks"),
            caption="../report/leaks.rst",
            category="Leaks",
            labels=RUN.labels("leaks"),
        ),
    params:
        plan=PLAN,
        attempt=RUN.attempt("leaks"),
    log:
        FOLDER.log("leaks"),
    message:
        "Search for test images in the training sets"
    shell:
        "irbench data leak --plan {params.plan:q}"
        " --on-failure record --attempt {params.attempt:q} --log {log:q} > /dev/null"
