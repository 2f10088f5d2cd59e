# Tables, plots and the page, from the records alone. They are not declared as outputs: Snakemake deletes
# those of a rule before it starts, and again when it is interrupted, but the last report must stay
# until the new one is there. The output is the note of what the report was made from, which is
# written last. Snakemake's own report gets the files from the rule all. It takes seconds, on the
# machine of Snakemake itself.
rule report:
    input:
        RUN.inputs_of_report,
    output:
        str(FOLDER.report_note),
    params:
        config=str(FOLDER.config),
    localrule: True
    log:
        FOLDER.log("report"),
    message:
        "Render the report"
    shell:
        "irbench report --config {params.config:q} --log {log:q} > /dev/null"
