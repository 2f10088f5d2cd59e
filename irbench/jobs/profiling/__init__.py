"""What a network costs: parameters, MACs, latency, memory, energy."""
