"""The ensemble over HTTP: a page for people, OpenAI's protocol for programs, and one guard in front of both."""
