"""A set's files: fetch, find, check, hash, and search for leaks."""
