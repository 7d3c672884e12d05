"""The domains that problems belong to: what the rows of each look like, and which sources have them.

A domain has one row on every floor that needs to know something of it, each in a file of this name: here its rows,
in `aflow_ops/domains.py` what the policy's prompt says of it, in `rewards/domains.py` how answers are graded.
"""

from dataclasses import dataclass

Domain = str


@dataclass(frozen=True)
class DomainRow:
    """What the rows of a domain look like.

    Args:
        name (`str`): as in a row's `domain`.
        sources (`tuple[str, ...]`): names, in lower case, that put a row here when it names no domain of its own;
            benchmarks say theirs in `data/benchmarks/hub.yaml`.
        has_tests (`bool`): answers are programs: a row needs hidden tests, and its gold answer is one solution of many.
    """

    name: Domain
    sources: tuple[str, ...] = ()
    has_tests: bool = False


# In the order in which reports list them.
DOMAINS: dict[Domain, DomainRow] = {
    row.name: row
    for row in (
        DomainRow("math", sources=("aime", "arithmetic", "gsm_symbolic", "read_numbers", "word_problems")),
        DomainRow("code", sources=("small_functions", "plain_functions"), has_tests=True),
        DomainRow("qa", sources=("calculations", "invented_facts", "invented_worlds")),
        DomainRow("swe", sources=("planted_bugs",)),
    )
}


def add_domain_row(row: DomainRow) -> None:
    """Make a domain known to this process.

    Raises:
        ValueError: there is another one of this name.
    """
    if DOMAINS.setdefault(row.name, row) != row:
        raise ValueError(f"there is a domain {row.name!r} already")


def domain_row(name: str) -> DomainRow:
    """Return a domain's row.

    Raises:
        ValueError: an unknown domain; lists those there are.
    """
    if name not in DOMAINS:
        raise ValueError(f"domain must be one of {', '.join(DOMAINS)}, not {name!r}")
    return DOMAINS[name]


def default_domain(*, has_entry_point: bool) -> Domain:
    """Return the domain of a question that names none: the first whose answers are programs if it asks for a function,
    else the first whose answers are not."""
    return next(row.name for row in DOMAINS.values() if row.has_tests == has_entry_point)
