"""Rostok grows small minds from thoughts: seeds -> corpora -> experts -> an ensemble, on one workstation.

The stages (`rostok.agents`, `rostok.seeds`, `rostok.generator`, `rostok.swarm`, `rostok.ensemble`) meet only
through files in a run folder; everything else in this package is the ground they share.
"""

__version__ = "0.1.0"
