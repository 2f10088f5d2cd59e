"""Running a network: number type, tiles and memory."""
