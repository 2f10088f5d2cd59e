"""What is data: protocols, datasets, recipes, published values, each beside its one reader."""
