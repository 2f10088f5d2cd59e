"""The files of datasets: fetch, find, check and hash them, and search them for leaks."""
