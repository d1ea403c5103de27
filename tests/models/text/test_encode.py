import torch

from moe_safety.models.text import answer_span, pad_left


def test_a_span_is_the_first_tokens_and_the_end_where_the_answer_ended_there():
    said = [5, 6, 7]
    assert answer_span(said, ended=True, end=9, at_most=4) == [5, 6, 7, 9]
    assert answer_span(said, ended=True, end=9, at_most=3) == [5, 6, 7, 9]
    assert answer_span(said, ended=True, end=9, at_most=2) == [5, 6]
    assert answer_span(said, ended=False, end=9, at_most=4) == [5, 6, 7]
    assert answer_span([], ended=True, end=9, at_most=4) == [9]


def test_padding_stands_on_the_left_and_has_no_position():
    padded = pad_left([[5, 6, 7], [8]], pad=0)
    assert padded.input_ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert padded.attention_mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert torch.equal(padded.position_ids, torch.tensor([[0, 1, 2], [0, 0, 0]]))
