"""The swarm: one QLoRA expert per corpus over one shared frozen base, and what each of them learned."""

if __name__ == "swarm":  # a bare top-level import would hide behind any other package of that name
    raise ImportError("import rostok.swarm")
