"""The table of a campaign."""

import statistics
from collections import Counter
from typing import Any


def page(rows: list[dict[str, Any]], date: str, machine: Any) -> str:
    """In Markdown: a line for each command and kind of server, then what was broken, by name and moment."""
    lines = [
        "# `kill -9` at random moments",
        "",
        f"`python -m benchmarks.campaign`, {date}, {machine.processor}, {machine.usable_cores} usable cores, load "
        f"{machine.load_before:g} at the end. Each moment is one command, killed, then the next one, to its end. *In "
        "its work*: behind imports and what starts a server. *Alone*: its process, and not at the same moment all that "
        "it began. *Broken*: moments after which something did not hold of: databases whole and not locked, no file "
        "locked, every version whole by its manifest, aliases moved as one and told of, a bundle whole or not there, "
        "nothing made twice, nothing finished lost, no process left, no run, task or model left open behind the next "
        "command, which ends well; a promotion or a rollback within a minute, or within twice what it takes "
        "undisturbed where that is more. What is found is mended, and its moment drawn again; other moments stay.",
        "",
        "| command | server | moments | in its work | alone | and the servers | broken | next took, median | at most |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, server in dict.fromkeys((row["kind"], row["server"]) for row in rows):
        those = [row for row in rows if (row["kind"], row["server"]) == (kind, server)]
        next_took = [row["next_seconds"] for row in those]
        lines.append(
            f"| {kind} | {server} | {len(those)} | {sum(row['in_work'] for row in those)} | "
            f"{sum(row['how'] == 'alone' for row in those)} | {sum('servers' in row['how'] for row in those)} | "
            f"{sum(bool(row['broken']) for row in those)} | "
            f"{statistics.median(next_took):.1f} s | {max(next_took):.1f} s |"
        )
    lines += ["", "## Broken", ""]
    lines += [
        f"- {row['kind']} {row['number']} ({row['server']}), killed {row['how']} {row['after_seconds']:.2f} s after "
        f"`{row['where']}`: {'; '.join(row['broken'])}"
        for row in rows
        if row["broken"]
    ] or ["Nothing."]
    lines += ["", "## Where", "", "What each had said last when it was killed.", ""]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        said = Counter(row["where"] for row in rows if row["kind"] == kind)
        lines.append(f"- {kind}: {', '.join(f'{words} ({count})' for words, count in said.most_common())}")
    return "\n".join(lines) + "\n"
