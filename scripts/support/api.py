"""Reads symbol graphs, and records or compares a public API. Called by scripts/api."""

import json
import os
import re
import sys

RECORD = "docs/api"
# What docs/migration.md had announced when the API was recorded. It announces nothing that breaks later.
ANNOUNCED = os.path.join(RECORD, "announced")


def declaration(symbol):
    text = "".join(part["spelling"] for part in symbol["declarationFragments"])
    return re.sub(r"\s+", " ", text).strip()


def read(folder):
    """The API of each module: lines `place | kind | declaration`, sorted."""
    api = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".symbols.json"):
            continue
        # AMQPPool@Supervision: what AMQPPool adds to types of Supervision.
        module = name.split(".")[0].split("@")[0]
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            graph = json.load(file)
        lines = api.setdefault(module, set())
        places = {}
        for symbol in graph["symbols"]:
            identifier = symbol["identifier"]["precise"]
            # What the standard library gives to whatever conforms to its protocols.
            if "::SYNTHESIZED::" in identifier:
                continue
            place = ".".join(symbol["pathComponents"])
            places[identifier] = place
            kind = symbol["kind"]["identifier"].removeprefix("swift.")
            lines.add(f"{place} | {kind} | {declaration(symbol)}")
        for relation in graph["relationships"]:
            if relation["source"] not in places:
                continue
            place = places[relation["source"]]
            if relation["kind"] == "conformsTo":
                target = relation.get("targetFallback") or relation["target"]
                lines.add(f"{place} | conformance | {target.removeprefix('Swift.')}")
            elif relation["kind"] == "requirementOf":
                lines.add(f"{place} | requirement | of {relation.get('targetFallback') or places.get(relation['target'], '')}")
    return {module: sorted(lines) for module, lines in api.items() if lines}


def recorded():
    api = {}
    if os.path.isdir(RECORD):
        for name in sorted(os.listdir(RECORD)):
            if name.endswith(".txt"):
                with open(os.path.join(RECORD, name), encoding="utf-8") as file:
                    api[name.removesuffix(".txt")] = file.read().splitlines()
    return api


def bare(place):
    """Without the labels of parameters."""
    return ".".join(re.sub(r"\(.*", "", part) for part in re.findall(r"[^.(]+(?:\([^)]*\))?", place))


def spans(text):
    return {bare(span.strip()) for span in re.findall(r"`([^`\n]+)`", text)}


def migration():
    """The code spans of docs/migration.md."""
    if not os.path.exists("docs/migration.md"):
        return set()
    with open("docs/migration.md", encoding="utf-8") as file:
        return spans(file.read())


def announcements():
    """What docs/migration.md names since the API was recorded, and what CHANGELOG.md names below Unreleased."""
    announced = migration()
    if os.path.exists(ANNOUNCED):
        with open(ANNOUNCED, encoding="utf-8") as file:
            announced -= set(file.read().splitlines())
    if os.path.exists("CHANGELOG.md"):
        with open("CHANGELOG.md", encoding="utf-8") as file:
            match = re.search(r"^## \[?Unreleased\]?.*?(?=^## |\Z)", file.read(), re.M | re.S)
            announced |= spans(match.group(0)) if match else set()
    return announced


def is_announced(place, announced):
    """By its own name, or by that of what it is in; a member also without its type."""
    parts = bare(place).split(".")
    names = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    names.add(parts[-1])
    names.add(".".join(parts[-2:]))
    return bool(names & announced)


def main():
    mode, folder = sys.argv[1:3]
    now = read(folder)
    if mode == "record":
        os.makedirs(RECORD, exist_ok=True)
        for name in os.listdir(RECORD):
            if name.endswith(".txt") and name.removesuffix(".txt") not in now:
                os.remove(os.path.join(RECORD, name))
        for module, lines in now.items():
            with open(os.path.join(RECORD, module + ".txt"), "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
        with open(ANNOUNCED, "w", encoding="utf-8") as file:
            file.write("\n".join(sorted(migration())) + "\n")
        print(f"recorded {sum(map(len, now.values()))} lines of {len(now)} modules in {RECORD}")
        return 0

    before = recorded()
    if not before:
        print("no API is recorded yet: scripts/api --record does that at a release")
        return 1 if mode == "exact" else 0
    announced = announcements()
    breaks, new = [], 0
    for module in sorted(set(before) | set(now)):
        old, current = set(before.get(module, [])), set(now.get(module, []))
        old_places = {line.split(" | ")[0] for line in old}
        for line in sorted(old - current):
            place = line.split(" | ")[0]
            if not is_announced(place, announced):
                breaks.append((module, "gone or changed", line))
        for line in sorted(current - old):
            new += 1
            place, kind = line.split(" | ")[:2]
            holder = place.rsplit(".", 1)[0]
            if kind in ("enum.case", "requirement") and holder in old_places and not is_announced(place, announced):
                breaks.append((module, "a new " + ("case" if kind == "enum.case" else "requirement"), line))
    for module, what, line in breaks:
        print(f"{module}: {what}: {line}")
    if breaks:
        print(
            f"error: {len(breaks)} breaks of the public API are not announced: name each in docs/migration.md, "
            "or in CHANGELOG.md below Unreleased."
        )
        return 1
    if mode == "exact" and (new or any(set(before.get(m, [])) != set(now.get(m, [])) for m in set(before) | set(now))):
        print(f"error: docs/api is not as the code is ({new} lines are new): scripts/api --record.")
        return 1
    print(f"no unannounced break of the public API; {new} lines are new or announced")
    return 0


sys.exit(main())
