# Tables, plots and the page, from the records alone: seconds, on the machine of Snakemake itself.
rule report:
    input:
        RUN.inputs_of_report,
    output:
        page=report(
            str(FOLDER.report),
            caption="../report/page.rst",
            category="Overview",
            labels={"file": "report.html", "what": "the report", "format": "HTML"},
        ),
        summary=report(
            str(FOLDER.summary),
            caption="../report/summary.rst",
            category="Overview",
            labels={"file": "summary.csv", "what": "every value", "format": "CSV"},
        ),
        tables=report(
            directory(str(FOLDER.tables)),
            patterns=["{name}.{suffix}"],
            caption="../report/table.rst",
            category="Tables",
            subcategory="{suffix}",
            labels=RUN.file_labels(FOLDER.tables),
        ),
        # one file per plot; the PDF and SVG files are beside it
        figures=report(
            directory(str(FOLDER.figures)),
            patterns=["{name}.{suffix,png}"],
            caption="../report/figure.rst",
            category="Plots",
            subcategory=lambda wildcards: snakefile.drawing(wildcards.name),
            labels=RUN.file_labels(FOLDER.figures),
        ),
    params:
        config=str(FOLDER.config),
    localrule: True
    log:
        FOLDER.log("report"),
    message:
        "Render the report"
    shell:
        "irbench report --config {params.config:q} --log {log:q} > /dev/null"
