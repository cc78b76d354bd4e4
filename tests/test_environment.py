"""What a process must not do: tell strangers what people say."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("switch", ["LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING", "LANGSMITH_TRACING_V2"])
def test_conversations_are_not_traced(switch: str) -> None:
    """Prevents: every question sent to LangSmith because some other program of the same shell is traced."""
    code = ("from rostok.environment import prepare; prepare(); from langsmith.utils import tracing_is_enabled; "
            "print(tracing_is_enabled())")
    found = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True,
                           env={**os.environ, switch: "true", "LANGSMITH_API_KEY": "somebody's"})
    assert found.stdout.strip() == "False"
