"""Standard MIDI files of four voices on a grid of 16th notes, one channel a voice."""

from __future__ import annotations

import struct
from collections.abc import Iterator

TICKS = 120  # of a 16th note
TEMPO = 750_000  # microseconds of a quarter note: 80 a minute


def render(chords: list[list[int]]) -> bytes:
    """A file of one track in which a repeated pitch is one held note."""
    events = bytearray(b"\0\xff\x51\x03" + TEMPO.to_bytes(3, "big"))
    now, sounding = 0, [0, 0, 0, 0]
    for step, chord in enumerate([*chords, [0, 0, 0, 0]]):
        for channel, (old, new) in enumerate(zip(sounding, chord, strict=True)):
            for status, pitch in ((0x80, old), (0x90, new)):
                if old != new and pitch:
                    events += _length((step - now) * TICKS) + bytes([status | channel, pitch, 80])
                    now = step
        sounding = chord
    # silence at the end is kept by the time of the track's end
    events += _length((len(chords) - now) * TICKS) + b"\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 4 * TICKS) + b"MTrk" + struct.pack(">I", len(events)) + events


def parse(data: bytes, most: int) -> list[list[int]]:
    """The first `most` chords of a file: each 16th holds what sounds in it. Raises ValueError in one line."""
    if data[:4] != b"MThd" or len(data) < 14:
        raise ValueError("not a MIDI file")
    division = int.from_bytes(data[12:14], "big")
    if not 0 < division < 0x8000:
        raise ValueError("the MIDI file counts seconds, not notes")
    ends, sounds = [0], []
    try:
        for track in _tracks(data):
            for start, end, channel, pitch in _notes(track, ends):
                if channel > 3:
                    raise ValueError(f"the MIDI file has a channel {channel + 1}; the four voices are channels 1 to 4")
                sounds.append((round(4 * start / division), round(4 * end / division), channel, pitch))
    except (IndexError, struct.error):
        raise ValueError("the MIDI file is cut off or damaged") from None
    chords = [[0, 0, 0, 0] for _ in range(min(most, round(4 * max(ends) / division)))]
    for start, end, channel, pitch in sounds:
        for chord in chords[start:end]:
            chord[channel] = pitch
    if not chords:
        raise ValueError("the MIDI file holds no notes")
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
        if at + 8 + size > len(data):
            raise IndexError
        if data[at : at + 4] == b"MTrk":
            yield data[at + 8 : at + 8 + size]
        at += 8 + size


def _notes(track: bytes, ends: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """Start and end in ticks, channel and pitch of each note; the time of the track's end goes into `ends`."""
    at, now, status, sounding = 0, 0, 0, dict[tuple[int, int], int]()

    def number() -> int:
        nonlocal at
        value = 0
        while True:
            at += 1
            value = value << 7 | track[at - 1] & 0x7F
            if track[at - 1] < 0x80:
                return value

    while at < len(track):
        now += number()
        if track[at] >= 0x80:  # else the status of the event before goes on
            status, at = track[at], at + 1
        if status in (0xFF, 0xF0, 0xF7):
            at += status == 0xFF
            size = number()
            at += size
            continue
        key = (status & 0x0F, track[at])
        if status >> 4 in (0x8, 0x9):
            if key in sounding:
                yield sounding.pop(key), now, *key
            if status >> 4 == 0x9 and track[at + 1]:
                sounding[key] = now
        at += 1 if status >> 4 in (0xC, 0xD) else 2
    ends.append(now)
