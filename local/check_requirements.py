"""Whether this Python satisfies requirement files, without importing what they name. Prints the first that is unmet.

Runs under any Python that somebody may have active, so it uses the standard library and what pip brings along.
"""

import re
import sys
from importlib import metadata


def unmet(path: str) -> str:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        from pip._vendor.packaging.requirements import Requirement
    with open(path, encoding="utf-8") as stream:
        lines = [re.sub(r"\s*#.*", "", line).strip() for line in stream]
    for line in filter(None, lines):
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            return f"{requirement.name} is not installed"
        if not requirement.specifier.contains(version, prereleases=True):
            return f"{requirement.name} {version} is installed, {requirement.specifier} is needed"
    return ""


if __name__ == "__main__":
    try:
        problem = next(filter(None, map(unmet, sys.argv[1:])), "")
    except ImportError:
        problem = "neither packaging nor pip is there to ask"
    sys.exit(problem or 0)
