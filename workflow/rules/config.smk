# The complete configuration of the run, which all other jobs read.
rule config:
    output:
        f"{RUN}/config.json",
    params:
        text=records.canonical(SETTINGS),
    log:
        f"{RUN}/logs/config.log",
    localrule: True
    message:
        "Write the run's configuration"
    shell:
        "printf '%s\\n' {params.text:q} > {output} 2> {log}"
