"""The generator: seed -> page plan -> pages -> gates -> corpus."""

if __name__ == "generator":  # a bare top-level import would hide behind any other package of that name
    raise ImportError("import rostok.generator")
