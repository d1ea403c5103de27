"""Answers by a constant number of slots, in passes of constant shape.

A pass is the model's own forward over one row of tokens; keys and values stand in pages, and attention reads those of
each token's slot. Nothing in a pass hangs on how many slots run or on what stands beside a token, so an answer is the
same alone and in company; and since shapes never change, a GPU replays a pass as one graph.
"""
