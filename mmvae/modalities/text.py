"""Text: a GRU encoder and decoder over tokens, with a tokenizer trained on the training split."""

from __future__ import annotations

import html
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from mmvae.core.likelihoods import AutoregressiveCategorical, Choice, Likelihood
from mmvae.core.registry import Settings, network
from mmvae.modalities.contract import Modality

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
        max_tokens: int = Field(64, ge=1, description="longer texts are cut, and counted")
        embedding: int = network(256, "size of a token's embedding", ge=1)
        hidden: int = network(512, "GRU units of each layer and direction", ge=1)
        layers: int = network(1, "GRU layers of encoder and decoder", ge=1)
        word_dropout: float = network(0.25, "share of the decoder's input tokens hidden in training", ge=0, le=1)
        top_k: int = network(0, "generate only the so many likeliest tokens of each step; 0: all", ge=0)
        top_p: float = network(1.0, "generate only the likeliest tokens that hold this probability", gt=0, le=1)
        beam: int = network(1, "beams of the search for the likeliest text, at temperature 0", ge=1)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.tokenizer: Any = None
        self.tokens = 0  # V: the end token and the tokenizer's own, once there is one
        self._shared: nn.Embedding | None = None

    def read(self, file: Path | BinaryIO) -> str:
        data = file.read_bytes() if isinstance(file, Path) else file.read()
        try:
            return self.parse(data.decode("utf-8").removesuffix("\n"))
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}") from None

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

    def to_tensor(self, raw: str) -> Tensor:
        ids = [token + 1 for token in self.tokenizer.encode(raw, add_special_tokens=False).ids] + [0]
        if len(ids) > self.config.max_tokens:
            self.note(f"longer than max_tokens = {self.config.max_tokens}: only the start is used")
        return torch.tensor(ids[: self.config.max_tokens], dtype=torch.int32)

    def to_raw(self, tensor: Tensor) -> str:
        ids = [token - 1 for token in tensor.tolist() if 0 < token < self.tokens]
        return self.tokenizer.decode(ids)

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
        ids = (self.tokenizer.token_to_id(token) for token in special)
        return sorted(token + 1 for token in ids if token is not None)

    def encoder(self, outputs: int) -> nn.Module:
        self._shared = self._embedding()
        return Encoder(self._shared, outputs, self.config)

    def decoder(self, latent: int) -> nn.Module:
        # one table of embeddings for the encoder made before it, its own input and its output
        embedding, self._shared = self._shared or self._embedding(), None
        return Decoder(embedding, latent, self.config, self._never())

    def _embedding(self) -> nn.Embedding:
        table = nn.Embedding(self.tokens + 1, self.config.embedding)
        nn.init.normal_(table.weight, std=self.config.embedding**-0.5)
        return table

    def scores(self, nll: Tensor, values: Tensor) -> dict[str, float]:
        tokens = (values != self.tokens).sum().item()
        characters = sum(len(self.to_raw(row)) + 1 for row in values)  # the end counts as one
        return {
            "perplexity": math.exp(min(nll.sum().item() / tokens, 700)),
            "nats/character": nll.sum().item() / characters,
        }

    def metrics(self, raws: Sequence[str], reconstructions: Sequence[str]) -> dict[str, float]:
        exact = kept = total = 0
        for raw, again in zip(raws, reconstructions, strict=True):
            ours, theirs = Counter(raw.split()), Counter(again.split())
            exact += raw == again
            kept += 2 * (ours & theirs).total()
            total += ours.total() + theirs.total()
        return {"exact": exact / len(raws), "word F1": kept / total}

    def preview(self, raw: str) -> str:
        return f"<p>{html.escape(raw)}</p>"

    def sheet(self, raws: Sequence[str], stem: Path) -> list[Path]:
        path = stem.with_name(stem.name + ".txt")
        path.write_text("".join(raw.replace("\n", " ") + "\n" for raw in raws), encoding="utf-8")
        return [path]


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
    tokenizer.train_from_iterator(raws, trainer)
    return tokenizer


def _pretrained_tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

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


