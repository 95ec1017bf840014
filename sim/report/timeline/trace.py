"""A trace as Perfetto reads it: tracks, and slices, instants and counters on them.

Numbers of fields are those of Perfetto's protos/perfetto/trace: trace_packet.proto, track_event/{track_descriptor, counter_descriptor,
track_event, debug_annotation}.proto, interned_data/interned_data.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NewType

from sim.report.timeline.protobuf import double, fixed64, length_delimited, text, uint, varint

__all__ = ["Trace", "Track", "Value", "nanoseconds"]

Track = NewType("Track", int)
Value = int | float | str | bool
_Key = tuple[int, int, str, str]

_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4  # TrackEvent.Type
_SEQUENCE = uint(10, 1)  # trusted_packet_sequence_id: there is one writer
_DEFINES = uint(13, 1)  # sequence_flags: SEQ_INCREMENTAL_STATE_CLEARED
_USES = uint(13, 2)  # SEQ_NEEDS_INCREMENTAL_STATE
_LAST = 1 << 24  # more than there are tracks
_BY_RANK = 3  # TrackDescriptor.ChildTracksOrdering: EXPLICIT


class _Names:
    """Strings that are written once and numbered from 1."""

    def __init__(self, field: int) -> None:
        self._field = field
        self._numbers: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def encoded(self) -> bytes:
        entries = (uint(1, number) + text(2, name) for name, number in self._numbers.items())
        return b"".join(length_delimited(self._field, entry) for entry in entries)


class Trace:
    """Collects what happens, at seconds from 0; :meth:`encoded` is the file. On one track slices nest, and come in order."""

    def __init__(self) -> None:
        self._tracks: list[bytes] = []
        self._events: list[bytes] = []
        self._categories, self._names, self._keys = _Names(1), _Names(2), _Names(3)
        self._heads: dict[_Key, bytes] = {}
        self._key_heads: dict[str, bytes] = {}

    # tracks

    def track(self, name: str, parent: Track | None = None, *, last: bool = False) -> Track:
        """A track of slices or instants, perhaps with others below it, in the order in which they are made; those that are ``last``
        come after the others. Those of one name and parent are shown as one, in lanes."""
        return self._track(name, parent, uint(11, _BY_RANK), last=last)

    def counter(self, name: str, parent: Track, unit: str, shared: str) -> Track:
        """A track of numbers of a ``unit``; those with one ``shared`` key are shown on one scale."""
        return self._track(name, parent, length_delimited(8, text(6, unit) + text(7, shared)))

    def _track(self, name: str, parent: Track | None, kind: bytes, *, last: bool = False) -> Track:
        uuid = len(self._tracks) + 1
        above = b"" if parent is None else uint(5, parent)
        rank = uint(12, uuid + _LAST if last else uuid)
        descriptor = length_delimited(60, uint(1, uuid) + text(2, name) + above + rank + kind)
        self._tracks.append(length_delimited(1, _SEQUENCE + descriptor))
        return Track(uuid)

    # events

    def slice(
        self,
        track: Track,
        begin: float,
        end: float,
        name: str,
        category: str,
        arguments: Mapping[str, Value] | None = None,
        flows: Iterable[int] = (),
    ) -> None:
        """From ``begin`` to ``end``, with nothing in it. Slices with a flow's number (from 1) in common are joined by an arrow."""
        self.begin(track, begin, name, category, arguments, flows)
        self.end(track, end)

    def begin(
        self,
        track: Track,
        when: float,
        name: str,
        category: str,
        arguments: Mapping[str, Value] | None = None,
        flows: Iterable[int] = (),
    ) -> None:
        """A slice begins. Of slices that an arrow joins and that begin at one moment, it starts at the one that was begun first."""
        body = self._head(_BEGIN, track, name, category) + self._annotations(arguments)
        self._event(when, body + b"".join(fixed64(47, flow) for flow in flows))

    def end(self, track: Track, when: float) -> None:
        """The slice that began last ends."""
        self._event(when, self._head(_END, track))

    def instant(
        self, track: Track, when: float, name: str, category: str, arguments: Mapping[str, Value] | None = None
    ) -> None:
        """Something happens that takes no time."""
        self._event(when, self._head(_INSTANT, track, name, category) + self._annotations(arguments))

    def count(self, track: Track, when: float, value: int) -> None:
        """The counter is ``value``, 0 or more, from ``when`` on."""
        self._event(when, self._head(_COUNTER, track) + uint(30, value))

    def encoded(self) -> bytes:
        """The whole file. The same calls give the same bytes."""
        names = self._categories.encoded() + self._names.encoded() + self._keys.encoded()
        defined = length_delimited(1, _SEQUENCE + _DEFINES + length_delimited(12, names))
        return b"".join((defined, *self._tracks, *self._events))

    def _event(self, when: float, body: bytes) -> None:
        packet = b"".join((b"\x40", varint(nanoseconds(when)), _SEQUENCE, _USES, b"\x5a", varint(len(body)), body))
        self._events.append(b"\x0a" + varint(len(packet)) + packet)

    def _head(self, kind: int, track: Track, name: str = "", category: str = "") -> bytes:
        key = (kind, track, name, category)
        found = self._heads.get(key)
        if found is None:
            found = uint(9, kind) + uint(11, track)
            if name:
                found += uint(10, self._names[name])
            if category:
                found += uint(3, self._categories[category])
            self._heads[key] = found
        return found

    def _annotations(self, arguments: Mapping[str, Value] | None) -> bytes:
        if not arguments:
            return b""
        return b"".join(self._annotation(key, value) for key, value in arguments.items())

    def _annotation(self, key: str, value: Value) -> bytes:
        head = self._key_heads.get(key)
        if head is None:
            head = self._key_heads[key] = uint(1, self._keys[key])
        if isinstance(value, bool):
            said = uint(2, value)
        elif isinstance(value, int):
            said = uint(3, value) if value >= 0 else uint(4, value + (1 << 64))
        elif isinstance(value, float):
            said = double(5, value)
        else:
            said = text(6, value)
        return b"\x22" + varint(len(head) + len(said)) + head + said


def nanoseconds(seconds: float) -> int:
    """A moment as traces have it."""
    return round(seconds * 1e9)
