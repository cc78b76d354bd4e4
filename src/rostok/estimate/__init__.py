"""Time, disk and memory of a run, told before it is begun: measured on this machine, or reckoned for another."""
