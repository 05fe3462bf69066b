"""Tables of :class:`vidreason.teacher.review_agreement.AgreementReport`."""

from typing import Any

from vidreason.evaluation.tables import Field, Table, record_table
from vidreason.teacher.review_agreement import AgreementReport
from vidreason.teacher.reviews import DECISIONS

# Key, title, factor and decimals; without the last two, a share in percent.
_GROUPS = (
    Field("num_rows", "rows"),
    Field("exact", "equal, %"),
    Field("alpha", "alpha", 1.0, 2),
    Field("keep_exact", "equal on keep or reject, %"),
    Field("keep_alpha", "alpha on keep or reject", 1.0, 2),
)
_PAIRS = (
    Field("num_rows", "rows"),
    Field("exact", "equal, %"),
    Field("kappa", "kappa", 1.0, 2),
    Field("keep_kappa", "kappa on keep or reject", 1.0, 2),
)
_ACCEPTED = (
    Field("num_rows", "reviewed"),
    Field("num_in_set", "in the set"),
    Field("precision", "accepted as they are, %"),
    Field("kept", "accepted or edited, %"),
)
_REJECTED = (
    Field("num_rows", "reviewed"),
    Field("num_in_set", "rejected"),
    Field("rejected", "rejected by reviewers, too, %"),
)


def report_tables(report: AgreementReport) -> list[Table]:
    """Return the tables that have rows."""
    counts: dict[str, dict[str, Any]] = {
        name: {one: of_reviewer.get(one, 0) for one in DECISIONS}
        for name, of_reviewer in report.reviewers.items()
    }
    tables = [record_table("decisions", "reviewer", counts, [Field(one, one) for one in DECISIONS])]
    for title, header, records, fields in (
        (
            "agreement of reviewers (Krippendorff's alpha), 95% intervals over videos",
            *("rows", report.groups, _GROUPS),
        ),
        (
            "agreement of two reviewers (Cohen's kappa), 95% intervals over videos",
            *("reviewers", report.pairs, _PAIRS),
        ),
        (
            "answers that the gate accepted, by reviewers' decision, Wilson's 95% intervals over "
            "videos; (all): sources weigh as in the set",
            *("source", report.accepted, _ACCEPTED),
        ),
        (
            "answers that the gate rejected, by reviewers' decision, Wilson's 95% intervals over "
            "videos; (all): causes weigh as in the set",
            *("cause", report.rejected, _REJECTED),
        ),
    ):
        if records:
            tables.append(record_table(title, header, records, fields))
    tables += [
        Table(
            f"rows by decision of {name.partition(' and ')[0]} (down) and of the other (across): "
            f"{name}",
            ("decision", *DECISIONS),
            tuple(
                (first, *(str(pair["confusion"][first][second]) for second in DECISIONS))
                for first in DECISIONS
            ),
        )
        for name, pair in report.pairs.items()
    ]
    return tables
