"""Quantiles in SQL from counts per bin: they need no more memory than there are bins, and parts of them add up."""

QUANTILES = (5, 25, 50, 75, 95)
"""Percent."""


def quantile_columns(name: str, bins: str, count: str, per_unit: int) -> str:
    """SELECT columns `<name>_q05` and so on, interpolated within the bin that holds the quantile.

    Args:
        name: of the quantity.
        bins: column of bin numbers: the quantity times `per_unit`, rounded down; null: unknown, in no quantile.
        count: column of counts per bin. Beside it must be `upto`, its running sum in the order of the bins, and
            `total`, its sum over the known bins.
        per_unit: bins per unit.
    """
    return ",\n    ".join(
        f"arg_min(({bins} + ({q / 100} * total - upto + {count}) / {count}) / {per_unit}, {bins}) "
        f"FILTER (upto >= {q / 100} * total AND {bins} IS NOT NULL) AS {name}_q{q:02d}"
        for q in QUANTILES
    )
