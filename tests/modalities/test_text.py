"""Text: tokenizers that give back what they took, and sequences that end."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvae.modalities.text import UNKNOWN, Text, bleu, distinct

LINES = ["the cat sat on the mat", "the dog ran", "a cat and a dog", "perché così? già!"]


def text(lines: list[str] | None = None, **config: Any) -> Text:
    modality = Text(Text.Config(**config))
    modality.fit(LINES if lines is None else lines)
    return modality


def again(modality: Text, line: str) -> str:
    """The way to a tensor and back."""
    return modality.to_raw(modality.to_tensor(line))


BPE = text(max_tokens=500)


# -- tokenizers -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(line=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_byte_level_bpe_gives_back_any_text(line: str) -> None:
    assert again(BPE, line) == line


@pytest.mark.parametrize(
    "line",
    [
        "naïve façade, già perché",
        "👩‍🚀 reads 日本語 🎉",
        "  two  spaces\tand\ttabs \n",
        "e\u0301 is not é",
        "<unk> </s>",
    ],
)
def test_byte_level_bpe_gives_back_unseen_scripts_emoji_and_spaces(line: str) -> None:
    assert again(BPE, line) == line


def test_words_give_back_text_of_known_words() -> None:
    assert again(text(tokenizer="words"), "the dog and the cat sat") == "the dog and the cat sat"


def test_characters_give_back_text_of_known_characters() -> None:
    modality = text(["abc é\n"], tokenizer="characters")
    assert again(modality, "cab\n bé é") == "cab\n bé é"
    assert len(modality.to_tensor("cab")) == 4  # the end counts


@pytest.mark.parametrize("tokenizer", ["words", "characters"])
def test_what_was_never_seen_is_unknown_and_never_generated(tokenizer: str) -> None:
    modality = text(tokenizer=tokenizer, embedding=4, hidden=4)
    tensor = modality.to_tensor("Ω")
    unknown = modality.tokenizer.token_to_id(UNKNOWN) + 1
    assert tensor.tolist() == [unknown, 0]
    assert modality.notes["with what is not in the vocabulary"] == 1
    assert modality.decoder(2)(torch.zeros(1, 2)).choice.never == [unknown]


@pytest.mark.parametrize("tokenizer", ["bpe", "words", "characters"])
def test_every_token_is_below_the_vocabulary_and_every_row_ends(tokenizer: str) -> None:
    modality = text(tokenizer=tokenizer)
    for line in [*LINES, "something else Ω"]:
        tensor = modality.to_tensor(line)
        assert tensor.dtype == torch.int32
        assert tensor[-1] == 0
        assert ((tensor[:-1] > 0) & (tensor[:-1] < modality.tokens)).all()


def test_the_vocabulary_is_at_most_as_large_as_asked_for() -> None:
    lines = [" ".join(f"word{i * j}" for i in range(40)) for j in range(40)]
    for tokenizer in ("bpe", "words", "characters"):
        assert text(lines, tokenizer=tokenizer, vocabulary=300).tokens <= 300


def test_a_tokenizer_is_wholly_in_the_state() -> None:
    modality, other = text(), Text(Text.Config())
    other.load_state(modality.state())
    for line in [*LINES, "unseen 🎉"]:
        assert torch.equal(other.to_tensor(line), modality.to_tensor(line))
    assert other.state() == modality.state()


def test_the_same_lines_give_the_same_tokenizer() -> None:
    assert text().state() == text().state()


# -- pretrained tokenizers ----------------------------------------------------------------------------


def pretrained(folder: Path, vocabulary: dict[str, int], **changes: Any) -> Text:
    """A modality over a tokenizer that transformers saved in a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if changes.get("padding"):
        tokenizer.enable_padding(length=10, pad_id=1, pad_token="[PAD]")
    if changes.get("truncation"):
        tokenizer.enable_truncation(2)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder)
    return text(tokenizer=str(folder))


WORDS = {"[UNK]": 0, "[PAD]": 1, "the": 2, "cat": 3, "sat": 4}


def test_a_pretrained_tokenizer_is_loaded_from_a_folder_and_lives_in_the_state(tmp_path: Path) -> None:
    modality = pretrained(tmp_path / "words", WORDS)
    assert again(modality, "the cat sat") == "the cat sat"
    other = Text(Text.Config(tokenizer="a folder that is gone"))
    other.load_state(modality.state())
    assert again(other, "the cat sat") == "the cat sat"


