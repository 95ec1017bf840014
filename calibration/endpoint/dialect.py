"""Which of the fields of OpenAI's API a server takes, and how it is sent a prompt of a known number of tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

__all__ = ["Dialect"]

_EXTRAS: Final = ("return_token_ids", "min_tokens", "ignore_eos")
_FIRST_ID: Final = 100  # below are bytes and special tokens
_VOCABULARIES: Final = (7_000, 900)  # ids below these: not all servers refuse one that is too high, some die of it
_WORDS: Final = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother area "
    "money story fact month lot right study book eye job word business issue side kind head house service friend father "
    "power hour game line end member law car city community name"
)
"""Common enough to be one token each, after a blank, in the tokenisers of today."""


@dataclass(frozen=True)
class Dialect:
    """How a server is asked. ``ids``: prompts go as token ids below ``vocabulary``; else as text, of ``per_word`` tokens a word and
    ``around`` for the template. ``extras``: fields beyond OpenAI's that it took."""

    chat: bool = False
    ids: bool = True
    extras: tuple[str, ...] = _EXTRAS
    vocabulary: int = _VOCABULARIES[0]
    per_word: float = 1.0
    around: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Below the root of the API."""
        return "/chat/completions" if self.chat else "/completions"

    @property
    def shortest(self) -> int:
        """The fewest tokens a prompt can have."""
        return 1 if self.ids else max(1, round(self.around + self.per_word))

    def body(self, model: str, tokens: int, output: int, chance: random.Random) -> dict[str, Any]:
        """A request for ``output`` tokens after a prompt of ``tokens``, unlike any before: no cache of prefixes helps."""
        asked: dict[str, Any] = {"model": model}
        if self.chat:
            asked["messages"] = [{"role": "user", "content": self._text(tokens, chance)}]
        else:
            asked["prompt"] = (
                [chance.randrange(_FIRST_ID, self.vocabulary) for _ in range(tokens)]
                if self.ids
                else self._text(tokens, chance)
            )
        asked |= {"max_tokens": output, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
        values = {"return_token_ids": True, "min_tokens": output, "ignore_eos": True}
        return asked | {name: values[name] for name in self.extras}

    def simpler(self, status: int, said: str) -> Dialect | None:
        """What to try after a refusal in those words; None when there is nothing left to give up."""
        words = said.lower()
        if status in (404, 405):
            return (
                None if self.chat else self._noted("no /completions, so prompts go through /chat/completions")._chat()
            )
        if (
            self.ids
            and self.vocabulary > _VOCABULARIES[-1]
            and any(hint in words for hint in ("vocab", "out of range"))
        ):
            return replace(self, vocabulary=next(size for size in _VOCABULARIES if size < self.vocabulary))
        named = [name for name in self.extras if name in words]
        if not named and self.ids and "prompt" in words:
            return self._text_instead()
        gone = named or list(self.extras[:1])
        if gone:
            kept = tuple(name for name in self.extras if name not in gone)
            return replace(self, extras=kept)._noted(f"the server does not take {', '.join(gone)}")
        if self.ids:
            return self._text_instead()
        return None if self.chat else self._chat()

    def measured(self, sent: Sequence[int], counted: Sequence[int]) -> Dialect:
        """With the tokens a word and around it that follow from what the server counted for prompts of ``sent`` words."""
        per_word = max((counted[-1] - counted[0]) / (sent[-1] - sent[0]), 0.1)
        return replace(self, per_word=per_word, around=max(counted[0] - per_word * sent[0], 0.0))

    def _text(self, tokens: int, chance: random.Random) -> str:
        return " ".join(chance.choices(_WORDS.split(), k=max(1, round((tokens - self.around) / self.per_word))))

    def _text_instead(self) -> Dialect:
        return replace(self, ids=False)._noted(
            "the server takes no token ids: prompts are text, and their tokens as it counts them"
        )

    def _chat(self) -> Dialect:
        return replace(self, chat=True, ids=False)

    def _noted(self, note: str) -> Dialect:
        return replace(self, notes=(*self.notes, note))
