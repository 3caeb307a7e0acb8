"""`python -m docs.site`, as `make docs` calls it."""

import argparse
import sys
from pathlib import Path

from docs.site.build import build


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.site", description="Build the documentation site.")
    parser.add_argument(
        "--out", type=Path, default=Path("build/site"), help="folder that is made anew (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="do not run the notebooks")
    options = parser.parse_args()
    try:
        html = build(Path(__file__).parents[2], options.out.resolve(), execute=not options.quick)
    except ValueError as error:
        sys.exit(f"the site is not right:\n{error}")
    print(f"open {html}/index.html, or with search: {sys.executable} -m http.server --directory {html}")


if __name__ == "__main__":
    main()