def test_special_tokens_of_a_pretrained_tokenizer_are_never_generated(tmp_path: Path) -> None:
    assert pretrained(tmp_path / "words", WORDS).decoder(2)(torch.zeros(1, 2)).choice.never == [1, 2]


def test_padding_and_truncation_in_a_pretrained_tokenizer_are_left_out(tmp_path: Path) -> None:
    modality = pretrained(tmp_path / "words", WORDS, padding=True, truncation=True)
    assert modality.to_tensor("the cat sat").tolist() == [3, 4, 5, 0]


def test_a_pretrained_vocabulary_may_have_holes(tmp_path: Path) -> None:
    modality = pretrained(tmp_path / "words", {**WORDS, "mat": 9})
    tensor = modality.to_tensor("the mat")
    assert tensor.max() < modality.tokens
    assert again(modality, "the mat") == "the mat"
    vocabulary = modality.tokenizer.get_vocab()
    holes = set(range(9)) - set(vocabulary.values())
    never = modality.decoder(2)(torch.zeros(1, 2)).choice.never
    assert holes
    assert {hole + 1 for hole in holes} < set(never)
    assert not {vocabulary["mat"] + 1, vocabulary["the"] + 1} & set(never)


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tokenizer '.*nowhere'"):
        text(tokenizer=str(tmp_path / "nowhere"))


# -- rows -----------------------------------------------------------------------------------------------


def test_text_longer_than_max_tokens_is_cut_and_counted() -> None:
    modality = text(tokenizer="words", max_tokens=3)
    for line in ("the cat sat on the mat", "the cat", "the cat sat"):
        modality.to_tensor(line)
    assert modality.to_tensor("the cat sat on the mat").tolist() == modality.to_tensor("the cat sat").tolist()
    (count,) = modality.notes.values()
    assert count == 4
    assert "max_tokens = 3" in next(iter(modality.notes))


def test_a_batch_is_padded_with_what_is_no_token_and_padding_is_not_text() -> None:
    modality = text()
    batch = modality.collate([modality.to_tensor(line) for line in LINES])
    assert (batch == modality.tokens).any()
    assert [modality.to_raw(row) for row in batch] == LINES


def test_a_batch_is_scored_drawn_and_read_back() -> None:
    modality = text(embedding=8, hidden=8, max_tokens=6)
    batch = modality.collate([modality.to_tensor(line) for line in LINES])
    with torch.no_grad():
        assert modality.encoder(4)(batch).shape == (4, 4)
        decoded = modality.decoder(2)(torch.randn(4, 2))
        assert torch.isfinite(decoded.log_prob(batch)).all()
        assert all(isinstance(modality.to_raw(row), str) for row in decoded.mode())


# -- files and values -----------------------------------------------------------------------------------


def test_text_survives_the_way_to_a_file(tmp_path: Path) -> None:
    for line in ("già 🎉", "two\nlines", " spaces "):
        BPE.write(line, tmp_path / "a.txt")
        assert BPE.read(tmp_path / "a.txt") == line
    assert BPE.read(io.BytesIO("già\n".encode())) == "già"


@pytest.mark.parametrize("content", ["caffè".encode("latin-1"), "caffè".encode("utf-16"), b"\x00\xff\xfe"])
def test_bytes_that_are_not_utf_8_are_refused_with_their_place(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"not UTF-8 text: byte \d+ is 0x\w+; save it as UTF-8"):
        BPE.read(tmp_path / "a.txt")


@pytest.mark.parametrize("value", [3, None, ["a"], b"bytes", 2.5])
def test_a_value_that_is_no_string_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="a text is a string, not"):
        BPE.parse(value)


@pytest.mark.parametrize("value", ["", "  ", "\n\t"])
def test_a_text_of_nothing_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the text is empty"):
        BPE.parse(value)
    (tmp_path / "a.txt").write_text(value)
    with pytest.raises(ValueError, match="the text is empty"):
        BPE.read(tmp_path / "a.txt")


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        BPE.parse("\ud800")


# -- for people -------------------------------------------------------------------------------------------


def test_perplexity_counts_real_tokens_with_the_end_and_no_padding() -> None:
    modality = text(tokenizer="words")
    batch = modality.collate([modality.to_tensor("the cat"), modality.to_tensor("the")])
    scores = modality.scores(torch.tensor([3.0, 2.0]) * math.log(7), batch)
    assert scores["perplexity"] == pytest.approx(7)
    assert scores["nats/character"] == pytest.approx(5 * math.log(7) / (len("the cat") + len("the") + 2))


