"""What can be wrong with an endpoint, in one line each."""

from __future__ import annotations

import json
from typing import Any, Final

from sim.errors import ProfileError

__all__ = ["EndpointError", "message", "refused", "web_page"]

_LONGEST: Final = 240
_PASSING: Final = frozenset((408, 425, 429, 500, 502, 503, 504))


class EndpointError(ProfileError):
    """A request that failed. ``status`` of the HTTP answer, None if there was none; ``passing``: it may go well another time."""

    def __init__(self, message: str, *, status: int | None = None, passing: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.passing = passing

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self.args, {"status": self.status, "passing": self.passing})


def message(content: bytes) -> str:
    """What the server says in the body of a refusal, as one line: OpenAI's, FastAPI's and TGI's forms, else the text itself."""
    try:
        said: Any = json.loads(content)
    except ValueError:
        said = content.decode("utf-8", "replace")
    while isinstance(said, dict | list):
        if isinstance(said, list):
            said = said[0] if said else ""
            continue
        inner = next((said[key] for key in ("error", "message", "detail", "msg") if said.get(key)), None)
        said = json.dumps(said) if inner is None else inner
    line = " ".join(str(said).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def web_page(kind: str, content: bytes) -> bool:
    """Whether an answer is HTML, by its content type or its first character."""
    return "html" in kind or content.lstrip()[:1] == b"<"


def refused(url: str, status: int, kind: str, content: bytes) -> EndpointError:
    """The fault of an HTTP answer other than 200."""
    said = "a web page, not the API" if web_page(kind, content) else message(content) or "no reason given"
    text = f"{url}: HTTP {status}: {said}"
    if status in (401, 403):
        text += " (a key is taken from the environment variable named by --api-key-env)"
    elif status in (404, 405):
        text += " (give the root of the OpenAI API, as in http://localhost:8000/v1)"
    return EndpointError(text, status=status, passing=status in _PASSING)
