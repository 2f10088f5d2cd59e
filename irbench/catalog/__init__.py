"""The catalogs: protocols, datasets, recipes and published values as data, with their readers."""
