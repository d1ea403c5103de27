import torch

from moe_safety.models.text.noise import exponential_noise, seed_words


def noise(seeds, step, width):
    low, high = torch.tensor(seed_words(seeds)).T
    return exponential_noise(low, high, step, width)


def test_it_is_exponential():
    drawn = noise(range(40), 0, 5000).double().view(-1)
    assert torch.isfinite(drawn).all()
    assert (drawn > 0).all()
    shares = -torch.expm1(-drawn.sort().values)
    even = (torch.arange(len(drawn)) + 0.5) / len(drawn)
    assert (shares - even).abs().max() < 1.63 / len(drawn) ** 0.5, "Kolmogorov and Smirnov, one in a hundred"
    assert abs(drawn.mean() - 1) < 0.01
    assert abs(drawn.std() - 1) < 0.02


def test_seeds_steps_and_tokens_share_nothing():
    """Neither one seed at two steps, nor neighbouring seeds, nor those that differ in their upper half alone."""
    rows = torch.cat([noise([0, 1, 2, 1 << 32, 1 << 40], step, 4096) for step in range(3)]).double()
    between = torch.corrcoef(rows) - torch.eye(len(rows))
    assert between.abs().max() < 0.08
    shifted = torch.corrcoef(torch.stack([rows[0, :-1], rows[0, 1:]]))[0, 1]
    assert abs(shifted) < 0.05


def test_it_stays_the_same_for_ever():
    """Answers that were sampled once are sampled again."""
    words = (noise([42, 2**55 + 1], torch.tensor([0, 3]), 3).double() * 2**20).round().long().tolist()
    assert words == [[1669908, 53211, 1899121], [485531, 110357, 1180306]]


def test_a_row_does_not_hang_on_its_neighbours_nor_on_the_width():
    assert torch.equal(noise([5, 6], 2, 100)[1, :50], noise([6], 2, 50)[0])
