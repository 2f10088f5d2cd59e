# Parameters, MACs, latency, memory. A job takes all cores, so that it runs alone. It measures several
# models, one after another, each in a process of its own, and writes the record of each when it is
# done. What these processes have in common is loaded once.
#
#   --set-resources profile:profiles=1    as many profiles a job at most (default: 8); also in a profile
for BATCH in RUN.profiles:

    rule:
        name:
            BATCH.rule
        input:
            RUN.inputs_of(BATCH),
        output:
            [
                report(
                    RUN.record("profile", **KEY),
                    caption="../report/profile.rst",
                    category="Costs",
                    subcategory=RUN.subcategory("profiles", **KEY),
                    labels=RUN.labels("profiles", **KEY),
                )
                for KEY in BATCH.keys
            ],
        params:
            plan=PLAN,
            names=", ".join(BATCH.names),
            protocols=RUN.each(BATCH, "protocol"),
            models=RUN.each(BATCH, "model"),
            logs=RUN.logs(BATCH),
        threads: RUN.cores
        resources:
            gpu=RUN.gpu,
            mem_mb=RUN.memory("profiles", BATCH),
            resubmit=0,
        log:
            RUN.log_patterns(BATCH),
        message:
            "Measure {params.names}"
        shell:
            "trap : TERM; irbench profile --plan {params.plan:q} --protocol {params.protocols:q}"
            " --model {params.models:q} --threads {threads:q}"
            " --on-failure record --resubmit {resources.resubmit:q} --log {params.logs:q}"
            " > /dev/null"
