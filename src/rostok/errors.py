"""The errors that people see. The CLI prints the message as one sentence and exits with 2; nothing else catches them.

A message says what is wrong, where, and what to do.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RostokError(Exception):
    """Something that a person can put right; the message says how."""


class ConfigError(RostokError):
    """A setting, a profile or an option that cannot be used."""


class DataError(RostokError):
    """A file of a run that is damaged, missing, or made from something else."""


class ModelError(RostokError):
    """A model, tokenizer, embedder or adapter that cannot be loaded or does not fit."""


class PromptTooLong(ModelError):
    """Prompt and completion together do not fit the model's context; nothing was cut."""


class GrammarError(ModelError):
    """A grammar or JSON schema that cannot be compiled, or that allows no word of the vocabulary."""


class AdapterError(ModelError):
    """An adapter that is missing, damaged, unknown, or made for another base."""


class DeadlinePassed(ModelError):
    """A request that was not answered in the time it was given."""


class ServerError(ModelError):
    """A model server that does not answer, refuses, or answers something else than its protocol says."""


class RunError(RostokError):
    """A run folder that is held by another process, of another format, or at another stage."""


class QuestionError(RostokError):
    """A message that cannot be answered: empty, or far too long."""


class ClusterError(RostokError):
    """A Ray cluster that is not there, cannot be joined, or has no room."""


class StorageError(RostokError):
    """The disk refused a write. What was written before is whole."""


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(
                f"cannot write {path}: {error.strerror}. Free some space and run the same command again; "
                "everything that was finished is kept."
            ) from error
        raise StorageError(f"cannot write {path}: {error.strerror or error}. Check the folder and its rights.") from error
