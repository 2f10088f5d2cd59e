# Tables, figures and the page, from the records alone.
rule report:
    input:
        records=all_records("data", "trainings", "cells", "profiles", "benches", "leaks"),
    output:
        page=report(
            f"{RUN}/report.html",
            caption="../report/page.rst",
            category="Overview",
            labels={"file": "report.html", "what": "the report", "format": "HTML"},
        ),
        summary=report(
            f"{RUN}/summary.csv",
            caption="../report/summary.rst",
            category="Overview",
            labels={"file": "summary.csv", "what": "every figure", "format": "CSV"},
        ),
        tables=report(
            directory(f"{RUN}/tables"),
            patterns=["{name}.{suffix}"],
            caption="../report/table.rst",
            category="Tables",
            subcategory="{suffix}",
            labels=told_of_file("tables"),
        ),
        # of each figure one file: the PDF and the SVG lie beside it
        figures=report(
            directory(f"{RUN}/figures"),
            patterns=["{name}.{suffix,png}"],
            caption="../report/figure.rst",
            category="Figures",
            subcategory=lambda wildcards: snakefile.drawing(wildcards.name),
            labels=told_of_file("figures"),
        ),
    params:
        config=CONFIG,
        fingerprint=PLAN.report_fingerprint,
    log:
        f"{RUN}/logs/report.log",
    message:
        "Render the report"
    shell:
        "irbench report --config {params.config} --log {log} > /dev/null"
