"""What a run has come to: `facts` for programs (`rostok report RUN --json`), one HTML page for people.

Reads the files of a run and nothing else; takes no lock, so it can be looked at while the night is still going on.
"""
