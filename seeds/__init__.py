"""Thought seeds: the record, its checks, and the library on disk."""

if __name__ == "seeds":  # a bare top-level import would hide behind any other package of that name
    raise ImportError("import rostok.seeds")
