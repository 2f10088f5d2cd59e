# Fetch and check datasets; the images go to data_root, shared by all runs. On a cluster this runs on
# the machine that Snakemake was started on, which has the internet; `--until data` does only this,
# and fetches weights, too.
rule data:
    input:
        RUN.inputs("data"),
    output:
        report(
            RUN.record("data"),
            caption="../report/data.rst",
            category="Datasets",
            labels=RUN.labels("data"),
        ),
    params:
        plan=PLAN,
    localrule: True
    priority: 2  # trainings wait for it, and they come before all else
    resources:
        mem_mb=RUN.memory("data"),
    log:
        FOLDER.log("data"),
    message:
        "Fetch {wildcards.dataset}"
    shell:
        "irbench data fetch {wildcards.dataset:q} --plan {params.plan:q}"
        " --on-failure record --log {log:q} > /dev/null"


# Search for test images in the training sets. A leak does not stop the run; the report shows it.
rule leaks:
    input:
        RUN.inputs("leaks"),
    output:
        report(
            RUN.record("leaks"),
            caption="../report/leaks.rst",
            category="Leaks",
            labels=RUN.labels("leaks"),
        ),
    params:
        plan=PLAN,
    resources:
        mem_mb=RUN.memory("leaks"),
    log:
        FOLDER.log("leaks"),
    message:
        "Search for test images in the training sets"
    shell:
        "irbench data leak --plan {params.plan:q}"
        " --on-failure record --log {log:q} > /dev/null"
