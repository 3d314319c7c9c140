"""The commit that this was run from."""

import subprocess


def git_commit() -> str:
    """The commit of the working directory, with `+` when files differ from it; empty outside a git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]  # fixed arguments; git from the person's own PATH
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
