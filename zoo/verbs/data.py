"""`zoo data list|fetch|verify`: the public data sets."""

import os
import sys

from zoo.data import public
from zoo.data.files import data_folder
from zoo.options import Options


def main(argv: list[str]) -> int:
    parser = Options(prog="zoo data", description="Public data sets.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|fetch|verify")
    verbs.add_parser("list", help="what is registered: size, licence, citation")
    for verb, text in (("fetch", "bring sets into the cache, verified"), ("verify", "check what the cache holds")):
        sub = verbs.add_parser(verb, help=text)
        sub.add_argument("name", nargs="*" if verb == "verify" else "+", help="a set; 'all' for every one")
    given = parser.parse_args(argv)
    if given.verb == "list":
        return _list()
    names = list(public.REGISTER) if not given.name or "all" in given.name else given.name
    return _fetch(names) if given.verb == "fetch" else _verify(names)


def _list() -> int:
    for public_set in public.REGISTER.values():
        size = sum(file.size for file in public_set.files) / 1e6
        held = set(public.verify(public_set.name).values())
        state = "cached" if held == {"ok"} else "not cached" if held == {"missing"} else "partly cached"
        repacked = public_set.base is None
        print(f"{public_set.name}{'*' if repacked else ''}: {public_set.what}")
        print(f"    {len(public_set.files)} files, {size:.1f} MB, {state}; {public_set.licence}")
        print(f"    cite {public_set.citation}")
        if repacked:
            print(f"    {public_set.place}")
    print(f"* {public.MIRROR_ONLY}: it needs ZOO_MIRROR")
    print(
        f"cache: {data_folder()} (ZOO_DATA); mirror: {os.environ.get('ZOO_MIRROR', 'none')} (ZOO_MIRROR)",
        file=sys.stderr,
    )
    return 0


def _fetch(names: list[str]) -> int:
    for name in names:
        public.find(name)  # a mistyped name is said before anything is fetched
    for name in names:
        print(public.fetch(name))
    return 0


def _verify(names: list[str]) -> int:
    wrong = False
    for name in names:
        for file, state in public.verify(name).items():
            print(f"{state:<15} {name}/{file}")
            wrong = wrong or state == "wrong checksum"
    return int(wrong)
