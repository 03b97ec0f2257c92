"""Standard MIDI files of four voices on a grid of 16th notes, one channel a voice."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import groupby

TICKS = 120  # of a 16th note
TEMPO = b"\0\xff\x51\x03" + (750_000).to_bytes(3, "big")  # microseconds of a quarter note: 80 a minute


def notes(chords: list[list[int]], voice: int) -> Iterator[tuple[int, int, int]]:
    """Start and end in 16ths, and pitch, of what sounds in one voice. A pitch that is repeated is one held note."""
    start = 0
    for pitch, held in groupby(chord[voice] for chord in chords):
        end = start + len(list(held))
        if pitch:
            yield start, end, pitch
        start = end


def render(chords: list[list[int]]) -> bytes:
    """The bytes of a file."""
    events = []
    for voice in range(4):
        for start, end, pitch in notes(chords, voice):
            events += [(start, 0x90 | voice, pitch), (end, 0x80 | voice, pitch)]
    track, now = bytearray(TEMPO), 0
    for step, status, pitch in sorted(events):  # the end of a note comes before the start of the next
        track += _length((step - now) * TICKS) + bytes([status, pitch, 80])
        now = step
    # silence at the end is kept by the time of the track's end
    track += _length((len(chords) - now) * TICKS) + b"\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 4 * TICKS) + b"MTrk" + struct.pack(">I", len(track)) + track


def parse(data: bytes, most: int) -> list[list[int]]:
    """The first `most` chords of a file: each 16th holds what sounds in it. Raises ValueError in one line."""
    if data[:4] != b"MThd" or len(data) < 14:
        raise ValueError("not a MIDI file")
    division = int.from_bytes(data[12:14], "big")
    if not 0 < division < 0x8000:
        raise ValueError("the MIDI file counts seconds, not notes")
    try:
        events = [event for track in _tracks(data) for event in _events(track)]
    except (IndexError, struct.error):
        raise ValueError("the MIDI file is cut off or damaged") from None
    length = round(4 * max((end for _, end, _, _ in events), default=0) / division)
    chords = [[0, 0, 0, 0] for _ in range(min(most, length))]
    if not chords:
        raise ValueError("the MIDI file holds no notes")
    for start, end, channel, pitch in events:
        if channel > 3:
            raise ValueError(f"the MIDI file has a channel {channel + 1}; the four voices are channels 1 to 4")
        for chord in chords[round(4 * start / division) : round(4 * end / division)]:
            chord[channel] = pitch
    return chords


def _length(value: int) -> bytes:
    """A number as MIDI writes it, 7 bits in a byte."""
    low = [value & 0x7F]
    while value := value >> 7:
        low.append(value & 0x7F | 0x80)
    return bytes(reversed(low))


def _tracks(data: bytes) -> Iterator[bytes]:
    at = 8 + int.from_bytes(data[4:8], "big")
    while at < len(data):
        size = struct.unpack_from(">I", data, at + 4)[0]
        if data[at : at + 4] == b"MTrk":
            yield data[at + 8 : at + 8 + size]
        at += 8 + size


def _events(track: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Start and end in ticks, channel and pitch of each note; the track's end as a silence without length."""
    at, now, status, sounding = 0, 0, 0, dict[tuple[int, int], int]()

    def number() -> int:
        nonlocal at
        value, more = 0, True
        while more:
            value, more = value << 7 | track[at] & 0x7F, track[at] >= 0x80
            at += 1
        return value

    while at < len(track):
        now += number()
        if track[at] >= 0x80:  # else the status of the event before goes on
            status, at = track[at], at + 1
        if status >= 0xF0:  # no note: a text, a tempo, something of the instrument's
            at += status == 0xFF
            size = number()
            at += size
            continue
        key = (status & 0x0F, track[at])
        if status < 0xA0:
            if key in sounding:
                yield sounding.pop(key), now, *key
            if status >= 0x90 and track[at + 1]:
                sounding[key] = now
        at += 1 if status >> 4 in (0xC, 0xD) else 2
    if at > len(track):
        raise IndexError
    yield now, now, 0, 0
