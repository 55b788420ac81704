"""Tables of what was measured: for a terminal, for Markdown, for machines."""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from typing import Optional


@dataclass
class Row:
    target: object
    subject: float
    baseline: float
    # The median of the rounds' ratios, and the least and the greatest of them.
    ratio: float
    least: float
    greatest: float
    rounds: int

    @property
    def holds(self) -> Optional[bool]:
        return self.target.holds(self.ratio)

    def json(self):
        return json.dumps({
            "target": self.target.name, "ratio": round(self.ratio, 4), "limit": self.target.limit,
            "holds": self.holds, "bound": "at least" if self.target.at_least else "at most",
            "subject": self.subject, "baseline": self.baseline, "unit": self.target.unit,
            "spread": [round(self.least, 4), round(self.greatest, 4)], "rounds": self.rounds,
        })


def rows(targets, values):
    """`values` has for each target's name the pairs (subject, baseline), one of each round."""
    for target in targets:
        pairs = [pair for pair in values.get(target.name, []) if pair[1]]
        if not pairs:
            continue
        ratios = [subject / baseline for subject, baseline in pairs]
        yield Row(
            target, statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs),
            statistics.median(ratios), min(ratios), max(ratios), len(pairs),
        )


def number(value, unit):
    if unit == "1/s" or value >= 10_000:
        return "{:,.0f}".format(value)
    if value >= 100:
        return "%.0f" % value
    return "%.1f" % value if value >= 10 else "%.2f" % value


def cells(row):
    verdict = {True: "holds", False: "DOES NOT HOLD", None: ""}[row.holds]
    unit = row.target.unit
    return [
        row.target.what, row.target.against, number(row.subject, unit) + " " + unit,
        number(row.baseline, unit) + " " + unit, "%.2f" % row.ratio, "%.2f-%.2f" % (row.least, row.greatest),
        row.target.bound, verdict,
    ]


HEADINGS = ["what", "against", "ours", "theirs", "ratio", "spread", "target", ""]


def text(all_rows):
    lines = [HEADINGS] + [cells(row) for row in all_rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([shown[0], "-" * len(shown[0]), *shown[1:]])


def markdown(all_rows):
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    for row in all_rows:
        shown = cells(row)
        shown[-1] = shown[-1].replace("DOES NOT HOLD", "**does not hold**")
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def peers(all_rows, names):
    """A row for each client; None unless all of them were measured. `names` by peer."""
    found = {row.target.name: row for row in all_rows}
    columns = ["cpu", "rate", "p99", "echo-cpu"]
    measured = {peer: [found.get("rpc-peer-%s-%s" % (column, peer)) for column in columns] for peer in names}
    if not all(all(rows) for rows in measured.values()):
        return None

    def shown(row, value):
        return number(value, row.target.unit) + " " + row.target.unit

    lines = ["| client | CPU a call | ours to it | calls/s | p99 | bare echo: CPU a call | ours (plain) to it |", "|" + "---|" * 7]
    cpu, rate, p99, echo = next(iter(measured.values()))
    lines.append("| " + " | ".join(["**ours**", shown(cpu, cpu.subject), "", shown(rate, rate.subject), shown(p99, p99.subject),
                                    shown(echo, echo.subject), ""]) + " |")
    for peer, (cpu, rate, p99, echo) in measured.items():
        lines.append("| " + " | ".join([
            names[peer], shown(cpu, cpu.baseline), "%.2f (%.2f-%.2f)" % (cpu.ratio, cpu.least, cpu.greatest),
            shown(rate, rate.baseline), shown(p99, p99.baseline), shown(echo, echo.baseline),
            "%.2f (%.2f-%.2f)" % (echo.ratio, echo.least, echo.greatest)]) + " |")
    return "\n".join(lines)


# --- Where it was measured -----------------------------------------------------------------------------------------


def first(arguments, pattern=r"(.*)"):
    """The first match in what a command says."""
    if not shutil.which(arguments[0]):
        return None
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = re.search(pattern, done.stdout)
    return found.group(1).strip() if found else None


def package(name):
    return first(["dpkg-query", "-W", "-f", "${Version}", name])


def machine():
    model = None
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            found = re.search(r"model name\s*:\s*(.*)", file.read())
            model = found.group(1) if found else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    otp = first(["erl", "-noshell", "-eval", 'io:format("~s", [erlang:system_info(otp_release)]), halt().'])
    facts = [
        ("processor", "%s, %d cores" % (model or platform.machine(), os.cpu_count())),
        ("memory", "%.0f GiB" % memory),
        ("system", "%s %s" % (platform.system(), ".".join(platform.release().split(".")[:2]))),
        ("Swift", first(["swift", "--version"], r"Swift version (\S+)")),
        ("RabbitMQ", package("rabbitmq-server")),
        ("Erlang/OTP", otp),
        ("Elixir", first(["elixir", "--version"], r"Elixir (\S+)")),
        ("librabbitmq", first(["pkg-config", "--modversion", "librabbitmq"])),
    ]
    return [(name, value) for name, value in facts if value]


def replace_section(path, name, content):
    """Replaces what stands between `<!-- name -->` and `<!-- end of name -->` in a file."""
    with open(path) as file:
        page = file.read()
    begin, end = "<!-- %s -->" % name, "<!-- end of %s -->" % name
    if begin not in page or end not in page:
        raise ValueError("%s has no section %s" % (path, name))
    head, rest = page.split(begin, 1)
    tail = rest.split(end, 1)[1]
    with open(path, "w") as file:
        file.write(head + begin + "\n\n" + content.strip() + "\n\n" + end + tail)
