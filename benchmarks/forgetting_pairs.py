"""Makes the minimal pairs of the forgetting probe: 20 phenomena of English grammar, 20 pairs of sentences each.

    python benchmarks/forgetting_pairs.py [--check]

Of each pair one sentence is grammatical and the other is not, and they differ in as little as possible; the phenomena are
those that such tests usually hold (BLiMP, arXiv 1912.00582), every sentence is ours. Nothing is drawn at random: the words
of pair number i are found by counting through the lists, so the file comes out the same everywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

FILE = Path(__file__).parents[1] / "src" / "luthier" / "evaluate" / "forgetting" / "data" / "minimal_pairs.jsonl"
PAIRS_EACH = 20


def words(text: str) -> list[str]:
    return text.split()


PEOPLE = words("""teacher doctor farmer driver singer baker lawyer student nurse pilot waiter painter gardener neighbor
manager engineer dancer tourist writer sailor""")
THINGS = words("""book window table letter cup ticket picture bottle knife basket lamp chair mirror blanket ladder wallet
guitar candle pillow camera""")
PLACES = words("""kitchen garden station library market hospital school theater office museum village harbor bakery hotel
church park castle factory airport forest""")
MEN = words("Robert David Peter Thomas Daniel Steven George Henry Frank Paul")
WOMEN = words("Mary Susan Laura Emily Anna Helen Julia Sarah Alice Karen")
VERBS = [  # third person, plural
    ("walks", "walk"),
    ("sings", "sing"),
    ("sleeps", "sleep"),
    ("smiles", "smile"),
    ("works", "work"),
    ("waits", "wait"),
    ("laughs", "laugh"),
    ("talks", "talk"),
    ("reads", "read"),
    ("runs", "run"),
]


def pick(words: list, number: int, step: int = 1):
    return words[number * step % len(words)]


def plural(noun: str) -> str:
    return {"knife": "knives"}.get(noun, noun[:-1] + "ies" if noun.endswith("ry") else noun + "s")


def article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def agreement(i: int) -> tuple[str, str]:
    one, many = pick(VERBS, i, 3)
    place = pick(PLACES, i, 7)
    if i % 2:
        return f"The {pick(PEOPLE, i)} {one} near the {place}.", f"The {pick(PEOPLE, i)} {many} near the {place}."
    people = plural(pick(PEOPLE, i))
    return f"The {people} {many} near the {place}.", f"The {people} {one} near the {place}."


def agreement_past_a_noun(i: int) -> tuple[str, str]:
    thing, place, quality = pick(THINGS, i), pick(PLACES, i, 3), pick(["old", "nice", "dirty", "famous", "cheap"], i, 2)
    if i % 2:
        start = f"The {thing} from the {plural(place)}"
        return f"{start} is {quality}.", f"{start} are {quality}."
    start = f"The {plural(thing)} from the {place}"
    return f"{start} are {quality}.", f"{start} is {quality}."


def agreement_past_a_clause(i: int) -> tuple[str, str]:
    head, other = pick(PEOPLE, i), pick(PEOPLE, i + 7)
    verb = pick(["likes", "knows", "helps", "visits"], i)
    if i % 2:
        start = f"The {head} that the {plural(other)} {verb[:-1]}"
        return f"{start} was tired.", f"{start} were tired."
    start = f"The {plural(head)} that the {other} {verb}"
    return f"{start} were tired.", f"{start} was tired."


def agreement_after_there(i: int) -> tuple[str, str]:
    thing, place = pick(THINGS, i), pick(PLACES, i, 9)
    if i % 2:
        return f"There is {article(thing)} in the {place}.", f"There are {article(thing)} in the {place}."
    number = pick(["two", "three", "many", "several", "four"], i // 2)
    things = plural(thing)
    return f"There are {number} {things} in the {place}.", f"There is {number} {things} in the {place}."


REFLEXIVE = ["hurt", "blamed", "introduced", "washed", "taught", "trusted", "saw", "described", "praised", "defended"]


def anaphor_number(i: int) -> tuple[str, str]:
    verb = pick(REFLEXIVE, i, 3)
    if i % 2:
        name, right = (pick(MEN, i // 2), "himself") if i % 4 == 1 else (pick(WOMEN, i // 2), "herself")
        return f"{name} {verb} {right}.", f"{name} {verb} themselves."
    people = plural(pick(PEOPLE, i))
    return f"The {people} {verb} themselves.", f"The {people} {verb} {pick(['himself', 'herself'], i // 2)}."


def anaphor_gender(i: int) -> tuple[str, str]:
    verb = pick(REFLEXIVE, i, 7)
    if i % 2:
        name = pick(MEN, i // 2)
        return f"{name} has {verb_part(verb)} himself before.", f"{name} has {verb_part(verb)} herself before."
    name = pick(WOMEN, i // 2)
    return f"{name} has {verb_part(verb)} herself before.", f"{name} has {verb_part(verb)} himself before."


def verb_part(past: str) -> str:
    return {"saw": "seen"}.get(past, past)


def determiner_noun(i: int) -> tuple[str, str]:
    thing, name = pick(THINGS, i), pick(MEN + WOMEN, i)
    verb = pick(["bought", "found", "sold", "lost", "carried"], i, 2)
    if i % 2:
        determiner = pick(["this", "that"], i // 2)
        return f"{name} {verb} {determiner} {thing}.", f"{name} {verb} {determiner} {plural(thing)}."
    determiner = pick(["these", "those"], i // 2)
    return f"{name} {verb} {determiner} {plural(thing)}.", f"{name} {verb} {determiner} {thing}."


IRREGULAR = [
    ("child", "children"),
    ("man", "men"),
    ("woman", "women"),
    ("mouse", "mice"),
    ("goose", "geese"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("wife", "wives"),
    ("leaf", "leaves"),
    ("thief", "thieves"),
]


def determiner_irregular_noun(i: int) -> tuple[str, str]:
    one, many = IRREGULAR[i // 2]
    verb = pick(["remembered", "noticed", "pointed at"], i)
    name = pick(WOMEN + MEN, i)
    if i % 2:
        return f"{name} {verb} this {one}.", f"{name} {verb} these {one}."
    return f"{name} {verb} those {many}.", f"{name} {verb} that {many}."


PAST = [  # base, past, participle, what follows
    ("write", "wrote", "written", "a long letter"),
    ("break", "broke", "broken", "the window"),
    ("eat", "ate", "eaten", "the soup"),
    ("drive", "drove", "driven", "the truck"),
    ("steal", "stole", "stolen", "the money"),
    ("choose", "chose", "chosen", "the blue one"),
    ("forget", "forgot", "forgotten", "the name"),
    ("take", "took", "taken", "the last train"),
    ("give", "gave", "given", "a speech"),
    ("shake", "shook", "shaken", "the bottle"),
    ("know", "knew", "known", "the answer"),
    ("draw", "drew", "drawn", "a map"),
    ("throw", "threw", "thrown", "the ball"),
    ("speak", "spoke", "spoken", "to the judge"),
    ("wear", "wore", "worn", "a black coat"),
    ("begin", "began", "begun", "the meeting"),
    ("sing", "sang", "sung", "an old song"),
    ("drink", "drank", "drunk", "the milk"),
    ("do", "did", "done", "the work"),
    ("hide", "hid", "hidden", "the key"),
]


def irregular_past(i: int) -> tuple[str, str]:
    base, past, _, rest = PAST[i]
    regular = {"forget": "forgett", "begin": "beginn"}.get(base, base.removesuffix("e")) + "ed"
    person = pick(PEOPLE, i, 3)
    return f"Last night the {person} {past} {rest}.", f"Last night the {person} {regular} {rest}."


def irregular_participle(i: int) -> tuple[str, str]:
    _, past, participle, rest = PAST[i]
    name = pick(WOMEN + MEN, i, 3)
    return f"{name} has already {participle} {rest}.", f"{name} has already {past} {rest}."


def polarity_ever(i: int) -> tuple[str, str]:
    what = pick(["seen the sea", "been to Rome", "met the king", "eaten snails", "played chess"], i)
    good, bad = pick([("No", "Some"), ("Few", "Many"), ("None of the", "All of the"), ("Hardly any", "Nearly all")], i)
    people = plural(pick(PEOPLE, i, 3))
    return f"{good} {people} have ever {what}.", f"{bad} {people} have ever {what}."


def polarity_any(i: int) -> tuple[str, str]:
    stuff = pick(["bread", "milk", "sugar", "money", "paper", "rice", "salt", "coffee", "butter", "water"], i)
    verb, past = pick([("buy", "bought"), ("find", "found"), ("bring", "brought"), ("want", "wanted")], i)
    person = pick(PEOPLE, i, 9)
    return f"The {person} didn't {verb} any {stuff}.", f"The {person} {past} any {stuff}."


def filler_gap(i: int) -> tuple[str, str]:
    verb = pick(["bought", "found", "borrowed", "repaired", "brought"], i)
    person, name = pick(PEOPLE, i, 7), pick(MEN + WOMEN, i, 3)
    if i % 2:
        thing = pick(THINGS, i)
        return f"{name} knows that the {person} {verb} the {thing}.", (
            f"{name} knows what the {person} {verb} the {thing}."
        )
    return f"{name} knows what the {person} {verb} yesterday.", f"{name} knows that the {person} {verb} yesterday."


def question_order(i: int) -> tuple[str, str]:
    word, verb = pick([("What", "buy"), ("When", "leave"), ("Where", "work"), ("Who", "invite"), ("Why", "laugh")], i)
    person, time = pick(PEOPLE, i), pick(["after lunch", "on Sunday", "last year", "yesterday"], i)
    return f"{word} did the {person} {verb} {time}?", f"{word} the {person} did {verb} {time}?"


def island(i: int) -> tuple[str, str]:
    one, other = pick(PEOPLE, i, 3), pick(PEOPLE, i + 5)
    first, second = pick([("leave", "cleaning"), ("sleep", "watching"), ("laugh", "drawing"), ("wait", "eating")], i)
    back = {"cleaning": "clean", "watching": "watch", "drawing": "draw", "eating": "eat"}[second]
    gerund = {"leave": "leaving", "sleep": "sleeping", "laugh": "laughing", "wait": "waiting"}[first]
    return (
        f"What did the {one} {back} while the {other} was {gerund}?",
        f"What did the {one} {first} while the {other} was {second}?",
    )


def transitivity(i: int) -> tuple[str, str]:
    takes = pick(["opened", "moved", "sold", "dropped", "lifted", "repaired", "touched"], i)
    never = pick(["arrived", "existed", "disappeared", "fell", "slept", "vanished", "smiled"], i)
    person, thing = pick(PEOPLE, i, 9), pick(THINGS, i)
    return f"The {person} {takes} the {thing}.", f"The {person} {never} the {thing}."


def bare_infinitive(i: int) -> tuple[str, str]:
    verb = pick(["leave", "wait", "sing", "cry", "work", "stop", "answer"], i)
    name, person = pick(WOMEN + MEN, i), pick(PEOPLE, i, 7)
    if i % 2:
        gerund = {"leave": "leaving", "stop": "stopping"}.get(verb, verb + "ing")
        return f"{name} told the {person} to {verb}.", f"{name} told the {person} {gerund}."
    cause = pick(["made", "let"], i // 2)
    return f"{name} {cause} the {person} {verb}.", f"{name} {cause} the {person} to {verb}."


def verb_form(i: int) -> tuple[str, str]:
    base, _, participle, rest = PAST[(i * 3) % 20]
    person = pick(PEOPLE, i)
    if i % 2:
        helper = pick(["can", "will", "should", "must"], i // 2)
        return f"The {person} {helper} {base} {rest}.", f"The {person} {helper} {participle} {rest}."
    third = {"do": "does"}.get(base, base + "s")
    return f"The {person} did not {base} {rest}.", f"The {person} did not {third} {rest}."


def pronoun_case(i: int) -> tuple[str, str]:
    verb = pick(["called", "helped", "followed", "watched", "thanked"], i)
    person = pick(PEOPLE, i, 3)
    good, bad = pick([("him", "he"), ("them", "they"), ("me", "I"), ("us", "we")], i)
    if i % 2:
        return f"{bad[0].upper()}{bad[1:]} {verb} the {person}.", f"{good[0].upper()}{good[1:]} {verb} the {person}."
    return f"The {person} {verb} {good} yesterday.", f"The {person} {verb} {bad} yesterday."


def quantifier(i: int) -> tuple[str, str]:
    name = pick(MEN + WOMEN, i, 7)
    if i % 2:
        things = plural(pick(THINGS, i))
        return f"{name} does not own many {things}.", f"{name} does not own much {things}."
    stuff = pick(
        ["money", "furniture", "luggage", "water", "music", "rice", "help", "advice", "traffic", "sugar"], i // 2
    )
    return f"{name} does not need much {stuff}.", f"{name} does not need many {stuff}."


PHENOMENA: dict[str, Callable[[int], tuple[str, str]]] = {
    "subject-verb agreement": agreement,
    "agreement past a noun": agreement_past_a_noun,
    "agreement past a clause": agreement_past_a_clause,
    "agreement after there": agreement_after_there,
    "anaphor number": anaphor_number,
    "anaphor gender": anaphor_gender,
    "determiner and noun": determiner_noun,
    "determiner and irregular noun": determiner_irregular_noun,
    "irregular past": irregular_past,
    "irregular participle": irregular_participle,
    "polarity: ever": polarity_ever,
    "polarity: any": polarity_any,
    "filler and gap": filler_gap,
    "word order in a question": question_order,
    "adjunct island": island,
    "transitivity": transitivity,
    "infinitive with or without to": bare_infinitive,
    "verb form after an auxiliary": verb_form,
    "pronoun case": pronoun_case,
    "quantifier and noun": quantifier,
}


def lines() -> str:
    """Returns the file's text."""
    rows = []
    for phenomenon, make in PHENOMENA.items():
        for number in range(PAIRS_EACH):
            good, bad = make(number)
            key = f"{phenomenon.replace(':', '').replace(' ', '-')}-{number + 1}"
            rows.append({"id": key, "phenomenon": phenomenon, "good": good, "bad": bad})
    return "".join(json.dumps(row) + "\n" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the file is what this script makes")
    text = lines()
    if parser.parse_args().check:
        sys.exit(FILE.read_text(encoding="utf-8") != text)
    FILE.write_text(text, encoding="utf-8")
    print(f"{text.count(chr(10))} pairs in {FILE}")


if __name__ == "__main__":
    main()
