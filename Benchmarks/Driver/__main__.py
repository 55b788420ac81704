"""What scripts/bench runs once everything is installed and built."""

import argparse
import datetime
import json
import os
import sys
import time

import counts
import programs
import report
import scale
from targets import PEERS, TARGETS, Round, Sizes

PAGE = os.path.join(programs.ROOT, "docs", "benchmarks.md")


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench", add_help=False)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--counts", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--list", action="store_true")
    return parser.parse_args()


def chosen(only):
    wanted = [target for target in TARGETS if not only or any(name in target.name for name in only)]
    if not wanted:
        raise programs.Failure("no target is called %s: see scripts/bench --list" % ", ".join(only))
    return wanted


def measure_targets(targets, broker, options, tell):
    sizes = Sizes(seconds=1.0, warmup=0.5, children=20_000) if options.quick else Sizes()
    rounds = options.rounds or (3 if options.quick else 5)
    # A quick run that has had enough time makes do with the rounds it has.
    budget = 130 if options.quick and not options.rounds else float("inf")
    values, failed, start = {}, {}, time.monotonic()
    for number in range(1, rounds + 1):
        if number > 1 and (time.monotonic() - start) * number / (number - 1) > budget:
            break
        programs.warn("round %d of %d" % (number, rounds))
        round_ = Round(broker, sizes, tell)
        # Every other round the other way round, so that neither side always has the warmer machine.
        for target in targets if number % 2 else reversed(targets):
            try:
                sides = [target.subject, target.baseline]
                found = [side(round_) for side in (sides if number % 2 else sides[::-1])]
                values.setdefault(target.name, []).append(tuple(found if number % 2 else found[::-1]))
            except programs.Failure as failure:
                failed[target.name] = str(failure)
                programs.warn("%s: %s" % (target.name, failure))
    return list(report.rows(targets, values)), failed


def show_targets(rows, failed, options):
    if options.json:
        for row in rows:
            print(row.json(), flush=True)
    else:
        print(report.text(rows))
        judged = [row for row in rows if row.holds is not None]
        print("\n%d of %d targets hold." % (sum(row.holds for row in judged), len(judged)))
    for name, why in failed.items():
        programs.warn("not measured: %s: %s" % (name, why))


def write_page(rows, options):
    peers = report.peers(rows, PEERS)
    if peers:
        report.replace_section(PAGE, "peers", peers)
    if options.only:
        programs.warn("the table of results is written by a run of all targets" + (", the one of other clients is" if peers else ""))
        return
    # The peers have a table of their own.
    rows = [row for row in rows if not row.target.name.startswith("rpc-peer-") or row.target.limit]
    facts = ["| | |", "|---|---|"] + ["| %s | %s |" % fact for fact in report.machine()]
    facts.append("| rounds | %d, medians of them |" % max(row.rounds for row in rows))
    facts.append("| date | %s |" % datetime.date.today().isoformat())
    report.replace_section(PAGE, "machine", "\n".join(facts))
    report.replace_section(PAGE, "results", report.markdown(rows))


def run(options):
    targets = chosen(options.only)
    if options.list:
        for target in targets:
            print("%-32s %s, against %s%s" % (target.name, target.what, target.against,
                                              ": " + target.bound if target.bound else ""))
        return 0

    def tell(line):
        if options.json:
            print(json.dumps(line), flush=True)
        elif "count" in line:
            print("%-28s %9d instructions, %6.2f allocations"
                  % (line["count"], line["instructions"], line["allocations"]), flush=True)
        else:
            programs.warn("  " + line["run"])

    with programs.Broker() as broker:
        if options.counts:
            found = counts.measure(broker, tell)
            if options.record:
                counts.record(found)
                return 0
            dearer, notes = counts.compare(found)
            for sentence in notes:
                programs.warn(sentence)
            for sentence in dearer:
                programs.warn("dearer: " + sentence)
            return 1 if dearer else 0
        if options.scale:
            quick = {"seconds": 0.5, "repeats": 1, "most_children": 10_000} if options.quick else {}
            if options.rounds:
                quick["repeats"] = options.rounds
            scale.measure(broker, tell, scale.draw if options.record else lambda data: None, **quick)
            return 0
        rows, failed = measure_targets(targets, broker, options, tell)
        show_targets(rows, failed, options)
        if options.record:
            write_page(rows, options)
        return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(run(parse()))
    except programs.Failure as failure:
        programs.warn("error: %s" % failure)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
