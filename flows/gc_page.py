"""What `slimline gc` shows at a terminal: a row for each kind of thing that may go, how many, how large, and why."""

from rich.console import Console

from flows.gc import Collected, Unneeded
from flows.screen import copyable, say, tabulate

# Of runs in MLflow the name is shown too; of these there are many, and their names say nothing.
KINDS = {
    "flow run": "flow runs in Prefect",
    "result": "results that Prefect kept for retries",
    "answers": "teachers' answers",
    "checkpoint": "checkpoints",
    "stray": "folders of no run",
}


def gc_page(console: Console, found: Collected) -> None:
    """The table, what it comes to, and what to type."""
    shown = [each for each in found.unneeded if each.removed or not found.deleted]
    groups: dict[str, list[Unneeded]] = {}
    for each in shown:
        groups.setdefault(KINDS.get(each.kind) or f"{each.kind} {each.name}", []).append(each)
    rows = [
        {
            "what": what,
            "number": f"{len(group):,}",
            "MB": f"{sum(each.bytes for each in group) / 1e6:,.2f}",
            "why": ("" if len(group) == 1 else "the newest: ") + max(group, key=lambda each: each.last).why,
        }
        for what, group in groups.items()
    ]
    if rows:
        tabulate(console, rows, ("what",), right=("number", "MB"))
    limit, needs = f"the last {found.keep_days:g} days", "needed" if found.deleted else "needs"
    say(
        console,
        f"No registered version of {found.store} {needs} these, no alias, promotion or rollback, and no run that is at "
        f"work or of {limit}. A compression counts with all its stages, and a stage that goes runs once more when its "
        "recipe does."
        if rows
        else f"Nothing in {found.store} is without need: a registered version, an alias, a promotion or a run that is "
        f"at work or of {limit} needs all of it.",
        hang=0,
    )
    for note in found.notes:
        say(console, note, hang=0)
    console.print()
    say(
        console,
        f"{found.bytes / 1e6:,.2f} MB {'were removed' if found.deleted else 'may go'}; {found.kept:,} runs stay",
    )
    spared = len(found.unneeded) - len(shown)
    if spared:
        say(console, f"{spared:,} were left, as somebody has taken them up meanwhile")
    if rows and not found.deleted:
        say(console, "Nothing was removed. To remove it, type:")
        copyable(console, "slimline gc --delete")
