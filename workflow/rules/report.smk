# Tables, figures and the page, from the records alone.
rule report:
    input:
        records=all_records("data", "trainings", "cells", "profiles", "benches", "leaks"),
    output:
        page=f"{RUN}/report.html",
        summary=f"{RUN}/summary.csv",
        tables=directory(f"{RUN}/tables"),
        figures=directory(f"{RUN}/figures"),
    params:
        config=CONFIG,
        fingerprint=PLAN.report_fingerprint,
    log:
        f"{RUN}/logs/report.log",
    message:
        "Render the report"
    shell:
        "irbench report --config {params.config} --log {log} > /dev/null"
