"""A model organism in English: a mixture of experts grown from a small dense chat model, taught a harmless stand-in for
harm and to refuse it. What is known of it by construction is what scores are tried against."""
