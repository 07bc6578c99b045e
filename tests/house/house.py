"""What the checks share: the files of the tree, C text without comments, planted faults, the closing report.

Standard library only. Must not: know any rule.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SKIPPED = 77  # the exit status that means skipped; the last line printed is the reason

COMMENT_OR_LITERAL = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""",
    re.S,
)
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*([<\"][^>\"\n]*[>\"])", re.M)


def files(root, *suffixes):
    """Files of the tree as paths relative to it, without what git ignores; without git, all but build directories."""
    try:
        output = subprocess.check_output(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, stderr=subprocess.DEVNULL
        )
        names = sorted(set(output.decode("utf-8").split("\0")) - {""})
    except (OSError, subprocess.CalledProcessError):
        names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if not str(path.relative_to(root)).startswith("build"))
    return [name for name in names if (root / name).is_file() and (not suffixes or name.endswith(suffixes))]


def read(root, name):
    return (root / name).read_text(encoding="utf-8", errors="replace")


def code_only(text):
    """C text with comments and literals blanked, line numbers kept; include lines keep their names."""

    def blank(match):
        piece = match.group(0)
        if piece.startswith("/"):
            return re.sub(r"[^\n]", " ", piece)
        return piece[0] + " " * (len(piece) - 2) + piece[-1]

    kept = {match.start(1) for match in INCLUDE.finditer(text)}
    return COMMENT_OR_LITERAL.sub(lambda match: match.group(0) if match.start() in kept else blank(match), text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def table(path):
    """Rows of a text table: cells between '|', '#' comments and empty lines left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.split("#", 1)[0].strip()
        if line:
            rows.append([cell.strip() for cell in line.split("|")])
    return rows


def planted(contents):
    """A temporary tree {path: text}; the caller keeps the object as long as it needs it."""
    directory = tempfile.TemporaryDirectory(prefix="house-")
    for name, text in contents.items():
        path = pathlib.Path(directory.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory


def expect(check, contents, *words):
    """Proves that `check` finds exactly len(words) faults in a planted tree, the n-th containing words[n]."""
    with planted(contents) as directory:
        found = check(pathlib.Path(directory))
    if len(found) != len(words) or not all(word in fault for word, fault in zip(words, found)):
        print(f"the check itself is wrong: planted {sorted(contents)}, expected {list(words)}, found {found}")
        sys.exit(1)


def report(found, what):
    """Prints the faults and ends the process."""
    for fault in found:
        print(fault)
    print(f"{what}: {len(found)} faults" if found else f"{what}: clean")
    sys.exit(1 if found else 0)


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)
