from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tat_tree import FLOAT, wav_bytes, write

from icefall_ext.corpora import audio_header, reasons
from icefall_ext.corpora.audio_header import BadAudio, read_header

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
on_files = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(frames: int, channels: int) -> np.ndarray:
    return np.random.default_rng(frames).normal(size=(frames, channels)) * 0.1


@on_files
@given(
    rate=st.sampled_from(RATES),
    channels=st.integers(1, 8),
    frames=st.integers(1, 5000),
    container=st.sampled_from(["WAV", "WAVEX", "RF64", "W64", "FLAC", "AIFF"]),
    coding=st.sampled_from(["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]),
)
def test_header_says_what_libsndfile_says(tmp_path, rate, channels, frames, container, coding):
    if not soundfile.check_format(container, coding):
        coding = "PCM_16"
    path = str(tmp_path / "a.wav")
    soundfile.write(path, noise(frames, channels), rate, format=container, subtype=coding)
    header, info = read_header(path), soundfile.info(path)
    assert (header.sampling_rate, header.channels, header.frames) == (info.samplerate, info.channels, info.frames)
    assert header.promised == header.frames and header.seconds == info.duration


@pytest.mark.parametrize(("coding", "said"), [("PCM_16", "pcm 16"), ("PCM_24", "pcm 24"), ("FLOAT", "float 32")])
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_plain_wavs_are_read_without_libsndfile(tmp_path, monkeypatch, container, coding, said):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, noise(100, 2), 16000, format=container, subtype=coding)
    monkeypatch.setattr(audio_header, "_ask_libsndfile", lambda *_: pytest.fail("libsndfile was asked"))
    assert read_header(path).coding == said


@on_files
@given(rate=st.sampled_from(RATES), channels=st.integers(1, 2), frames=st.integers(1, 30000), level=st.floats(0, 0.9))
def test_mp3_has_the_length_that_decoding_it_gives(tmp_path, rate, channels, frames, level):
    path = str(tmp_path / "a.mp3")
    soundfile.write(path, noise(frames, channels), rate, format="MP3", bitrate_mode="VARIABLE", compression_level=level)
    header = read_header(path)
    assert header.coding == "mp3", "the length did not come from the Xing frame"
    decoded, decoded_rate = soundfile.read(path, always_2d=True)
    assert (header.frames, header.channels, header.sampling_rate) == (*decoded.shape, decoded_rate)


def test_mp3_behind_a_long_tag_is_found(tmp_path):
    plain, tagged = tmp_path / "a.mp3", tmp_path / "b.mp3"
    soundfile.write(plain, noise(16000, 1), 32000, format="MP3", bitrate_mode="VARIABLE")
    picture = bytes(20000)
    size = bytes(len(picture) >> shift & 0x7F for shift in (21, 14, 7, 0))
    write(tagged, b"ID3\x04\x00\x00" + size + picture + plain.read_bytes())
    assert read_header(str(tagged)) == read_header(str(plain))


def test_truncated_mp3_is_found_without_decoding(tmp_path):
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(64000, 1), 32000, format="MP3", bitrate_mode="VARIABLE")
    content = path.read_bytes()
    write(path, content[: len(content) // 2])
    header = read_header(str(path))
    assert header.promised == 64000 and 0.4 < header.frames / header.promised < 0.6


@given(junk=st.binary(max_size=300).map(lambda b: b + bytes(len(b) % 2)), seconds=st.sampled_from([0.0, 0.01, 0.5]))
@on_files
def test_chunks_before_the_audio_are_stepped_over(tmp_path, junk, seconds):
    path = str(write(tmp_path / "a.wav", wav_bytes(seconds, before_data=b"LIST" + struct.pack("<I", len(junk)) + junk)))
    if seconds:
        assert read_header(path).frames == round(seconds * 16000)
    else:
        with pytest.raises(BadAudio, match=reasons.ZERO_LENGTH):
            read_header(path)


@given(content=st.binary(max_size=200), start=st.sampled_from([b"", b"RIFF\x24\0\0\0WAVE", wav_bytes(0.01)[:36]]))
@on_files
def test_any_bytes_give_a_header_or_a_reason(tmp_path, content, start):
    path = str(write(tmp_path / "a.wav", start + content))
    try:
        assert read_header(path).sampling_rate > 0
    except BadAudio as bad:
        assert bad.reason in vars(reasons).values()


@given(cut=st.integers(0, 32044 - 1))
@on_files
def test_a_wav_that_was_cut_anywhere_never_passes_as_whole(tmp_path, cut):
    path = str(write(tmp_path / "a.wav", wav_bytes(1.0)[:cut]))
    try:
        header = read_header(path)
    except BadAudio as bad:
        assert bad.reason in (reasons.EMPTY_FILE, reasons.TRUNCATED, reasons.NOT_AUDIO)
    else:
        assert header.frames < header.promised == 16000


@given(place=st.integers(0, 47), byte=st.integers(0, 255), coding=st.sampled_from(["PCM_16", "PCM_24", "FLOAT"]))
@settings(on_files, max_examples=300)
def test_audio_that_passes_is_decoded_to_the_length_that_was_said(tmp_path, place, byte, coding):
    """One byte of a good header is wrong."""
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(80, 2), 16000, subtype=coding)
    content = bytearray(path.read_bytes())
    content[place] = byte
    path.write_bytes(content)
    try:
        header = read_header(str(path))
    except BadAudio:
        return
    if header.frames == header.promised:
        audio, rate = soundfile.read(path, always_2d=True)
        assert (header.sampling_rate, header.channels, header.frames) == (rate, audio.shape[1], audio.shape[0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (wav_bytes(0.1, bits=0), reasons.NOT_AUDIO),  # its blocks have no bytes
        (wav_bytes(0.1, bits=64), reasons.NOT_AUDIO),
        (wav_bytes(0.1, bits=16, tag=FLOAT), reasons.NOT_AUDIO),
        (wav_bytes(0.1).replace(b"WAVE", b"AVI "), reasons.NOT_AUDIO),
        (wav_bytes(0) + b"LIST\x04\0\0\0INFO", reasons.ZERO_LENGTH),
        (wav_bytes(1e-7, rate=2_000_000_000), reasons.NOT_AUDIO),
    ],
)
def test_wav_that_no_library_decodes_is_refused(tmp_path, content, reason):
    with pytest.raises(BadAudio, match=reason):
        read_header(str(write(tmp_path / "a.wav", content)))


def test_missing_file_folder_and_pipe_are_told_apart(tmp_path: Path):
    with pytest.raises(BadAudio, match=reasons.AUDIO_NOT_FOUND):
        read_header(str(tmp_path / "none.wav"))
    with pytest.raises(BadAudio, match=reasons.UNREADABLE) as caught:
        read_header(str(tmp_path))
    assert caught.value.note == "not a regular file"


def test_float_samples_are_counted_by_their_width(tmp_path: Path):
    header = read_header(str(write(tmp_path / "a.wav", wav_bytes(1, bits=32, tag=FLOAT, channels=2))))
    assert (header.frames, header.channels, header.coding) == (16000, 2, "float 32")


def test_refusal_survives_the_way_between_processes():
    import pickle

    bad = pickle.loads(pickle.dumps(BadAudio("not audio", "starts with b'x'")))
    assert (bad.reason, bad.note) == ("not audio", "starts with b'x'")
