"""One module per kind of job, with ``run(plan, job, settings) -> Result``; ``run`` runs any job."""
