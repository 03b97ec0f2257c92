"""Text: a GRU encoder and decoder over tokens, with a tokenizer trained on the training split."""

from __future__ import annotations

import html
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pydantic import Field
from torch import Tensor, nn

from mmvae.core.likelihoods import Choice
from mmvae.core.registry import Settings, bound, nearest, network
from mmvae.modalities.contract import Modality
from mmvae.modalities.recurrent import RecurrentDecoder, RecurrentEncoder

UNKNOWN = "<unk>"


class Text(Modality):
    """Sentences and other short texts.

    Raw: str. Tensor: int32 [tokens], the end token 0 included; rows are padded with the vocabulary's size.
    """

    suffix = ".txt"
    temperature = 0.7

    class Config(Settings):
        tokenizer: str = Field(
            "bpe",
            description="'bpe' (byte-level, round-trips any text), 'words' (split at spaces), 'characters', "
            "or the name or folder of a pretrained Hugging Face tokenizer",
        )
        vocabulary: int = Field(8000, ge=260, description="tokens at most, for the tokenizers trained here")
        min_count: int = Field(1, ge=1, description="words and characters seen less often in training are unknown")
        max_tokens: int = bound(64, "longer texts are cut, and counted", ge=1)
        embedding: int = network(256, "size of a token's embedding", ge=1)
        hidden: int = network(512, "GRU units of each layer and direction", ge=1)
        layers: int = network(1, "GRU layers of encoder and decoder", ge=1)
        word_dropout: float = network(0.25, "share of the decoder's input tokens hidden in training", ge=0, le=1)
        dropout: float = network(0.0, "share of the decoder's units dropped in training", ge=0, lt=1)
        bag_of_words: float = network(0.0, "weight of predicting a text's tokens from z without their order", ge=0)
        frequent: int = network(
            0, "adaptive softmax: the first tokens, of a large vocabulary, that are scored always; 0: all", ge=0
        )
        top_k: int = network(0, "generate only the so many likeliest tokens of each step; 0: all", ge=0)
        top_p: float = network(1.0, "generate only the likeliest tokens that hold this probability", gt=0, le=1)
        beam: int = network(1, "beams of the search for the likeliest text, at temperature 0", ge=1)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.min_count > 1 and config.tokenizer not in ("words", "characters"):
            raise ValueError("min_count is for the tokenizers 'words' and 'characters': set it to 1")
        self.tokenizer: Any = None
        self.tokens = 0  # V: the end token and the tokenizer's own, once there is one
        self.unknown: int | None = None
        self._shared: nn.Embedding | None = None

    def read(self, file: Path | BinaryIO) -> str:
        data = file.read_bytes() if isinstance(file, Path) else file.read()
        try:
            text = data.decode("utf-8").removeprefix("\ufeff").removesuffix("\n").removesuffix("\r")
            if "\n" in text:
                self.note("of several lines: taken as one text")
            return self.parse(text)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}; save it as UTF-8"
            ) from None

    def parse(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"a text is a string, not {type(value).__name__}")
        if not value.strip():
            raise ValueError("the text is empty")
        value.encode()  # half a surrogate pair is no text: raises UnicodeEncodeError, a ValueError
        return value

    def write(self, raw: str, path: Path) -> None:
        path.write_text(raw + "\n", encoding="utf-8")

    def fit(self, raws: Iterable[str]) -> None:
        self._use(_train_tokenizer(self.config, raws))

    def _use(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.tokens = max(tokenizer.get_vocab().values()) + 2  # a pretrained vocabulary may have holes
        unknown = tokenizer.token_to_id(UNKNOWN)
        self.unknown = None if unknown is None else unknown + 1

    def to_tensor(self, raw: str) -> Tensor:
        ids = [token + 1 for token in self.tokenizer.encode(raw, add_special_tokens=False).ids] + [0]
        if len(ids) > self.config.max_tokens:
            self.note(f"longer than max_tokens = {self.config.max_tokens}: only the start is used")
        if self.unknown in ids:
            self.note("with what is not in the vocabulary")
        return torch.tensor(ids[: self.config.max_tokens], dtype=torch.int32)

    def to_raw(self, tensor: Tensor) -> str:
        return self._decoded(tensor, marks=False)

    def _decoded(self, tensor: Tensor, marks: bool) -> str:
        ids = [token - 1 for token in tensor.tolist() if 0 < token < self.tokens]
        return self.tokenizer.decode(ids, skip_special_tokens=not marks)

    def collate(self, tensors: Sequence[Tensor]) -> Tensor:
        return nn.utils.rnn.pad_sequence(list(tensors), batch_first=True, padding_value=self.tokens)

    def state(self) -> dict[str, Any]:
        return {"tokenizer": json.loads(self.tokenizer.to_str())}

    def load_state(self, state: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._use(Tokenizer.from_str(json.dumps(state["tokenizer"])))

    def _never(self) -> list[int]:
        special = {UNKNOWN} | {
            token.content for token in self.tokenizer.get_added_tokens_decoder().values() if token.special
        }
        ids = {self.tokenizer.token_to_id(token) for token in special} - {None}
        holes = set(range(self.tokens - 1)) - set(self.tokenizer.get_vocab().values())
        return sorted(token + 1 for token in ids | holes)

    def encoder(self, outputs: int) -> nn.Module:
        self._shared = self._embedding()
        return RecurrentEncoder(self._shared, outputs, self.config.hidden, self.config.layers)

    def decoder(self, latent: int) -> nn.Module:
        # one table of embeddings for the encoder made before it, its own input and its output
        embedding, self._shared = self._shared or self._embedding(), None
        choice = Choice(self.config.top_k, self.config.top_p, self.config.beam, self._never(), empty=False)
        return RecurrentDecoder(
            embedding,
            latent,
            self.config.hidden,
            self.config.layers,
            length=self.config.max_tokens,
            word_dropout=self.config.word_dropout,
            dropout=self.config.dropout,
            bag_of_words=self.config.bag_of_words,
            frequent=self.config.frequent,
            choice=choice,
        )

    def _embedding(self) -> nn.Embedding:
        table = nn.Embedding(self.tokens + 1, self.config.embedding)
        nn.init.normal_(table.weight, std=self.config.embedding**-0.5)
        return table

    def scores(self, nll: Tensor, values: Tensor) -> dict[str, float]:
        tokens = (values != self.tokens).sum().item()
        # the end counts as one where a row is not cut, and an unknown word as its mark is long
        lengths = (len(self._decoded(row, marks=True)) for row in values)
        characters = tokens if self.config.tokenizer == "characters" else sum(lengths) + (values == 0).sum().item()
        return {
            "perplexity": math.exp(min(nll.sum().item() / tokens, 700)),
            "nats/character": nll.sum().item() / characters,
        }

    def metrics(self, raws: Sequence[str], reconstructions: Sequence[str]) -> dict[str, float]:
        if self.config.tokenizer == "words":  # as it can say them: single spaces, and no marks
            raws = [_without_marks(raw) for raw in raws]
        exact = kept = total = 0
        for raw, again in zip(raws, reconstructions, strict=True):
            ours, theirs = Counter(raw.split()), Counter(again.split())
            exact += raw == again
            kept += 2 * (ours & theirs).total()
            total += ours.total() + theirs.total()
        figures = {"exact": exact / len(raws), "word F1": kept / total}
        return figures | ({"BLEU-4": bleu(reconstructions, raws)} if _has_grams(raws) else {})

    def sample_metrics(self, samples: Sequence[str], real: Sequence[str]) -> dict[str, float]:
        real = [_without_marks(text) for text in real] if self.config.tokenizer == "words" else real
        figures = {"distinct texts": len(set(samples)) / len(samples)}
        figures["empty texts"] = sum(not text.strip() for text in samples) / len(samples)
        if _has_grams(real):
            for what, texts in (("", samples), (" of real text", real)):
                figures |= {f"distinct {n}-grams{what}": distinct(texts, n) for n in (1, 2)}
                figures[f"self-BLEU{what}"] = self_bleu(texts[:: math.ceil(len(texts) / 200)])
        return figures

    def distance(self, a: str, b: str) -> float:
        """The share of words that are not in common in order, 0 to 1 (Ratcliff & Metzener 1988)."""
        return 1 - SequenceMatcher(None, a.split(), b.split(), autojunk=False).ratio()

    def join(self, raws: Sequence[str]) -> str:
        return "\n".join(raws)

    def preview(self, raw: str) -> str:
        return f"<p>{html.escape(raw).replace(chr(10), '<br>')}</p>"

    def sheet(self, raws: Sequence[str], stem: Path, steps: int | None = None) -> list[Path]:
        path = stem.with_name(stem.name + ".txt")
        lines = [raw.replace("\n", " ") + "\n" for raw in raws]
        walks = [lines[start : start + steps] for start in range(0, len(lines), steps)] if steps else [lines]
        path.write_text("\n".join("".join(walk) for walk in walks), encoding="utf-8")
        return [path]


def _without_marks(text: str) -> str:
    """The words of a text but for marks of unknown ones, which published corpora hold."""
    return " ".join(word for word in text.split() if word != UNKNOWN)


def _has_grams(texts: Sequence[str]) -> bool:
    """Whether texts have four words on average, without which measures of word sequences say nothing."""
    return sum(len(text.split()) for text in texts) >= 4 * len(texts)


def bleu(texts: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU-4 of texts against one reference each, 0 to 100 (Papineni et al. 2002; sacrebleu's tokens)."""
    import sacrebleu

    # force: texts that are split into words and marks are the user's wish, not a mistake
    return sacrebleu.corpus_bleu(list(texts), [list(references)], force=True).score


def distinct(texts: Sequence[str], n: int) -> float:
    """The share of the n-grams of words that are different ones (Li et al. 2016)."""
    rows = [text.split() for text in texts]
    grams = [tuple(words[i : i + n]) for words in rows for i in range(len(words) - n + 1)]
    return len(set(grams)) / max(1, len(grams))


def self_bleu(texts: Sequence[str]) -> float:
    """The mean BLEU-4 of each text with the others as references, 0 to 100: high where all say the same (Zhu et al.
    2018)."""
    import sacrebleu

    scores = [
        sacrebleu.sentence_bleu(text, [*texts[:i], *texts[i + 1 :]]).score
        for i, text in enumerate(texts)
        if len(texts) > 1 and text.strip()
    ]
    return sum(scores) / max(1, len(scores))


def _train_tokenizer(config: Text.Config, raws: Iterable[str]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    if config.tokenizer == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=config.vocabulary - 1,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    elif config.tokenizer in ("words", "characters"):
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        if config.tokenizer == "words":
            tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
            tokenizer.decoder = decoders.Fuse()
        trainer = trainers.WordLevelTrainer(
            vocab_size=config.vocabulary - 1,
            min_frequency=config.min_count,
            special_tokens=[UNKNOWN],
            show_progress=False,
        )
    else:
        return _pretrained_tokenizer(config.tokenizer)
    # a mark in the text is the token that is there already, and no word to be counted
    tokenizer.train_from_iterator(map(_without_marks, raws) if config.tokenizer == "words" else raws, trainer)
    if not tokenizer.get_vocab().keys() - {UNKNOWN}:
        raise ValueError(f"modalities.NAME.min_count = {config.min_count}: nothing is seen so often; lower it")
    return tokenizer


def _pretrained_tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    known = ("bpe", "words", "characters")
    if not Path(name).is_dir() and get_close_matches(name, known):  # hardly one of the hub
        raise ValueError(f"no tokenizer '{name}': {nearest(name, known)}")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"no tokenizer '{name}': 'bpe', 'words', 'characters', a folder or a hub name ({reason})"
        ) from error
    if not tokenizer.is_fast:
        raise ValueError(f"the tokenizer '{name}' has no fast form (tokenizer.json), which is needed to save it")
    backend = tokenizer.backend_tokenizer
    backend.no_padding()  # a tokenizer's file may ask for both
    backend.no_truncation()
    return backend
