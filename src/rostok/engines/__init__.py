"""Local language models behind one small protocol: see `rostok.engines.protocol`."""
