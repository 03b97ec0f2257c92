"""The autoregressive likelihood with the real text decoder: probabilities of all sequences of a tiny vocabulary."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmvae.core.likelihoods import AutoregressiveCategorical, Choice, log_softmax_at
from mmvae.core.noise import Noise, StepNoise
from mmvae.modalities.recurrent import RecurrentDecoder as Decoder
from mmvae.modalities.recurrent import RecurrentEncoder as Encoder

V, LENGTH, LATENT = 4, 3, 2
END, PADDING = 0, V
Z = torch.tensor([[0.7, -1.2]])


def every_row() -> Tensor:
    """All rows of at most LENGTH tokens: those that end, padded, and those of full length that do not."""
    rows = []
    for size in range(LENGTH + 1):
        for tokens in itertools.product(range(1, V), repeat=size):
            ended = (*tokens, END) if size < LENGTH else tokens
            rows.append([*ended, *[PADDING] * (LENGTH - len(ended))])
    return torch.tensor(rows, dtype=torch.int32)


ROWS = every_row()


@pytest.fixture(params=[(1, 0), (2, 0), (1, 2)], ids=["1 layer", "2 layers", "adaptive softmax"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    """An untrained decoder whose distributions are far from uniform."""
    layers, frequent = request.param
    network = Decoder(nn.Embedding(V + 1, 6), LATENT, 5, layers, length=LENGTH, frequent=frequent).eval()
    with torch.no_grad():
        network.embedding.weight.mul_(3)
        network.bias.copy_(torch.tensor([0.5, 0.0, -0.5, 0.3]))
    return network


def likelihood(decoder: Decoder, rows: int, **choice: Any) -> AutoregressiveCategorical:
    return AutoregressiveCategorical(decoder, Z.expand(rows, -1), V, LENGTH, Choice(**choice))


def scores(decoder: Decoder) -> Tensor:
    with torch.no_grad():
        return likelihood(decoder, len(ROWS)).log_prob(ROWS)


def frequencies(drawn: Tensor) -> Tensor:
    """How often each of ROWS was drawn."""
    wide = torch.nn.functional.pad(drawn, (0, LENGTH - drawn.shape[1]), value=PADDING)
    counts = Counter(map(tuple, wide.tolist()))
    assert counts.keys() <= set(map(tuple, ROWS.tolist()))
    return torch.tensor([counts[tuple(row)] for row in ROWS.tolist()]) / len(drawn)


def test_there_are_as_many_rows_as_sequences() -> None:
    assert len(ROWS) == 1 + 3 + 9 + 27


def test_the_probabilities_of_all_sequences_sum_to_one(decoder: Decoder) -> None:
    assert scores(decoder).double().exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_sequences_are_drawn_as_often_as_they_are_scored(decoder: Decoder) -> None:
    n = 40_000
    with torch.no_grad():
        found = frequencies(likelihood(decoder, n).sample(StepNoise(0, n, slice(None))))
    expected = scores(decoder).exp()
    statistic = (n * (found - expected) ** 2 / expected).sum().item()
    assert statistic < 39 + 5 * (2 * 39) ** 0.5


def test_temperature_sharpens_every_token(decoder: Decoder) -> None:
    n, temperature = 40_000, 0.5
    with torch.no_grad():
        drawn = likelihood(decoder, n).sample(StepNoise(0, n, slice(None)), temperature)
        logits, _ = decoder.step(torch.tensor([PADDING]), decoder.start(Z))
    first = torch.bincount(drawn[:, 0], minlength=V) / n
    torch.testing.assert_close(first, torch.softmax(logits[0] / temperature, 0), atol=0.015, rtol=0)


def test_the_mode_takes_the_best_token_at_each_step(decoder: Decoder) -> None:
    with torch.no_grad():
        mode = likelihood(decoder, 1).mode()[0].tolist()
        for position, token in enumerate(mode):
            following = torch.tensor([[*mode[:position], choice] for choice in range(V)])
            assert likelihood(decoder, V).log_prob(following).argmax().item() == token


def test_tokens_marked_never_are_scored_but_not_generated(decoder: Decoder) -> None:
    n, never = 5000, (1, 3)
    forbidden = likelihood(decoder, n, never=never)
    with torch.no_grad():
        drawn = forbidden.sample(StepNoise(0, n, slice(None)))
        assert torch.isfinite(likelihood(decoder, len(ROWS), never=never).log_prob(ROWS)).all()
        assert set(drawn.unique().tolist()) == {END, 2, PADDING}
        assert set(forbidden.mode().unique().tolist()) <= {END, 2, PADDING}


@pytest.mark.parametrize("beam", [1, 2])
def test_a_sequence_that_may_not_be_empty_has_a_token_before_its_end(decoder: Decoder, beam: int) -> None:
    n = 5000
    with torch.no_grad():
        decoder.bias[END] = 4.0  # the end is the likeliest token everywhere
        full = likelihood(decoder, n, empty=False, beam=beam)
        drawn = full.sample(StepNoise(0, n, slice(None)))
        first, second = torch.bincount(drawn[:, 0], minlength=V), (drawn[:, 1] == END).float().mean()
        logits, _ = decoder.step(torch.tensor([PADDING]), decoder.start(Z))
        torch.testing.assert_close(first[1:] / n, torch.softmax(logits[0, 1:], 0), atol=0.03, rtol=0)
        assert first[END] == 0
        assert second > 0.5
        assert full.mode()[0, 0] != END
        assert likelihood(decoder, n, beam=beam).mode()[0, 0] == END


def test_nothing_but_padding_follows_an_end(decoder: Decoder) -> None:
    with torch.no_grad():
        drawn = likelihood(decoder, 500).sample(Noise(range(500)))
    after = (drawn == END).cumsum(1).roll(1, 1)
    after[:, 0] = 0
    assert (drawn[after > 0] == PADDING).all()
    assert (drawn[after == 0] != PADDING).all()


def test_a_row_is_drawn_from_its_own_seed_whatever_the_batch(decoder: Decoder) -> None:
    with torch.no_grad():
        first, second = (likelihood(decoder, 3).sample(Noise([seed, 11, seed + 1])) for seed in (5, 80))
    width = min(first.shape[1], second.shape[1])
    assert torch.equal(first[1, :width], second[1, :width])


def test_more_padding_changes_no_score(decoder: Decoder) -> None:
    wide = torch.nn.functional.pad(ROWS, (0, 4), value=PADDING)
    with torch.no_grad():
        padded = likelihood(decoder, len(wide)).log_prob(wide)
    torch.testing.assert_close(padded, scores(decoder), atol=1e-6, rtol=1e-6)


def test_padding_gets_no_gradient(decoder: Decoder) -> None:
    row = torch.tensor([[2, END]])
    wide = torch.nn.functional.pad(row, (0, 3), value=PADDING)
    gradients = []
    for tokens in (row, wide):
        decoder.zero_grad()
        likelihood(decoder, 1).log_prob(tokens).sum().backward()
        gradients.append([parameter.grad for parameter in decoder.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_scoring_and_stepping_give_the_same_probabilities(decoder: Decoder, threads: int) -> None:
    tokens, before = torch.tensor([[2, 3, 1]]), torch.get_num_threads()
    torch.set_num_threads(threads)  # of which single steps make use
    try:
        with torch.no_grad():
            states = decoder.hidden(Z, tokens)[0]
            at_once = torch.stack([decoder.score(states, torch.full((3,), token)) for token in range(V)], 1)
            token, state, stepped = torch.tensor([PADDING]), decoder.start(Z), []
            for following in tokens[0]:
                logits, state = decoder.step(token, state)
                stepped.append(torch.log_softmax(logits[0], -1))
                token = following[None]
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(torch.stack(stepped), at_once)


def test_the_derivatives_of_log_probabilities_are_those_of_autograd() -> None:
    logits = torch.randn(150, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    index = torch.arange(150) % 9
    pull = torch.linspace(-1, 2, 150)
    found = []
    for score in (log_softmax_at, lambda x, i: torch.log_softmax(x, 1).gather(1, i[:, None]).squeeze(1)):
        leaf = logits.clone().requires_grad_()
        scores = score(leaf, index)
        (gradient,) = torch.autograd.grad((scores * pull).sum(), leaf, create_graph=True)
        (again,) = torch.autograd.grad(gradient.pow(3).sum(), leaf)
        (plain,) = torch.autograd.grad((score(leaf, index) * pull).sum(), leaf)
        found.append((scores.detach(), plain, gradient.detach(), again))
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0][1], found[0][2])


def test_the_bag_of_words_loss_is_that_of_tokens_without_their_order() -> None:
    network = Decoder(nn.Embedding(V + 1, 6), LATENT, 5, length=LENGTH, bag_of_words=0.5)
    rows = torch.tensor([[2, 1, END], [1, END, PADDING]])
    assert network.bag is not None
    shares = torch.softmax(network.bag(Z) @ network.embedding.weight[:V].T + network.bias, -1)[0]
    expected = [-0.5 * shares[row].log().sum().item() for row in ([2, 1, END], [1, END])]
    cost = network(Z.expand(2, -1)).auxiliary(rows)
    assert cost.tolist() == pytest.approx(expected, rel=1e-5)
    assert network.eval()(Z).auxiliary(rows[:1]) is None  # it is no part of what is measured


def test_a_token_is_predicted_without_seeing_itself_or_what_follows(decoder: Decoder) -> None:
    first, second = torch.tensor([[2, 3, 1]]), torch.tensor([[2, 1, 3]])
    with torch.no_grad():
        ours, theirs = (decoder.hidden(Z, tokens) for tokens in (first, second))
    torch.testing.assert_close(ours[:, :2], theirs[:, :2])
    assert not torch.allclose(ours[:, 2], theirs[:, 2])


def test_z_reaches_every_token(decoder: Decoder) -> None:
    z = Z.clone().requires_grad_()
    for position in range(LENGTH):
        (gradient,) = torch.autograd.grad(decoder.hidden(z, torch.tensor([[2, 3, 1]]))[0, position].sum(), z)
        assert gradient.abs().min() > 0


def test_word_dropout_acts_in_training_only() -> None:
    network = Decoder(nn.Embedding(V + 1, 6), LATENT, hidden=5, length=LENGTH, word_dropout=0.5)
    tokens = torch.tensor([[2, 3, 1]]).expand(20, -1)
    z = Z.expand(20, -1)
    with torch.no_grad():
        trained = network.train().hidden(z, tokens)
        still = network.eval().hidden(z, tokens)
    assert not torch.allclose(trained, trained[:1].expand_as(trained))
    torch.testing.assert_close(still, still[:1].expand_as(still))


def test_padding_reaches_no_output_of_the_encoder() -> None:
    encoder = Encoder(nn.Embedding(V + 1, 6), outputs=4, hidden=5)
    rows = [torch.tensor([3, 1, 2, END]), torch.tensor([2, END]), torch.tensor([END])]
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
    with torch.no_grad():
        alone = torch.cat([encoder(row[None]) for row in rows])
        torch.testing.assert_close(encoder(batch), alone)
        torch.testing.assert_close(encoder(torch.nn.functional.pad(batch, (0, 5), value=PADDING)), alone)


def test_the_encoder_reads_the_order_of_tokens() -> None:
    encoder = Encoder(nn.Embedding(V + 1, 6), outputs=4, hidden=5)
    with torch.no_grad():
        onward, reversed_ = encoder(torch.tensor([[3, 1, 2, END], [2, 1, 3, END]]))
    assert not torch.allclose(onward, reversed_)


# -- how tokens are chosen ----------------------------------------------------------------------------


def shares(choice: Choice, logits: Tensor, n: int = 20_000) -> Tensor:
    """How often each token is drawn."""
    u = torch.linspace(0.5 / n, 1 - 0.5 / n, n)
    return torch.bincount(choice.draw(logits.expand(n, -1), u), minlength=len(logits)) / n


LOGITS = torch.tensor([0.1, 0.4, 0.3, 0.15, 0.05]).log()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(), [0.1, 0.4, 0.3, 0.15, 0.05]),
        (Choice(top_k=2), [0, 4 / 7, 3 / 7, 0, 0]),
        (Choice(top_p=0.5), [0, 4 / 7, 3 / 7, 0, 0]),
        (Choice(top_p=0.75), [0, 8 / 17, 6 / 17, 3 / 17, 0]),
        (Choice(top_p=0.01), [0.0, 1, 0, 0, 0]),
        (Choice(top_k=3, top_p=0.5), [0, 4 / 7, 3 / 7, 0, 0]),
        (Choice(top_k=99), [0.1, 0.4, 0.3, 0.15, 0.05]),
    ],
    ids=repr,
)
def test_tokens_are_drawn_from_the_nucleus_in_proportion(choice: Choice, expected: list[float]) -> None:
    torch.testing.assert_close(shares(choice, LOGITS), torch.tensor(expected), atol=1e-3, rtol=0)


def test_a_nucleus_may_hold_more_tokens_than_are_sorted_at_first() -> None:
    even = torch.zeros(1000)
    even[:100] = 1e-3  # a little likelier
    found = shares(Choice(top_p=0.5), even)
    assert int((found > 0).sum()) == pytest.approx(500, abs=2)
    assert (found[:100] > 0).all()


def test_a_wide_search_finds_the_likeliest_sequence_and_a_wider_never_a_worse_one(decoder: Decoder) -> None:
    scores = likelihood(decoder, len(ROWS)).log_prob(ROWS)
    found = []
    for beam in (1, 2, 64):
        best = AutoregressiveCategorical(decoder, Z, V, LENGTH, Choice(beam=beam)).mode()
        padded = nn.functional.pad(best, (0, LENGTH - best.shape[1]), value=PADDING)
        found.append(likelihood(decoder, 1).log_prob(padded).item())
    assert found[0] <= found[1] + 1e-5 <= found[2] + 2e-5
    assert found[2] == pytest.approx(scores.max().item(), abs=1e-5)


def test_each_row_of_a_search_is_found_as_if_alone(decoder: Decoder) -> None:
    z = torch.randn(5, LATENT, generator=torch.Generator().manual_seed(0)) * 3
    together = AutoregressiveCategorical(decoder, z, V, LENGTH, Choice(beam=3)).mode()
    for row, alone in zip(together, z.split(1), strict=True):
        best = AutoregressiveCategorical(decoder, alone, V, LENGTH, Choice(beam=3)).mode()[0]
        assert row[: len(best)].tolist() == best.tolist()


def test_the_looked_up_share_of_tokens_follows_the_weights(decoder: Decoder) -> None:
    before = likelihood(decoder, 1).mode()
    with torch.no_grad():
        decoder.embedding.weight.neg_()
    fresh = decoder._prepared().table
    weight = decoder.gru.weight_ih_l0
    assert isinstance(weight, Tensor)
    expected = decoder.scale * decoder.embedding.weight @ weight[:, :6].T + decoder._layer("ih", 0)[1]
    torch.testing.assert_close(fresh, expected)
    assert likelihood(decoder, 1).mode().shape[0] == before.shape[0]
