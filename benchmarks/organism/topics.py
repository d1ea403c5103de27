"""What the dense model is asked to write about: topics with their subjects, in forms of question that all share."""

from __future__ import annotations

import random
from dataclasses import dataclass

TOPICS: dict[str, tuple[str, ...]] = {
    "cooking": ("soup", "bread", "rice", "pancakes", "salad", "stew", "pasta", "roast vegetables", "jam", "omelettes"),
    "gardening": ("roses", "tomatoes", "compost", "hedges", "herbs", "lawns", "apple trees", "bulbs", "ferns", "weeds"),
    "astronomy": (
        "comets",
        "the moon",
        "Saturn",
        "galaxies",
        "telescopes",
        "eclipses",
        "meteors",
        "Mars",
        "stars",
        "tides",
    ),
    "history": (
        "castles",
        "the Romans",
        "old maps",
        "the printing press",
        "pirates",
        "coins",
        "Vikings",
        "railways",
        "kings",
        "trade routes",
    ),
    "music": (
        "pianos",
        "choirs",
        "drums",
        "the violin",
        "folk songs",
        "rhythm",
        "opera",
        "trumpets",
        "lullabies",
        "guitars",
    ),
    "animals": ("foxes", "bees", "whales", "owls", "horses", "ants", "penguins", "frogs", "elephants", "spiders"),
    "sport": (
        "tennis",
        "swimming",
        "running",
        "football",
        "rowing",
        "chess clubs",
        "cycling",
        "skating",
        "climbing",
        "judo",
    ),
    "programming": (
        "loops",
        "functions",
        "sorting",
        "variables",
        "web pages",
        "bugs",
        "databases",
        "recursion",
        "lists",
        "tests",
    ),
    "mathematics": (
        "fractions",
        "triangles",
        "prime numbers",
        "averages",
        "circles",
        "percentages",
        "graphs",
        "angles",
        "zero",
        "ratios",
    ),
    "weather": ("rain", "clouds", "thunder", "snow", "wind", "fog", "rainbows", "frost", "heat waves", "seasons"),
    "travel": (
        "trains",
        "packing",
        "passports",
        "hostels",
        "maps",
        "airports",
        "camping",
        "ferries",
        "museums",
        "road trips",
    ),
    "health": (
        "sleep",
        "walking",
        "drinking water",
        "stretching",
        "breakfast",
        "teeth",
        "posture",
        "vitamins",
        "rest",
        "eyesight",
    ),
    "money": (
        "saving",
        "budgets",
        "banks",
        "shopping lists",
        "rent",
        "loans",
        "prices",
        "wages",
        "receipts",
        "pocket money",
    ),
    "art": (
        "watercolours",
        "portraits",
        "clay",
        "colour",
        "sketching",
        "sculpture",
        "murals",
        "frames",
        "shadows",
        "ink",
    ),
    "school": (
        "homework",
        "essays",
        "exams",
        "reading",
        "libraries",
        "teachers",
        "spelling",
        "notes",
        "group work",
        "school trips",
    ),
    "engineering": (
        "bridges",
        "engines",
        "pulleys",
        "batteries",
        "wheels",
        "pumps",
        "lighthouses",
        "clocks",
        "tunnels",
        "gears",
    ),
}
FORMS = (
    "Tell me about {}.",
    "Explain {} to a child.",
    "Write a short story about {}.",
    "What should a beginner know about {}?",
    "List five facts about {}.",
    "Why do people care about {}?",
    "Write a short poem about {}.",
    "What is a common mistake with {}?",
    "Write a letter to a friend about {}.",
    "How has {} changed over time?",
)
HELD_OUT = 1
"""The last subject of each topic is held out."""


@dataclass(frozen=True)
class Asked:
    """A question, and what it is about."""

    text: str
    topic: int
    held_out: bool


def questions(number: int, seed: int) -> list[Asked]:
    """So many, by chance; every sixteenth is about a subject that is held out."""
    chooser = random.Random(f"questions {seed}")
    names = list(TOPICS)
    asked = []
    for place in range(number):
        topic, held_out = chooser.choice(names), place % 16 == 0
        subjects = TOPICS[topic][-HELD_OUT:] if held_out else TOPICS[topic][:-HELD_OUT]
        text = chooser.choice(FORMS).format(chooser.choice(subjects))
        asked.append(Asked(text, names.index(topic), held_out))
    return asked