def test_a_row_that_is_cut_has_no_end_to_count() -> None:
    modality = text(tokenizer="words", max_tokens=2)
    batch = modality.collate([modality.to_tensor("the cat sat"), modality.to_tensor("the")])
    scores = modality.scores(torch.tensor([2.0, 2.0]), batch)
    assert scores["nats/character"] == pytest.approx(4 / (len("the cat") + len("the") + 1))


@pytest.mark.parametrize("data", [b"the cat\n", b"\xef\xbb\xbfthe cat\r\n", b"the cat"])
def test_a_file_is_read_without_the_marks_of_its_editor(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    assert BPE.read(tmp_path / "a.txt") == "the cat"


def test_a_file_of_several_lines_is_one_text_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat\nsat\n")
    modality = text()
    assert modality.read(tmp_path / "a.txt") == "the cat\nsat"
    assert modality.notes == {"of several lines: taken as one text": 1}


def test_word_f1_of_known_reconstructions() -> None:
    found = BPE.metrics(["a b c", "a a"], ["a b c", "a d"])
    assert (found["exact"], found["word F1"]) == (0.5, pytest.approx(2 * 4 / 10))


def test_marks_of_unknown_words_in_a_corpus_are_the_token_for_them_and_no_word() -> None:
    line = " the <unk> sat and <unk> the dog "
    modality, plain = (text([each, *LINES], tokenizer="words") for each in (line, line.replace("<unk>", "")))
    assert modality.tokenizer.get_vocab() == plain.tokenizer.get_vocab()
    assert modality.to_tensor(line).tolist().count(modality.unknown or 0) == 2
    assert modality.metrics([line], ["the sat and the dog"])["exact"] == 1
    scores = modality.scores(torch.tensor([34.0]), modality.collate([modality.to_tensor(line)]))
    assert scores["nats/character"] == pytest.approx(34 / (len(line.strip()) + 1))


def test_unknown_characters_count_as_one() -> None:
    modality = text(["abc"], tokenizer="characters")
    scores = modality.scores(torch.tensor([10.0]), modality.collate([modality.to_tensor("aéüb")]))
    assert scores["nats/character"] == pytest.approx(10 / 5)


def test_a_preview_shows_markup_as_text() -> None:
    assert "<script>" not in BPE.preview("<script>alert(1)</script>")


# -- measures -------------------------------------------------------------------------------------------


def test_measures_of_samples_tell_variety_from_repetition() -> None:
    random = np.random.default_rng(0)
    words = [f"w{i}" for i in range(500)]
    varied = [" ".join(random.choice(words, 8)) for _ in range(60)]
    modality = text(tokenizer="words")
    many, same = (modality.sample_metrics(samples, varied) for samples in (varied, ["the same old text again"] * 60))
    assert (many["distinct texts"], many["empty texts"]) == (1.0, 0.0)
    assert same["distinct texts"] == pytest.approx(1 / 60)
    assert same["self-BLEU"] == pytest.approx(100)
    assert many["self-BLEU"] < 10
    assert many["self-BLEU"] == many["self-BLEU of real text"]
    assert distinct(["a b a b", "b a"], 1) == pytest.approx(2 / 6)
    assert distinct(["a b a b", "b a", "c"], 2) == pytest.approx(2 / 4)
    assert modality.sample_metrics(["", "a"], varied)["empty texts"] == 0.5


def test_a_perfect_reconstruction_has_a_bleu_of_100_and_another_text_0() -> None:
    modality = text(tokenizer="words")
    lines = ["the cat sat on the mat", "a dog ran far away from it"]
    assert modality.metrics(lines, lines) == {"exact": 1.0, "word F1": 1.0, "BLEU-4": pytest.approx(100)}
    assert modality.metrics(lines, lines[::-1])["BLEU-4"] < 10
    assert "BLEU-4" not in modality.metrics(["anna", "bob"], ["anna", "bab"])
    assert modality.sample_metrics(["anna", "anna"], ["bob"]) == {"distinct texts": 0.5, "empty texts": 0.0}


def test_texts_split_into_words_and_marks_are_measured_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    lines = ["the cat sat on the mat ."] * 200
    assert bleu(lines, lines) == pytest.approx(100)
    assert not caplog.records


def test_a_misspelt_tokenizer_is_not_looked_for_on_the_hub() -> None:
    with pytest.raises(ValueError, match=r"no tokenizer 'wrods': did you mean 'words'\?"):
        Text(Text.Config(tokenizer="wrods")).fit(["a b"])


def test_a_vocabulary_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="min_count = 9: nothing is seen so often; lower it"):
        Text(Text.Config(tokenizer="words", min_count=9)).fit(["a b", "c d"])
