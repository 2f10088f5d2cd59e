"""One module a kind of job, each with ``run(plan, job, settings) -> Result``; ``run`` does any."""
