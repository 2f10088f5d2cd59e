"""The cost of a network: parameters, MACs, latency, memory and energy."""
