# The complete pipeline: data -> trainings -> cells and profiles -> report.
#
#   snakemake --cores all                                     the run of config.yaml
#   snakemake --cores all --configfile workflow/configs/benchmark.yaml
#   snakemake -n                                              what would run, and why
#   snakemake --cores all anchors                             check known values (minutes)
#   snakemake --report photos.zip                             Snakemake's own report of a finished run
#
# Each job is one irbench command (workflow/rules/*.smk). irbench/plan/ computes the jobs of a run from
# the config; the records decide which of them run. Scheduling defaults: profiles/default.


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/profile.smk"
include: "workflow/rules/bench.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/check.smk"


rule all:
    default_target: True
    localrule: True
    input:
        RUN.targets,
        shown=RUN.shown,


onstart:
    RUN.begin()


onsuccess:
    RUN.announce()