class Encoder(nn.Module):
    """Tokens [B, T] to [B, outputs]: GRUs in each direction, the maximum over real tokens."""

    def __init__(self, embedding: nn.Embedding, outputs: int, config: Text.Config) -> None:
        super().__init__()
        self.embedding = embedding
        self.padding = embedding.num_embeddings - 1
        sizes = config.embedding, config.hidden, config.layers
        self.onward = nn.GRU(*sizes, batch_first=True)
        self.backward_ = nn.GRU(*sizes, batch_first=True)
        self.head = nn.Linear(2 * config.hidden, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        real = tokens != self.padding
        # reversing only the real part keeps padding out of both directions
        positions = (real.sum(1, keepdim=True) - 1 - torch.arange(tokens.shape[1], device=tokens.device)).clamp(min=0)
        pooled = []
        for gru, ordered in ((self.onward, tokens), (self.backward_, tokens.gather(1, positions))):
            states, _ = gru(self.embedding(ordered))
            pooled.append(states.masked_fill(~real[..., None], -torch.inf).amax(1))
        return self.head(torch.cat(pooled, dim=1))


class Decoder(nn.Module):
    """z [B, latent] to the likelihood of a token sequence; z reaches the first state and every step."""

    def __init__(self, embedding: nn.Embedding, latent: int, config: Text.Config, never: list[int]) -> None:
        super().__init__()
        self.embedding = embedding
        self.tokens, self.length = embedding.num_embeddings - 1, config.max_tokens
        self.choice = Choice(config.top_k, config.top_p, config.beam, never)
        self.word_dropout, self.layers = config.word_dropout, config.layers
        self._kept: tuple[list[Any], Tensor] | None = None
        self.initial = nn.Linear(latent, config.layers * config.hidden)
        self.gru = nn.GRU(config.embedding + latent, config.hidden, config.layers, batch_first=True)
        self.project = nn.Linear(config.hidden, config.embedding)
        self.bias = nn.Parameter(torch.zeros(self.tokens))

    def forward(self, z: Tensor) -> Likelihood:
        return AutoregressiveCategorical(self, z, self.tokens, self.length, self.choice)

    def hidden(self, z: Tensor, tokens: Tensor) -> Tensor:
        before = torch.cat([torch.full_like(tokens[:, :1], self.tokens), tokens[:, :-1]], dim=1)
        embedded = self.embedding(before)
        if self.training and self.word_dropout:
            embedded = embedded * (torch.rand(before.shape, device=z.device) >= self.word_dropout)[..., None]
        every_step = z[:, None].expand(-1, tokens.shape[1], -1)
        return self.gru(torch.cat([embedded, every_step], dim=-1), self._initial(z))[0]

    def _initial(self, z: Tensor) -> Tensor:
        return torch.tanh(self.initial(z)).unflatten(1, (self.layers, -1)).transpose(0, 1).contiguous()

    def head(self, hidden: Tensor) -> Tensor:
        return nn.functional.linear(self.project(hidden), self.embedding.weight[: self.tokens], self.bias)

    def start(self, z: Tensor) -> Unrolled:
        return Unrolled(self._table(), z @ self._weight("weight_ih", 0)[:, -z.shape[1] :].T, list(self._initial(z)))

    def step(self, token: Tensor, state: Unrolled) -> tuple[Tensor, Unrolled]:
        gates, after = state.table[token] + state.of_z, []
        for layer, hidden in enumerate(state.hidden):
            if layer:
                gates = nn.functional.linear(
                    after[-1], self._weight("weight_ih", layer), self._weight("bias_ih", layer)
                )
            own = nn.functional.linear(hidden, self._weight("weight_hh", layer), self._weight("bias_hh", layer))
            (reset, update, new), (own_reset, own_update, own_new) = gates.chunk(3, -1), own.chunk(3, -1)
            candidate = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
            after.append(torch.lerp(candidate, hidden, torch.sigmoid(update + own_update)))
        return self.head(after[-1]), state._replace(hidden=after)

    def select(self, state: Unrolled, rows: Tensor) -> Unrolled:
        return Unrolled(state.table, state.of_z[rows], [hidden[rows] for hidden in state.hidden])

    def _weight(self, part: str, layer: int) -> Tensor:
        return getattr(self.gru, f"{part}_l{layer}")

    @torch.no_grad()
    def _table(self) -> Tensor:
        """What each token adds to the first layer's gates, [V + 1, 3 * hidden]; kept until the weights change."""
        parts = self.embedding.weight, self._weight("weight_ih", 0), self._weight("bias_ih", 0)
        state = [(part.data_ptr(), part.device, part._version) for part in parts]
        if self._kept is None or self._kept[0] != state:
            table, weight, bias = parts
            self._kept = state, nn.functional.linear(table, weight[:, : table.shape[1]], bias)
        return self._kept[1]


class Unrolled(NamedTuple):
    """A decoder that writes token by token: what does not change (each token's and z's share of the first layer's
    gates), and the states [B, hidden] of the layers."""

    table: Tensor
    of_z: Tensor
    hidden: list[Tensor]
