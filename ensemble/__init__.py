"""The ensemble: route a question to an expert or to the base, answer, remember."""

if __name__ == "ensemble":  # a bare top-level import would hide behind any other package of that name
    raise ImportError("import rostok.ensemble")
