"""The author: a LangGraph team of roles that writes thought seeds with a local model."""

if __name__ == "agents":  # a bare top-level import would hide behind any other package of that name
    raise ImportError("import rostok.agents")
