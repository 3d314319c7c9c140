"""The sentences of the shipped recipe `requests`: what people ask of a house that listens, and what each is about.

Run as a program it writes them: `python tests/support/spoken_requests.py deployments/recipes/requests.csv`.
"""

import csv
import random
import sys
from pathlib import Path

COUNT = 2400
ROOMS = "kitchen|bedroom|hall|garage|bathroom|garden|living room|office|attic|cellar"
DAYS = "today|tomorrow|on monday|on tuesday|on friday|this weekend|tonight|next week|in the morning"
TIMES = "six|seven|half past seven|eight|nine|ten|noon|four|five in the afternoon|midnight"
PLACES = "Berlin|Lisbon|Oslo|Chicago|Nairobi|Osaka|Toronto|Lima|Bristol|here|at home|by the sea"
PEOPLE = "mum|dad|Anna|the dentist|grandma|my boss|the plumber|Tom|the school|Maria"
THINGS = "the bins|my tablets|the rent|a birthday card|the washing|the library books|the car|the parcel"
MUSIC = "jazz|some Bach|the radio|my running songs|the news|something quiet|The Beatles|a lullaby|opera|the last album"
FOOD = "rice|pasta|pancakes|lentils|an omelette|bread|a curry|tomato soup|dumplings|a cake"

# What it is about, and how it is said. Some words stand in several, and some sentences could be about two things.
PATTERNS = {
    "lights": (
        "{turn} on the light in the {ROOMS}|{turn} the {ROOMS} lights off|make it {shade} in the {ROOMS}|"
        "it is too {shade} in the {ROOMS}|dim the lamp in the {ROOMS} {please}|lights off in the {ROOMS} at {TIMES}|"
        "is the light still on in the {ROOMS}"
    ),
    "heating": (
        "{turn} on the heating in the {ROOMS}|it is too {warm} in the {ROOMS}|make the {ROOMS} {warm}|"
        "set the {ROOMS} to {TIMES} degrees|{turn} the radiator in the {ROOMS} off {please}|heat the {ROOMS} {DAYS}|"
        "how {warm} is it in the {ROOMS}"
    ),
    "weather": (
        "how {warm} will it be {DAYS} in {PLACES}|will it rain {DAYS}|do I need {wear} {DAYS}|"
        "what is the weather like in {PLACES} {DAYS}|is it snowing in {PLACES}|"
        "when does the sun set {DAYS} in {PLACES}|how windy is it {PLACES}"
    ),
    "alarm": (
        "wake me at {TIMES} {DAYS}|set an alarm for {TIMES} {please}|{turn} off the alarm {DAYS}|"
        "let me sleep until {TIMES}|I have to get up at {TIMES} {DAYS}|when does my alarm go off {DAYS}|no alarm {DAYS}"
    ),
    "reminder": (
        "remind me to call {PEOPLE} {DAYS}|do not let me forget {THINGS} {DAYS}|remind me about {THINGS} at {TIMES}|"
        "tell me at {TIMES} to bring {THINGS}|what did I want to do {DAYS}|I have to call {PEOPLE} at {TIMES}|"
        "put {THINGS} on my list {please}"
    ),
    "music": (
        "play {MUSIC} {please}|{turn} on {MUSIC} in the {ROOMS}|{turn} {MUSIC} down {please}|I want to hear {MUSIC}|"
        "next song {please}|wake the {ROOMS} with {MUSIC}|what is this song called"
    ),
    "cooking": (
        "how long does {FOOD} take|set a timer for {FOOD} {please}|what do I need for {FOOD}|"
        "find me a recipe for {FOOD}|how warm must the oven be for {FOOD}|can I make {FOOD} {DAYS}|"
        "{FOOD} for {TIMES} people"
    ),
    "phone": (
        "call {PEOPLE} {please}|ring {PEOPLE} {DAYS}|tell {PEOPLE} I will be late|answer the phone in the {ROOMS}|"
        "did {PEOPLE} call {DAYS}|write {PEOPLE} a message about {THINGS}|hang up {please}"
    ),
}
OTHERS = {
    "turn": "turn|switch|put",
    "shade": "dark|darker|bright|brighter",
    "warm": "warm|cold|hot|warmer|chilly",
    "wear": "an umbrella|a coat|sunglasses|boots",
    "please": "please|now|right away|when you can|will you",
}
BEFORE = ("", "", "", "", "hey house, ", "could you ", "um, ", "Please ", "and then ", "house: ")


def drawn(draw: random.Random, pattern: str) -> str:
    """A sentence of a pattern, with a slip of the keys now and then."""
    while "{" in pattern:
        before, _, rest = pattern.partition("{")
        name, _, after = rest.partition("}")
        pattern = before + draw.choice((OTHERS.get(name) or globals()[name]).split("|")) + after
    sentence = draw.choice(BEFORE) + pattern
    if draw.random() < 0.15:
        place = draw.randrange(len(sentence) - 1)
        sentence = sentence[:place] + sentence[place + 1] + sentence[place] + sentence[place + 2 :]
    return sentence[0].upper() + sentence[1:] + draw.choice((".", ".", "?", "!", ""))


def rows() -> list[tuple[str, str]]:
    """Sentences and what they are about, none twice."""
    draw = random.Random(7)
    made: dict[str, str] = {}
    while len(made) < COUNT:
        about = draw.choice([*PATTERNS])
        made.setdefault(drawn(draw, draw.choice(PATTERNS[about].split("|"))), about)
    return [*made.items()]


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("request", "about"), *rows()])
