"""The parts of benchmarks/peers.py: what starts and asks (no framework), and what is asked, one file a framework."""
