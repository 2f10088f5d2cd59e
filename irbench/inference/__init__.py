"""How a network is run: number type, tiles, memory."""
