"""What judges share that are asked in words: the question, quotations that cannot pose as it, and how replies are
read."""
