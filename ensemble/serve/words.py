"""What a client sends, read strictly: JSON in UTF-8, of the named fields, without letters that no text may hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from rostok.ensemble.serve.refusal import bad

T = TypeVar("T", bound="Words")


class Words(BaseModel):
    """A body. Types are taken as they are: `"7"` is no number. A field that is not known is refused by name."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


async def read(request: Request, kind: type[T]) -> T:
    """The body of a request.

    Raises:
        Refusal: 400, naming the field where one is wrong.
    """
    return parse(await body(request), kind)


async def body(request: Request) -> Mapping[str, Any]:
    """The JSON object in a request. Raises `Refusal` 400."""
    try:
        found = json.loads((await request.body()).decode("utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise bad("the request is not UTF-8.") from None
    except RecursionError:
        raise bad("the request is nested too deeply.") from None
    except ValueError as error:
        raise bad(f"the request is not valid JSON: {str(error)[:100]}.") from None
    if not isinstance(found, dict):
        raise bad("the request must be a JSON object.")
    try:
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        raise bad("the request holds half of a letter (a lone surrogate).") from None
    return found


def parse(values: Mapping[str, Any], kind: type[T]) -> T:
    """The values as a record. Raises `Refusal` 400."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        item = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in item["loc"])[:80]
        if item["type"] == "extra_forbidden":
            raise bad(f"'{where}' is not known here.", where, "unknown_parameter") from None
        raise bad(f"'{where}': {item['msg'].removeprefix('Value error, ')}.", where or None) from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
